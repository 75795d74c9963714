"""Events are settled when every shard has applied them, and the mail that they led to is taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.freshness import ANY, as_fresh
from api.problems import Problem
from api.settled import Settled, place_text, read_place
from opportune.errors import ReadRefused
from state.keys import META_APPLIED, META_CHANNELS, META_SEQUENCES
from state.memory import MemoryStore
from state.positions import Channels, Positions, Sequences

TOPIC = bytes(range(16))
WAIT_MS = 40


class Shards:
    """Three shards, and what happens to them while somebody waits."""

    def __init__(self) -> None:
        self.stores = [MemoryStore() for _ in range(3)]
        self.happens: list[Callable[[], None]] = []
        self.reads = 0
        self.settled = Settled(3, self.read)

    def read(self, shard: int) -> MemoryStore:
        self.reads += 1
        if self.happens and self.reads % 5 == 0:
            self.happens.pop(0)()
        return self.stores[shard]

    def put(self, shard: int, key: bytes, value: bytes) -> None:
        batch = self.stores[shard].batch()
        batch.put(key, value, self.stores[shard].family("meta"))
        self.stores[shard].write(batch)

    def applied(self, *offsets: int) -> None:
        """By shard, the offset to read next of partition 1."""
        for shard, offset in enumerate(offsets):
            positions = Positions()
            positions.advance(TOPIC, 1, offset, 0)
            self.put(shard, META_APPLIED, positions.encode())

    def sent(self, sender: int, receiver: int, count: int) -> None:
        sequences = Sequences()
        for _ in range(count):
            sequences.next(receiver)
        self.put(sender, META_SEQUENCES, sequences.encode())

    def taken(self, receiver: int, sender: int, count: int) -> None:
        channels = Channels()
        channels.advance(sender, 1, count)
        self.put(receiver, META_CHANNELS, channels.encode())

    def wait(self, offset: int = 7) -> None:
        asyncio.run(self.settled.wait({(TOPIC, 1): offset}, WAIT_MS))


@pytest.fixture
def shards() -> Shards:
    return Shards()


def test_all_shards_have_to_have_applied_them(shards: Shards) -> None:
    with pytest.raises(ReadRefused, match="not applied"):
        shards.wait()
    shards.applied(8, 8, 7)
    with pytest.raises(ReadRefused, match="not applied"):
        shards.wait()
    shards.applied(8, 8, 8)
    shards.wait()


def test_another_topic_of_the_name_is_another_one(shards: Shards) -> None:
    shards.applied(100, 100, 100)
    with pytest.raises(ReadRefused):
        asyncio.run(shards.settled.wait({(bytes(16), 1): 7}, WAIT_MS))


def test_mail_that_was_sent_by_then_has_to_be_taken(shards: Shards) -> None:
    shards.applied(8, 8, 8)
    shards.sent(0, 2, 5)
    with pytest.raises(ReadRefused):
        shards.wait()
    shards.taken(2, 0, 4)
    with pytest.raises(ReadRefused):
        shards.wait()
    shards.taken(2, 0, 5)
    shards.wait()


def test_an_event_that_is_sent_on_again_is_followed(shards: Shards) -> None:
    shards.applied(8, 8, 8)
    shards.sent(0, 1, 1)

    def goes_on() -> None:
        shards.taken(1, 0, 1)
        shards.sent(1, 2, 1)

    shards.happens = [lambda: None, goes_on]
    with pytest.raises(ReadRefused):
        shards.wait()
    shards.taken(2, 1, 1)
    shards.wait()


def test_what_is_settled_is_not_looked_at_again(shards: Shards) -> None:
    shards.applied(8, 8, 8)
    shards.wait()
    before = shards.reads
    shards.wait()
    assert shards.reads == before
    shards.settled.forget()
    shards.applied(8, 7, 8)
    with pytest.raises(ReadRefused):
        shards.wait()


@given(st.binary(min_size=16, max_size=16), st.dictionaries(st.integers(0, 9_999), st.integers(0, 10**12), min_size=1))
def test_places_are_read_as_they_were_written(topic_id: bytes, offsets: dict[int, int]) -> None:
    text = place_text(topic_id, offsets)
    assert read_place(text) == {(topic_id, partition): offset for partition, offset in offsets.items()}
    assert as_fresh(None, text, None, 4).events == read_place(text)


@given(st.text(max_size=60))
def test_no_text_is_more_than_a_bad_position(text: str) -> None:
    for asked in (text, f"e{TOPIC.hex()}{text}"):
        wanted = ANY
        with suppress(Problem):
            wanted = as_fresh(None, asked, None, 4)
        assert wanted is ANY or wanted.events or wanted.writes or not asked
