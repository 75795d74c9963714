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
