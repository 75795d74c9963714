"""While a newer table is being put in force, look-ups go on: everybody is answered as of the tables of the instant."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.listings import Listings
from api.settings import ServeSettings
from api.shards import Shards
from flows.in_force import in_force
from flows.loop import Arrived, Loop
from opportune.audiences.schema import AttributeCondition, Table
from opportune.errors import ReadRefused
from state.keys import META_PLAN
from state.people import Person
from state.rocks import RocksStore, shared_memory
from state.warehouse import WarehouseTable
from tests.oracle.builders import DAY_0, predicate, project, track
from tests.oracle.engine import warehouse

MEMORY = shared_memory(8 << 20, 16 << 20)
TABLE = Table("customers", "customers.csv", "user_id", columns={"plan": "string"})


class World:
    """A job of one shard whose table changes, and look-ups beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        free = AttributeCondition("customers", "plan", predicate(eq="free"))
        self.project = project({"free": free}, tables={"customers": TABLE})
        self.store = RocksStore(directory / "shards" / "0000", MEMORY)
        tables = self.load({"ann": "free", "bob": "paid"})
        self.loop = Loop(self.project, 1, lambda _: self.store, tables, began_ms=DAY_0)
        batch = self.store.batch()
        batch.put(META_PLAN, self.loop.compiled.plan.fingerprint.encode(), self.store.family("meta"))
        self.store.write(batch)
        (directory / "status.json").write_text(json.dumps({"shard_ms": {"0": DAY_0 + 5}}))
        settings = ServeSettings(staleness_ms=0)
        self.shards = Shards(self.loop.compiled, directory, self.loop.snapshots.open, settings, lambda: DAY_0 + 5)
        self.shards.count = 1
        self.listings = Listings(self.shards, directory)

    def load(self, rows: dict[str, str]) -> dict[str, WarehouseTable]:
        text = "user_id,plan\n" + "".join(f"{key},{plan}\n" for key, plan in rows.items())
        (self.directory / "customers.csv").write_text(text)
        return warehouse(self.project, self.directory)

    def hold(self, rows: dict[str, str]) -> None:
        """Rows are decided, and nobody was switched."""
        self.loop.refresh(self.load(rows), finish=False)
        assert not in_force(self.store).done

    def go_on(self) -> None:
        for actor in self.loop.actors:
            while actor.overdue:
                self.loop.take(actor.sweep())
        assert in_force(self.store).done

    async def person(self, name: str) -> Person | None:
        return (await self.shards.find("user_id", name)).person

    async def free(self) -> dict[str, bool | None]:
        """Who is in the audience; None: who is not known."""
        people = {name: await self.person(name) for name in ("ann", "bob", "cid", "dan")}
        return {name: None if person is None else bool(person.memberships) for name, person in people.items()}

    def close(self) -> None:
        self.listings.close()
        self.shards.close()
        self.store.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_people_are_answered_while_nobody_was_switched_yet(world: World) -> None:
    async def story() -> None:
        assert await world.free() == {"ann": True, "bob": False, "cid": None, "dan": None}
        world.hold({"ann": "paid", "bob": "free", "cid": "free"})
        truth = {"ann": False, "bob": True, "cid": True, "dan": None}
        assert await world.free() == truth
        world.shards.check()
        world.loop.feed([Arrived("events", 0, 0, DAY_0 + 4, track("A", 4, "bob"))])
        assert await world.free() == truth
        world.go_on()
        assert await world.free() == truth

    asyncio.run(story())


def test_lists_say_that_they_wait(world: World) -> None:
    async def story() -> None:
        world.hold({"ann": "paid", "bob": "free"})
        listing = await world.listings.open()
        with pytest.raises(ReadRefused, match="being put in force"):
            listing.check(0)
        world.go_on()
        assert (await world.listings.counts()).members == [1]

    asyncio.run(story())


def test_a_list_over_a_later_state_does_not_change_what_an_earlier_one_is_joined_with(world: World) -> None:
    async def story() -> None:
        # The reader has caught up, and does not again within this time.
        world.shards.settings = ServeSettings(staleness_ms=600_000)
        assert (await world.free())["ann"]
        world.loop.refresh(world.load({"ann": "paid", "bob": "paid"}))
        world.listings.release(await world.listings.open())
        person = await world.person("ann")
        assert person is not None
        assert [one.audience for one in person.memberships] == ["free"]
        assert person.attributes == {"customers.plan": "free"}

    asyncio.run(story())


def test_without_the_tables_before_nothing_is_guessed(world: World) -> None:
    async def story() -> None:
        before = in_force(world.store).versions
        world.hold({"ann": "paid", "bob": "free"})
        del world.loop.snapshots.known["customers", before["customers"]]
        with pytest.raises(ReadRefused, match="is not there"):
            await world.person("ann")

    asyncio.run(story())
