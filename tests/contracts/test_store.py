"""The contract of state.store, over every implementation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opportune.errors import StateError
from state.faults import FaultyStore
from state.memory import MemoryStore
from state.overlay import Overlay
from state.rocks import RocksStore, shared_memory
from state.store import FAMILIES, Store

ROOT = Path(__file__).resolve().parents[2]


class Room:
    """One directory, or what stands for it, that a store is opened in again and again."""

    def __init__(self, opened: Callable[[], Store]) -> None:
        self._opened = opened
        self.store = opened()

    def reopen(self) -> Store:
        self.store.close()
        del self.store
        self.store = self._opened()
        return self.store


MEMORY = shared_memory(8 << 20, 16 << 20)


@pytest.fixture(params=["memory", "rocks", "faulty", "overlay"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    kept = MemoryStore()
    over = Overlay(MemoryStore())
    kinds: dict[str, Callable[[], Store]] = {
        "memory": lambda: kept,
        "rocks": lambda: RocksStore(tmp_path / "shard", MEMORY),
        "faulty": lambda: FaultyStore(kept),
        "overlay": lambda: over,
    }
    room = Room(kinds[request.param])
    yield room
    room.store.close()


@pytest.fixture
def store(room: Room) -> Store:
    return room.store


def put(store: Store, name: str, **pairs: bytes) -> None:
    batch, family = store.batch(), store.family(name)
    for key, value in pairs.items():
        batch.put(key.encode(), value, family)
    store.write(batch)


def keys(scan: Iterator[tuple[bytes, bytes]]) -> list[bytes]:
    return [key for key, _ in scan]


def test_a_batch_reaches_all_families_at_once(store: Store) -> None:
    batch = store.batch()
    for name in FAMILIES:
        batch.put(b"key", name.encode(), store.family(name))
    assert [store.get(name, b"key") for name in FAMILIES] == [None] * len(FAMILIES)
    store.write(batch)
    assert [store.get(name, b"key") for name in FAMILIES] == [name.encode() for name in FAMILIES]


def test_the_last_of_several_changes_of_a_key_holds(store: Store) -> None:
    batch, family = store.batch(), store.family("profiles")
    batch.put(b"a", b"1", family)
    batch.delete(b"a", family)
    batch.delete(b"b", family)
    batch.put(b"b", b"1", family)
    batch.put(b"b", b"2", family)
    store.write(batch)
    assert list(store.scan("profiles")) == [(b"b", b"2")]


def test_a_missing_key_is_none_and_its_removal_no_error(store: Store) -> None:
    batch = store.batch()
    batch.delete(b"nobody", store.family("profiles"))
    store.write(batch)
    assert store.get("profiles", b"nobody") is None
    assert store.get_many("profiles", []) == []


def test_get_many_answers_in_the_order_of_the_keys(store: Store) -> None:
    put(store, "profiles", a=b"1", b=b"2")
    assert store.get_many("profiles", [b"b", b"x", b"a", b"b"]) == [b"2", None, b"1", b"2"]
    assert store.get_many("profiles", (b"a", b"x")) == [b"1", None]
    assert store.get_many("members", [b"a"]) == [None]


def test_empty_keys_and_values_are_keys_and_values(store: Store) -> None:
    batch, family = store.batch(), store.family("timers")
    batch.put(b"", b"of the empty key", family)
    batch.put(b"empty", b"", family)
    store.write(batch)
    assert store.get("timers", b"") == b"of the empty key"
    assert store.get("timers", b"empty") == b""
    assert store.get_many("timers", [b"empty", b""]) == [b"", b"of the empty key"]
    assert list(store.scan("timers")) == [(b"", b"of the empty key"), (b"empty", b"")]


def test_big_values_come_back_whole(room: Room) -> None:
    big = os.urandom(5 << 20)
    put(room.store, "profiles", big=big)
    assert room.store.get("profiles", b"big") == big
    assert room.reopen().get("profiles", b"big") == big


def test_a_scan_is_in_order_of_bytes_and_its_end_is_outside(store: Store) -> None:
    names = [b"", b"\x00", b"a", b"a\x00", b"ab", b"b", b"\x7f", b"\x80", b"\xff", b"\xff\xff"]
    batch, family = store.batch(), store.family("members")
    for name in reversed(names):
        batch.put(name, b"", family)
    store.write(batch)
    assert keys(store.scan("members")) == sorted(names)
    assert keys(store.scan("members", b"a", b"b")) == [b"a", b"a\x00", b"ab"]
    assert keys(store.scan("members", b"a\x00")) == [name for name in sorted(names) if name >= b"a\x00"]
    assert keys(store.scan("members", end=b"a")) == [b"", b"\x00"]
    assert keys(store.scan("members", b"b", b"a")) == []
    assert keys(store.scan("members", b"a", b"a")) == []
    assert keys(store.scan("members", b"a", b"")) == []


def test_a_scan_sees_the_family_as_it_was_at_the_call(store: Store) -> None:
    put(store, "timers", a=b"1", c=b"1", e=b"1")
    begun, untouched = store.scan("timers"), store.scan("timers", b"b")
    assert next(begun) == (b"a", b"1")
    batch, family = store.batch(), store.family("timers")
    batch.put(b"b", b"2", family)
    batch.put(b"c", b"2", family)
    batch.delete(b"e", family)
    store.write(batch)
    assert list(begun) == [(b"c", b"1"), (b"e", b"1")]
    assert list(untouched) == [(b"c", b"1"), (b"e", b"1")]
    assert list(store.scan("timers")) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"2")]


def test_what_a_scan_shows_may_be_removed_while_it_runs(store: Store) -> None:
    put(store, "timers", a=b"", b=b"", c=b"")
    family = store.family("timers")
    for key, _ in store.scan("timers"):
        batch = store.batch()
        batch.delete(key, family)
        store.write(batch)
    assert list(store.scan("timers")) == []


def test_a_range_is_removed_without_its_end(store: Store) -> None:
    put(store, "seen", a=b"", b=b"", c=b"", d=b"")
    put(store, "outbox", b=b"")
    batch, family = store.batch(), store.family("seen")
    batch.put(b"bb", b"in this batch too", family)
    batch.delete_range(b"b", b"d", family)
    batch.put(b"c", b"put afterwards", family)
    batch.delete_range(b"d", b"d", family)
    store.write(batch)
    assert list(store.scan("seen")) == [(b"a", b""), (b"c", b"put afterwards"), (b"d", b"")]
    assert store.get("outbox", b"b") == b""


def test_a_batch_is_consumed_by_its_write(store: Store) -> None:
    batch, family = store.batch(), store.family("profiles")
    batch.put(b"a", b"1", family)
    store.write(batch)
    with pytest.raises(AssertionError):
        store.write(batch)
    put(store, "profiles", b=b"1")
    assert keys(store.scan("profiles")) == [b"a", b"b"]


def test_an_unwritten_batch_changes_nothing(room: Room) -> None:
    batch = room.store.batch()
    batch.put(b"a", b"1", room.store.family("profiles"))
    del batch
    assert room.store.get("profiles", b"a") is None
    assert room.reopen().get("profiles", b"a") is None


def test_what_was_written_is_there_after_opening_again(room: Room) -> None:
    put(room.store, "profiles", a=b"1")
    room.store.sync()
    put(room.store, "meta", b=b"2")
    store = room.reopen()
    assert (store.get("profiles", b"a"), store.get("meta", b"b")) == (b"1", b"2")
    put(store, "profiles", c=b"3")
    assert keys(room.reopen().scan("profiles")) == [b"a", b"c"]


KEYS = st.binary(max_size=3)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=3)),
        st.tuples(st.just("delete"), KEYS, st.just(b"")),
        st.tuples(st.just("range"), KEYS, KEYS),
    ),
    max_size=6,
)
STEPS = st.lists(st.one_of(CHANGES, st.tuples(KEYS, st.none() | KEYS)), max_size=12)


# One store serves all examples, and each range removed from RocksDB slows the next: beyond some hundreds that is all it does.
@settings(max_examples=min(300, settings().max_examples), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_history_reads_like_a_sorted_dict(store: Store, steps: list[Any]) -> None:
    family = store.family("timers")
    clean = store.batch()
    for key, _ in store.scan("timers"):
        clean.delete(key, family)
    store.write(clean)
    model: dict[bytes, bytes] = {}
    running: list[tuple[Iterator[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]] = []
    for step in steps:
        if isinstance(step, tuple):
            start, end = step
            expected = sorted((k, v) for k, v in model.items() if k >= start and (end is None or k < end))
            running.append((store.scan("timers", start, end), expected))
            continue
        batch = store.batch()
        for kind, key, value in step:
            if kind == "put":
                batch.put(key, value, family)
                model[key] = value
            elif kind == "delete":
                batch.delete(key, family)
                model.pop(key, None)
            else:
                begin, end = sorted((key, value))
                batch.delete_range(begin, end, family)
                model = {k: v for k, v in model.items() if not begin <= k < end}
        store.write(batch)
        assert store.get_many("timers", list(model)) == list(model.values())
    for scan, expected in running:
        assert list(scan) == expected
    assert list(store.scan("timers")) == sorted(model.items())


WRITER = """
import sys
from pathlib import Path
from state.rocks import RocksStore, shared_memory

