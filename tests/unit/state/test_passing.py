"""Somebody read while tables are being put in force is the one that the job will have, whether it came to them or not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import refresh
from flows.in_force import in_force
from flows.loop import Arrived, Loop
from opportune.audiences.schema import All, AttributeCondition, Condition, Not, Table
from opportune.errors import ReadRefused
from opportune.identity import profile_id, shard_of
from state.memory import MemoryStore
from state.people import People, Person
from state.warehouse import WarehouseTable
from tests.oracle.builders import DAY_0, happened, predicate, project, track
from tests.oracle.engine import warehouse

FREE = AttributeCondition("customers", "plan", predicate(eq="free"))
AUDIENCES: dict[str, Condition] = {
    "free": FREE,
    "free_a": All((FREE, happened("A", within_ms=30))),
    "not_free": Not((FREE,)),
    "recent": happened("A", within_ms=10),
    "calm": All((FREE, Not((happened("A", within_ms=10),)))),
}
TABLE = Table("customers", "customers.csv", "user_id", columns={"plan": "string"})
NAMES = tuple(f"p{number}" for number in range(6))
ROWS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["free", "paid"]))


class World:
    """Two shards, and somebody who reads beside them."""

    def __init__(self, directory: Path, rows: dict[str, str]) -> None:
        self.directory = directory
        self.project = project(AUDIENCES, tables={"customers": TABLE})
        self.stores = [MemoryStore() for _ in range(2)]
        self.loop = Loop(self.project, 2, self.stores.__getitem__, self.load(rows), began_ms=DAY_0)
        self.offset = 0

    def load(self, rows: dict[str, str]) -> dict[str, WarehouseTable]:
        text = "user_id,plan\n" + "".join(f"{key},{plan}\n" for key, plan in rows.items())
        (self.directory / "customers.csv").write_text(text)
        return warehouse(self.project, self.directory)

    def feed(self, at: int, who: str) -> None:
        self.loop.feed([Arrived("events", 0, self.offset, DAY_0 + at, track("A", at, who))])
        self.offset += 1

    def people(self, shard: int) -> People:
        state = in_force(self.stores[shard])
        tables, before = (self.loop.snapshots.open(one) for one in (state.versions, state.before))
        assert tables is not None
        if state.done:
            return People(self.loop.compiled, tables)
        assert before is not None
        return People(self.loop.compiled, tables, before=(before, state.at))

    def read(self, who: str, time: int) -> Person | None:
        key = profile_id("user_id", who)
        shard = shard_of(key, 2)
        return self.people(shard).find(self.stores[shard], key, DAY_0 + time)


def truth(log: list[tuple[int, str]], rows: dict[str, str], who: str, now: int) -> set[str]:
    """The audiences that somebody is in at an instant, worked out from everything that has happened."""
    ages = [now - at for at, name in log if name == who]
    free = rows.get(who) == "free"
    found = {"free" if free else "not_free"}
    found |= {"free_a"} if free and any(age < 30 for age in ages) else set()
    found |= {"recent"} if any(age < 10 for age in ages) else set()
    return found | ({"calm"} if free and not any(age < 10 for age in ages) else set())


@settings(max_examples=60)
@given(
    before=ROWS,
    after=ROWS,
    log=st.lists(st.tuples(st.integers(0, 12), st.sampled_from(NAMES)), max_size=8),
    late=st.integers(0, 40),
    done=st.integers(0, 6),
    met=st.lists(st.tuples(st.integers(0, 12), st.sampled_from(NAMES)), max_size=3),
    ahead=st.integers(1, 40),
)
def test_held_half_way_everybody_is_who_they_will_be(
    tmp_path_factory: pytest.TempPathFactory,
    before: dict[str, str],
    after: dict[str, str],
    log: list[tuple[int, str]],
    late: int,
    done: int,
    met: list[tuple[int, str]],
    ahead: int,
) -> None:
    world, now, past = World(tmp_path_factory.mktemp("tables"), before), 0, list[tuple[int, str]]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refresh, "SLICE_LIVE", 1)
        for step, who in log:
            now += step
            world.feed(now, who)
            past.append((now, who))
        now += late
        for actor in world.loop.actors:
            # Time has come so far, and no timer has fired.
            actor.time_ms = DAY_0 + now
        world.loop.refresh(world.load(after), finish=False)
        for place in range(done):
            actor = world.loop.actors[place % 2]
            world.loop.take(actor.sweep())
        for step, who in met:
            now += step
            world.feed(now, who)
            past.append((now, who))
        time = now + ahead
        half = {who: world.read(who, time) for who in NAMES}
        known = {who for _, who in past} | before.keys() | after.keys()
        for who, person in half.items():
            assert (person is not None) == (who in known)
            if person is not None:
                assert {one.audience for one in person.memberships} == truth(past, after, who, time - 1)
                assert person.attributes == ({"customers.plan": after[who]} if who in after else {})
                assert person.identifiers == [f"user_id:{who}"]
                assert person.as_of_ms == DAY_0 + time - 1
        for actor in world.loop.actors:
            while actor.overdue:
                world.loop.take(actor.sweep())
        assert all(in_force(store).done for store in world.stores)
        assert [told(world.read(who, time)) for who in NAMES] == [told(person) for person in half.values()]


def told(person: Person | None) -> object:
    """What is true of a person at an instant, whatever the job has written of it."""
    return person and (person.identifiers, person.memberships, person.attributes, person.as_of_ms)


def test_what_was_due_before_is_of_the_rows_before(tmp_path: Path) -> None:
    world = World(tmp_path, {"p0": "paid"})
    world.feed(0, "p0")
    for actor in world.loop.actors:
        actor.time_ms = DAY_0 + 50
    world.loop.refresh(world.load({"p0": "free"}), finish=False)
    person = world.read("p0", 51)
    assert person is not None
    # With the new row it would have become calm at 10, when the timer was due.
    assert [(one.audience, one.since_ms - DAY_0) for one in person.memberships] == [("calm", 50), ("free", 50)]


def test_lists_wait_until_everybody_was_switched(tmp_path: Path) -> None:
    world = World(tmp_path, {"p0": "free", "p1": "free"})
    world.loop.refresh(world.load({"p0": "paid", "p1": "paid"}), finish=False)
    held = [shard for shard, store in enumerate(world.stores) if not in_force(store).done]
    assert held
    for shard in held:
        with pytest.raises(ReadRefused, match="warehouse tables"):
            world.people(shard).corrected(world.stores[shard], DAY_0 + 1)


def test_a_timestamp_is_told_as_a_text(tmp_path: Path) -> None:
    table = Table("customers", "customers.csv", "user_id", columns={"since": "timestamp"})
    asked = AttributeCondition("customers", "since", predicate(exists=True))
    known = project({"known": asked}, tables={"customers": table})
    (tmp_path / "customers.csv").write_text("user_id,since\nann,2021-02-27T00:00:00Z\nbob,\n")
    tables, store = warehouse(known, tmp_path), MemoryStore()
    loop = Loop(known, 1, lambda _: store, tables, began_ms=DAY_0)
    people = People(loop.compiled, tables)
    told = {name: people.find(store, profile_id("user_id", name), DAY_0 + 1) for name in ("ann", "bob")}
    assert {name: person.attributes["customers.since"] for name, person in told.items() if person is not None} == {
        "ann": "2021-02-27T00:00:00.000Z",
        "bob": None,
    }
