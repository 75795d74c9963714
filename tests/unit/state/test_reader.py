"""What a reader beside the writer sees, and when it knows that there is nothing new."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from opportune.errors import ReadRefused
from state.reader import ShardReader
from state.rocks import RocksStore, shared_memory


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RocksStore]:
    # Little memory: the writer begins a new log and writes files out all the time.
    store = RocksStore(tmp_path / "shard", shared_memory(1 << 20, 1 << 18))
    yield store
    store.close()


@pytest.fixture
def reader(store: RocksStore, tmp_path: Path) -> Iterator[ShardReader]:
    assert store.get("profiles", b"a") is None, "the writer is there first"
    reader = ShardReader(tmp_path / "shard")
    yield reader
    reader.close()


def put(store: RocksStore, **values: bytes) -> None:
    batch = store.batch()
    for key, value in values.items():
        batch.put(key.encode(), value, store.family("profiles"))
    store.write(batch)


def test_every_write_is_seen_after_catching_up(store: RocksStore, reader: ShardReader) -> None:
    dice = random.Random(7)
    known: dict[str, bytes] = {}
    logs = set()
    for _ in range(300):
        key, value = f"k{dice.randrange(50)}", dice.randbytes(dice.choice((1, 100, 20_000)))
        put(store, **{key: value})
        known[key] = value
        if dice.random() < 0.1:
            store.sync()
        assert reader.catch_up()
        logs |= {name for name, _ in reader.seen if name.endswith(".log")}
        assert reader.get("profiles", key.encode()) == value
    assert len(logs) > 3, "the writer has changed its log under the reader"
    assert dict(reader.scan("profiles")) == {key.encode(): value for key, value in known.items()}


@pytest.mark.parametrize("large", [False, True])
def test_a_flush_of_what_the_reader_has_not_seen_hides_nothing(tmp_path: Path, large: bool) -> None:
    """The writer moves changes from its log to a table file, and removes the log, between two catchings-up."""
    store = RocksStore(tmp_path / "shard", shared_memory(1 << 20, 1 << 18))
    put(store, a=b"1", b=b"1")
    reader = ShardReader(tmp_path / "shard")
    reader.catch_up()
    assert reader.get("profiles", b"a") == b"1"
    put(store, a=b"2")
    for number in range(40 if large else 0):
        put(store, **{f"k{number}": random.Random(number).randbytes(20_000)})
    put(store, b=b"2")
    store.close()
    assert reader.catch_up()
    assert reader.get_many("profiles", [b"a", b"b"]) == [b"2", b"2"]
    reader.close()


def test_a_shard_that_nobody_writes_to_is_not_caught_up_with_again(store: RocksStore, reader: ShardReader) -> None:
    put(store, a=b"1")
    assert reader.catch_up()
    assert [reader.catch_up() for _ in range(3)] == [False, False, False]
    put(store, a=b"2")
    assert reader.get("profiles", b"a") == b"1", "it sees nothing before it has caught up"
    assert reader.catch_up()
    assert reader.get("profiles", b"a") == b"2"


def test_a_shard_that_is_gone_is_refused(store: RocksStore, reader: ShardReader, tmp_path: Path) -> None:
    put(store, a=b"1")
    (tmp_path / "shard").rename(tmp_path / "elsewhere")
    with pytest.raises(ReadRefused, match="cannot be read now"):
        reader.catch_up()
    (tmp_path / "elsewhere").rename(tmp_path / "shard")
    assert reader.catch_up()


def fill(store: RocksStore, number: int) -> None:
    """Enough for the writer to begin a new log and to write out a table file."""
    for part in range(8):
        put(store, **{f"f{number}-{part}": random.Random(part).randbytes(60_000)})


def test_a_flush_that_is_watched_needs_no_opening(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "shard", shared_memory(1 << 20, 1 << 20))
    put(store, a=b"0")
    reader = ShardReader(tmp_path / "shard")
    logs, manifests = set(), set()
    for number in range(200):
        put(store, a=b"%d" % number, **{f"f{number % 7}": random.Random(number).randbytes(60_000)})
        reader.catch_up()
        logs |= {name for name, _ in reader.seen if name.endswith(".log")}
        manifests |= {size for name, size in reader.seen if name.startswith("MANIFEST")}
        assert reader.get("profiles", b"a") == b"%d" % number
    assert len(logs) > 3
    assert len(manifests) > 3
    assert reader.opened == 1
    reader.close()
    store.close()


def test_a_log_that_came_and_went_unseen_is_noticed(store: RocksStore, reader: ShardReader, tmp_path: Path) -> None:
    put(store, a=b"1", b=b"1")
    reader.catch_up()
    put(store, a=b"2")
    gone = {path.name for path in (tmp_path / "shard").glob("*.log")}
    for number in range(40):
        fill(store, number)
    assert not gone & {path.name for path in (tmp_path / "shard").glob("*.log")}
    assert reader.catch_up()
    assert reader.opened == 2
    assert reader.get_many("profiles", [b"a", b"b"]) == [b"2", b"1"]
    assert reader.sequence == store.sequence


def test_a_log_that_went_in_front_of_an_empty_one_is_noticed(tmp_path: Path) -> None:
    """All is in table files, and the writer has begun a log in which nothing stands yet."""
    store = RocksStore(tmp_path / "shard", shared_memory(1 << 20, 8 << 20))
    put(store, a=b"1")
    reader = ShardReader(tmp_path / "shard")
    for number in range(3):
        put(store, a=b"2-%d" % number)
        store.close()
        # A writer that opens what another has closed writes its log out; it makes a manifest of its own, which is a new opening.
        store = RocksStore(tmp_path / "shard", shared_memory(1 << 20, 8 << 20))
        assert reader.catch_up()
        assert reader.get("profiles", b"a") == b"2-%d" % number
        assert reader.opened == number + 2
    reader.close()
    store.close()


def test_a_shard_that_another_was_put_in_place_of_is_read_anew(tmp_path: Path) -> None:
    """As a restored checkpoint is: the names of its files may be the same."""
    stores = {}
    for name in ("shard", "other"):
        stores[name] = RocksStore(tmp_path / name, shared_memory(1 << 20, 8 << 20))
        put(stores[name], a=name.encode())
    reader = ShardReader(tmp_path / "shard")
    assert reader.get("profiles", b"a") == b"shard"
    put(stores["other"], b=b"1")
    (tmp_path / "shard").rename(tmp_path / "before")
    (tmp_path / "other").rename(tmp_path / "shard")
    assert reader.catch_up()
    assert reader.get_many("profiles", [b"a", b"b"]) == [b"other", b"1"]
    (tmp_path / "shard").rename(tmp_path / "other")
    (tmp_path / "before").rename(tmp_path / "shard")
    reader.close()
    for store in stores.values():
        store.close()


@pytest.mark.parametrize("seed", range(4))
def test_what_is_read_is_always_what_was_written_last(tmp_path: Path, seed: int) -> None:
    """Puts, deletions, deletions of ranges in families that are written out at different times; looked at at any moment."""
    dice = random.Random(seed)
    store = RocksStore(tmp_path / "shard", shared_memory(1 << 20, dice.choice((1 << 18, 1 << 20, 4 << 20))))
    families = ("profiles", "timers", "members", "seen")
    known: dict[str, dict[bytes, bytes]] = {name: {} for name in families}
    reader = ShardReader(tmp_path / "shard")
    for round_ in range(150):
        for _ in range(dice.choice((1, 1, 5, 60))):
            batch = store.batch()
            for name in dice.choices(families, weights=(20, 10, 5, 1), k=4):
                key = b"%02d" % dice.randrange(60)
                if dice.random() < 0.2:
                    batch.delete(key, store.family(name))
                    known[name].pop(key, None)
                else:
                    known[name][key] = dice.randbytes(dice.choice((8, 500, 9_000)))
                    batch.put(key, known[name][key], store.family(name))
            if dice.random() < 0.02:
                batch.delete_range(b"10", b"30", store.family("seen"))
                known["seen"] = {key: value for key, value in known["seen"].items() if not b"10" <= key < b"30"}
            store.write(batch)
        reader.catch_up()
        assert reader.sequence == store.sequence
        for name in families:
            keys = [b"%02d" % number for number in range(60)]
            assert reader.get_many(name, keys) == [known[name].get(key) for key in keys], f"round {round_}"
            if round_ % 10 == 0:
                assert dict(reader.scan(name)) == known[name]
    reader.close()
    store.close()
