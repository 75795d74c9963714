"""Seen message ids against a plain dict: random times, restarts, both stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.errors import StateError
from state.bloom import Bloom, Probe, words_log2_for
from state.entries import decode_entries, decode_many, encode_entries, find_entry
from state.memory import MemoryStore
from state.rocks import RocksStore, shared_memory
from state.seen import Seen
from state.store import Store

MEMORY = shared_memory(8 << 20, 16 << 20)
PERIOD_MS = 80_000


@pytest.fixture(params=["memory", "rocks"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    kept = MemoryStore()
    if request.param == "memory":
        return lambda: kept
    return lambda: RocksStore(tmp_path / "shard", MEMORY)


def hashes_of(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


def add(store: Store, seen: Seen, hashes: np.ndarray, used_ms: np.ndarray | int) -> None:
    batch = store.batch()
    seen.add(batch, hashes, np.broadcast_to(np.asarray(used_ms, np.int64), hashes.shape).copy())
    seen.make_room(batch)
    store.write(batch)


def forget(store: Store, seen: Seen, now_ms: int) -> None:
    batch = store.batch()
    seen.forget(batch, now_ms)
    store.write(batch)


def test_long_random_history_with_restarts(opened: Callable[[], Store]) -> None:
    """Shard's time goes on unevenly, one profile's clock is years ahead, ids come again, and the shard restarts."""
    random = np.random.default_rng(20)
    store = opened()
    seen = Seen(store, PERIOD_MS, recent_ids=700)
    model: dict[int, int] = {}
    now, duplicates = 1_700_000_000_000, 0
    for step in range(400):
        now += int(random.choice([0, 1, 50, 400, 3_000]))
        if step % 97 == 50:
            now += PERIOD_MS // 3
        if step % 23 == 22:
            store.close()
            del store, seen
            store = opened()
            seen = Seen(store, PERIOD_MS, recent_ids=700)
        fresh = random.integers(0, 2**64, int(random.choice([0, 3, 40, 200])), np.uint64)
        old = random.choice(np.fromiter(model, np.uint64, len(model)), min(len(model), 30), replace=False)
        asked = np.concatenate([fresh, old.astype(np.uint64)])
        used = seen.recall(asked)
        for one, found in zip(asked.tolist(), used.tolist(), strict=True):
            expected = model.get(one, -1)
            assert found == expected or (found == -1 and expected + PERIOD_MS <= now)
        duplicates += int((used >= 0).sum())
        add_now = now + random.integers(0, 2_000, len(asked))
        add_now[random.random(len(asked)) < 0.01] += 10**12
        kept = (used < 0) | (add_now - used >= PERIOD_MS)
        kept &= np.isin(np.arange(len(asked)), np.unique(asked, return_index=True)[1])
        add(store, seen, asked[kept], add_now[kept])
        model.update(zip(asked[kept].tolist(), add_now[kept].tolist(), strict=True))
        forget(store, seen, now)
    assert duplicates > 1_000
    everything = np.fromiter(model, np.uint64, len(model))
    found = dict(zip(everything.tolist(), seen.recall(everything).tolist(), strict=True))
    assert all(found[one] == at for one, at in model.items() if at + PERIOD_MS > now)
    store.close()


ADDS = st.tuples(
    st.just("add"),
    st.lists(st.tuples(st.integers(0, 40) | st.integers(0, 2**64 - 1), st.integers(0, 2**45)), max_size=12),
)
STEPS = st.lists(
    ADDS | st.tuples(st.just("forget"), st.integers(0, 2**45)) | st.tuples(st.just("restart"), st.none()), max_size=25
)


@given(steps=STEPS, recent_ids=st.integers(1, 20), period_ms=st.sampled_from([1, 1_000, 2**44]))
def test_any_history_recalls_like_a_dict(steps: list[tuple[str, object]], recent_ids: int, period_ms: int) -> None:
    """Also with hashes that are no hashes: all in one part, all in one word."""
    store = MemoryStore()
    seen = Seen(store, period_ms, recent_ids)
    model: dict[int, int] = {}
    allowed = -1
    for kind, argument in steps:
        if kind == "add":
            assert isinstance(argument, list)
            pairs = dict(argument)
            add(store, seen, hashes_of(*pairs), np.array(list(pairs.values()), np.int64))
            model.update(pairs)
        elif kind == "forget":
            assert isinstance(argument, int)
            forget(store, seen, argument)
            allowed = max(allowed, argument)
        else:
            seen = Seen(store, period_ms, recent_ids)
        for one, found in zip(model, seen.recall(hashes_of(*model)).tolist(), strict=True):
            assert found == model[one] or model[one] + period_ms <= allowed
    assert seen.recall(hashes_of(2**63 + 12345)).tolist() in ([-1], [model.get(2**63 + 12345)])


def test_a_used_id_is_there_only_with_its_batch(opened: Callable[[], Store]) -> None:
    store = opened()
    seen = Seen(store, PERIOD_MS)
    add(store, seen, hashes_of(1, 2), 5)
    seen.add(store.batch(), hashes_of(3), np.array([6], np.int64))
    store.close()
    del store, seen
    store = opened()
    assert Seen(store, PERIOD_MS).recall(hashes_of(1, 2, 3)).tolist() == [5, 5, -1]
    store.close()


def test_a_clock_far_ahead_takes_nothing_from_others() -> None:
    store = MemoryStore()
    seen = Seen(store, PERIOD_MS, recent_ids=8)
    for step in range(50):
        add(store, seen, hashes_of(step << 40), 10**15 if step == 10 else step)
        forget(store, seen, step)
    assert seen.recall(hashes_of(*(step << 40 for step in range(50)))).tolist() == [
        10**15 if step == 10 else step for step in range(50)
    ]


def test_generations_go_when_the_period_is_over_and_the_family_is_empty_then(opened: Callable[[], Store]) -> None:
    store = opened()
    seen = Seen(store, PERIOD_MS, recent_ids=64)
    random = np.random.default_rng(3)
    most = 0
    for now in range(0, 10 * PERIOD_MS, PERIOD_MS // 100):
        add(store, seen, random.integers(0, 2**64, 5, np.uint64), now)
        forget(store, seen, now)
        most = max(most, seen.ids)
    # An eighth more than the period, and the generation that is open.
    assert most <= 5 * 100 * 1.3
    forget(store, seen, 12 * PERIOD_MS)
    assert (seen.ids, seen.memory_bytes, list(store.scan("seen"))) == (0, 0, [])
    store.close()


def test_generations_grow_with_the_ids_and_shrink_to_them() -> None:
    store = MemoryStore()
    seen = Seen(store, PERIOD_MS)
    random = np.random.default_rng(4)
    for _ in range(300):
        add(store, seen, random.integers(0, 2**64, 2_000, np.uint64), 1)
    assert seen.ids == 600_000
    assert seen.memory_bytes < 10 * 600_000
    few = Seen(MemoryStore(), PERIOD_MS)
    store = MemoryStore()
    few = Seen(store, PERIOD_MS)
    for now in range(0, PERIOD_MS, PERIOD_MS // 16):
        add(store, few, random.integers(0, 2**64, 50, np.uint64), now)
        forget(store, few, now)
    assert few.memory_bytes < 300_000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"\x00", b""),
        (b"\x00\x00\x00\x00\x09", b"short"),
        (b"\x00\x00\x00\x00\x09", b"\x02\x05" + b"\x00" * 24),
        (b"\x00\x00\x00\x00\x09", b"\x00\x63" + b"\x00" * 24),
        (b"\x00\x00\x00\x00\x00", b"\x00\x05" + b"\x00" * 24),
        (b"\x01\x00\x00\x00\x09\x00\x00\x00\x00", b""),
        (b"\x02\x00\x00\x00\x09\x00\x00\x00\x00", b""),
        (b"\x03", b""),
    ],
)
def test_foreign_bytes_are_damage(key: bytes, value: bytes) -> None:
    store = MemoryStore()
    seen = Seen(store, PERIOD_MS, recent_ids=1)
    add(store, seen, hashes_of(1), 1)
    batch = store.batch()
    batch.put(key, value, store.family("seen"))
    store.write(batch)
    with pytest.raises(StateError, match="damaged"):
        Seen(store, PERIOD_MS)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1))))
def test_entries_round_trip(pairs: list[tuple[int, int]]) -> None:
    hashes, used = decode_entries(
        encode_entries(np.array([h for h, _ in pairs], np.uint64), np.array([u for _, u in pairs], np.int64))
    )
    assert list(zip(hashes.tolist(), used.tolist(), strict=True)) == pairs


@given(st.lists(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1))), min_size=1))
def test_many_values_are_as_each_of_them(values: list[list[tuple[int, int]]]) -> None:
    made = [
        encode_entries(np.array([h for h, _ in pairs], np.uint64), np.array([u for _, u in pairs], np.int64))
        for pairs in values
    ]
    hashes, used = decode_many(made)
    assert list(zip(hashes.tolist(), used.tolist(), strict=True)) == [pair for pairs in values for pair in pairs]


@given(st.dictionaries(st.integers(0, 2**64 - 1), st.integers(0, 2**63 - 1)), st.integers(0, 2**64 - 1))
def test_one_entry_is_found_as_in_a_dict(pairs: dict[int, int], other: int) -> None:
    ordered = sorted(pairs)
    value = encode_entries(hashes_of(*ordered), np.array([pairs[one] for one in ordered], np.int64))
    for one in [*ordered, other]:
        assert find_entry(value, np.uint64(one)) == pairs.get(one, -1)


@given(st.binary(max_size=80))
def test_any_bytes_are_entries_or_an_error(value: bytes) -> None:
    try:
        hashes, used = decode_entries(value)
    except StateError:
        with pytest.raises(StateError):
            find_entry(value, np.uint64(1))
        return
    find_entry(value, np.uint64(1))
    assert len(hashes) == len(used)


def test_the_filter_keeps_its_promise() -> None:
    random = np.random.default_rng(5)
    bloom = Bloom(14)
    inside = random.integers(0, 2**64, bloom.capacity, np.uint64)
    bloom.add(Probe(inside))
    assert len(bloom.positives(Probe(inside))) == len(inside)
    outside = random.integers(0, 2**64, 400_000, np.uint64)
    assert len(bloom.positives(Probe(outside))) < 0.0008 * len(outside)


@given(st.integers(0, 20_000_000), st.integers(1, 12))
def test_a_filter_has_room_for_what_it_was_sized_for(count: int, least: int) -> None:
    words_log2 = words_log2_for(count, least)
    assert words_log2 >= least
    assert (64 << words_log2) // 24 >= count


def test_ids_of_a_batch_are_found_before_it_is_written() -> None:
    """A batch adds several times; what would be too much for memory stays there until it is written."""
    store = MemoryStore()
    seen = Seen(store, PERIOD_MS, recent_ids=2)
    batch = store.batch()
    for number in range(1, 6):
        seen.add(batch, hashes_of(number), np.array([number], np.int64))
        assert seen.recall(hashes_of(*range(1, 7))).tolist() == [*range(1, number + 1), *[-1] * (6 - number)]
    seen.make_room(batch)
    store.write(batch)
    assert seen.recall(hashes_of(*range(1, 7))).tolist() == [1, 2, 3, 4, 5, -1]
