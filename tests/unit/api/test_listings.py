"""A list that is read in pieces is of one moment, whatever the job does meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from api.listings import Listing, Listings
from api.member_formats import FORMATS, NDJSON, media_type_of
from api.problems import Problem
from api.settings import ServeSettings
from api.shards import Shards
from opportune.errors import ReadRefused, StateError
from opportune.settings import Settings, State
from state.keys import META_PLAN
from state.rocks import RocksStore, shared_memory
from tests.oracle.builders import DAY_0, happened, track
from tests.unit.flows.one_shard import Shard

MEMORY = shared_memory(8 << 20, 16 << 20)
PEOPLE = 30


class World:
    """A job of one shard, and the lists beside it."""

    def __init__(self, directory: Path) -> None:
        store = RocksStore(directory / "shards" / "0000", MEMORY)
        settings = Settings(state=State(shards=1))
        self.shard = Shard({"recent": happened("A", within_ms=100)}, settings, store=store)
        batch = store.batch()
        batch.put(META_PLAN, self.shard.compiled.plan.fingerprint.encode(), store.family("meta"))
        store.write(batch)
        self.shards = Shards(self.shard.compiled, directory, lambda _: {}, ServeSettings(), lambda: DAY_0)
        self.listings = Listings(self.shards, directory)
        self._directory = directory
        self.at(1)

    def at(self, time: int) -> None:
        """The job has come so far."""
        (self._directory / "status.json").write_text(json.dumps({"shard_ms": {"0": DAY_0 + time}}))

    def feed(self, first: int, last: int, time: int = 0) -> None:
        for number in range(first, last):
            self.shard.feed((track("A", time, f"p{number}"), time))

    def close(self) -> None:
        self.listings.close()
        self.shards.close()
        self.shard.store.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def names(listing: Listing, after: bytes = b"", rows: int = 7) -> list[bytes]:
    return [who for part in listing.slices(0, after, rows, identifiers=False) for who in part.ids]


def test_pieces_of_a_list_are_of_one_moment(world: World) -> None:
    async def story() -> None:
        world.feed(0, PEOPLE)
        listing = await world.listings.open()
        whole = names(listing)
        assert len(whole) == PEOPLE
        pieces = listing.slices(0, b"", 7, identifiers=True)
        first = next(pieces)
        # People enter and exit while the list is read, some of them behind the piece that was got.
        world.feed(PEOPLE, 3 * PEOPLE, 50)
        world.shard.advance(120)
        world.at(121)
        rest = [who for part in pieces for who in part.ids]
        assert [*first.ids, *rest] == whole
        assert names(world.listings.again(listing.id), first.ids[-1]) == rest
        now = await world.listings.open()
        assert len(names(now)) == 2 * PEOPLE
        assert now.writes > listing.writes
        assert (await world.listings.counts()).members == [2 * PEOPLE]

    asyncio.run(story())


def test_members_whose_time_has_come_are_left_out_while_their_timers_wait(world: World) -> None:
    async def story() -> None:
        world.feed(0, PEOPLE)
        world.feed(0, 5, 60)
        world.at(101)
        listing = await world.listings.open()
        assert len(names(listing)) == 5
        assert listing.count(0) == 5

    asyncio.run(story())


def test_what_is_held_is_bounded_and_what_is_gone_is_refused(world: World) -> None:
    async def story() -> None:
        world.feed(0, 1)
        first = await world.listings.open()
        world.listings.release(first)
        others = [await world.listings.open() for _ in range(8)]
        with pytest.raises(Problem) as gone:
            world.listings.again(first.id)
        assert (gone.value.status, gone.value.kind) == (410, "cursor_gone")
        with pytest.raises(Problem) as full:
            await world.listings.open()
        assert (full.value.status, full.value.retry_s) == (503, 5)
        for one in others:
            world.listings.release(one, keep=False)
        assert names(await world.listings.open())

    asyncio.run(story())


def test_no_state_is_refused(tmp_path: Path, world: World) -> None:
    async def story() -> None:
        elsewhere = Listings(world.shards, tmp_path / "elsewhere")
        with pytest.raises(ReadRefused):
            await elsewhere.open()
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "status.json").write_text("{}")
        with pytest.raises(StateError, match="not started"):
            await elsewhere.open()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", NDJSON), ("*/*", NDJSON), ("application/json", NDJSON), ("text/html, text/*;q=0.5", "text/csv"),
        ("text/csv;q=0.2, application/vnd.apache.arrow.stream;q=0.9", "application/vnd.apache.arrow.stream"),
        ("image/png", None), ("text/csv;q=0", None), ("text/csv;q=x", None), (";;,,q", None),
    ],
)  # fmt: skip
def test_a_format_is_chosen_by_accept(accept: str, wanted: str | None) -> None:
    assert media_type_of(accept) == wanted
    assert wanted is None or wanted in FORMATS


def test_a_reader_keeps_up_though_nobody_asks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the next to ask would wait for all that was written since the last one did."""
    monkeypatch.setattr("api.shards.KEEP_UP_S", 0)
    monkeypatch.setattr("api.shards.monotonic_ms", count(step=1_000).__next__)

    async def unasked() -> None:
        reader, _ = await world.shards.fresh(0)
        before = reader.sequence
        world.feed(0, PEOPLE)
        assert reader.sequence == before
        keeping_up = asyncio.create_task(world.shards.keep_up())
        while reader.sequence == before:
            await asyncio.sleep(0)
        assert not keeping_up.done()
        keeping_up.cancel()

    asyncio.run(asyncio.wait_for(unasked(), 30))