store = RocksStore(Path(sys.argv[1]), shared_memory(8 << 20, 1 << 20))
families = [store.family(name) for name in ("profiles", "timers", "outbox", "meta")]
first = int(store.get("meta", b"at") or b"0") + 1
for number in range(first, 1 << 40):
    batch = store.batch()
    for family in families[:3]:
        for part in range(5):
            batch.put(b"%d.%d" % (part, number % 997), b"%d" % number * 50, family)
    batch.put(b"at", b"%d" % number, families[3])
    store.write(batch)
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_a_kill_leaves_every_acknowledged_batch_whole_and_no_other_in_part(tmp_path: Path) -> None:
    directory = tmp_path / "shard"
    last = 0
    for written in (1, 30, 200, 400, 3_000):
        last += written
        # The environment names this tree: the child imports what this process imports.
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", WRITER, str(directory)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
            assert child.stdout is not None
            acknowledged = 0
            for line in child.stdout:
                acknowledged = int(line)
                if acknowledged >= last:
                    child.send_signal(signal.SIGKILL)
                    break
            # What it said before it died, and the last line perhaps not whole.
            rest = child.stdout.read().split("\n")[:-1]
            acknowledged = int(rest[-1]) if rest else acknowledged
        store = RocksStore(directory, MEMORY)
        at = int(store.get("meta", b"at") or b"0")
        assert at >= acknowledged >= last
        for name in ("profiles", "timers", "outbox"):
            found = dict(store.scan(name))
            for number in range(max(1, at - 996), at + 1):
                for part in range(5):
                    assert found[b"%d.%d" % (part, number % 997)] == b"%d" % number * 50
        store.close()
        del store
        last = at


def test_a_refused_write_leaves_nothing_and_stops_all_later_ones() -> None:
    store = FaultyStore(MemoryStore())
    store.fail_writes(after=1)
    put(store, "profiles", a=b"1")
    for _ in range(2):
        with pytest.raises(StateError, match="free space"):
            put(store, "profiles", b=b"1")
    with pytest.raises(StateError):
        store.sync()
    store.heal()
    put(store, "profiles", c=b"1")
    store.sync()
    assert keys(store.scan("profiles")) == [b"a", b"c"]
    assert (store.writes, store.syncs) == (2, 1)


def test_a_refused_sync_stops_all_later_writes() -> None:
    store = FaultyStore(MemoryStore())
    store.fail_syncs()
    put(store, "profiles", a=b"1")
    for _ in range(2):
        with pytest.raises(StateError):
            store.sync()
    with pytest.raises(StateError):
        put(store, "profiles", b=b"1")
