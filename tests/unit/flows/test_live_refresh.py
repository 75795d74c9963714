"""Snapshots put in force while a shard works: who is switched, when, with which rows, and what a restart goes on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.actor import SWEEP_MAX
from flows.in_force import in_force
from flows.loop import Arrived, Loop
from flows.refresh import SLICE_LIVE
from opportune.audiences.schema import All, AttributeCondition, Condition, Not, Table
from opportune.errors import StateError
from opportune.identity import profile_id
from state.faults import FaultyStore
from state.memory import MemoryStore
from state.warehouse import WarehouseTable
from tests.oracle.builders import DAY_0, happened, predicate, project, track
from tests.oracle.engine import warehouse
from tests.oracle.instants import read_instant

FREE = AttributeCondition("customers", "plan", predicate(eq="free"))
AUDIENCES: dict[str, Condition] = {
    "free": FREE,
    "free_a": All((FREE, happened("A", within_ms=100))),
    "not_free": Not((FREE,)),
}
TABLE = Table("customers", "customers.csv", "user_id", columns={"plan": "string"})


class World:
    """A loop of two shards whose table changes."""

    def __init__(self, directory: Path, rows: dict[str, str]) -> None:
        self.directory = directory
        self.project = project(AUDIENCES, tables={"customers": TABLE})
        self.stores = [FaultyStore(MemoryStore()) for _ in range(2)]
        self.loop = Loop(self.project, 2, self.stores.__getitem__, self.load(rows), began_ms=DAY_0, counting=True)
        self.offset = 0

    def load(self, rows: dict[str, str]) -> dict[str, WarehouseTable]:
        text = "user_id,plan\n" + "".join(f"{key},{plan}\n" for key, plan in rows.items())
        (self.directory / "customers.csv").write_text(text)
        return warehouse(self.project, self.directory)

    def feed(self, at: int, *people: str) -> None:
        records = [
            Arrived("events", 0, self.offset + n, DAY_0 + at, track("A", at, who)) for n, who in enumerate(people)
        ]
        self.offset += len(people)
        self.loop.feed(records)

    def new(self) -> list[tuple[int, str, str, str]]:
        """What was told since this was asked last: at, audience, change, cause."""
        news, self.loop.changes = self.loop.changes, []
        return sorted(((read_instant(one.at) or 0) - DAY_0, one.audience, one.change, one.cause) for one in news)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, {"ann": "free", "bob": "paid", "cid": "free"})
    world.new()
    return world


def test_those_whose_row_differs_are_switched_and_nobody_else_is_evaluated(world: World) -> None:
    world.loop.advance(DAY_0 + 50)
    evaluated = world.loop.compiled.program.evaluated
    before = sum(evaluated)
    world.loop.refresh(world.load({"ann": "paid", "bob": "paid", "cid": "free"}))
    assert world.new() == [(50, "free", "exited", "attribute"), (50, "not_free", "entered", "attribute")]
    assert sum(evaluated) - before == len(AUDIENCES)


def test_rows_that_come_and_go(world: World) -> None:
    world.loop.advance(DAY_0 + 50)
    world.loop.refresh(world.load({"bob": "paid", "cid": "free", "eve": "free"}))
    assert world.new() == [
        (50, "free", "entered", "attribute"),
        (50, "free", "exited", "attribute"),
        (50, "not_free", "entered", "attribute"),
    ]


def test_the_snapshot_is_in_the_change(world: World) -> None:
    world.loop.refresh(world.load({"ann": "paid", "bob": "paid", "cid": "free"}))
    assert {tuple(one.snapshot.items()) for one in world.loop.changes} == {(("customers", "0000000000000002"),)}


def test_an_event_that_comes_first_meets_the_new_row(world: World) -> None:
    world.loop.advance(DAY_0 + 50)
    world.loop.refresh(world.load({"ann": "paid", "bob": "free", "cid": "free"}), finish=False)
    assert world.new() == []
    world.feed(60, "bob")
    assert world.new() == [
        (50, "free", "entered", "attribute"),
        (50, "not_free", "exited", "attribute"),
        (60, "free_a", "entered", "event"),
    ]
    world.loop.advance(DAY_0 + 61)
    assert world.new() == [(50, "free", "exited", "attribute"), (50, "not_free", "entered", "attribute")]


def test_timers_that_are_late_fire_with_the_rows_of_their_time(tmp_path: Path) -> None:
    people = [f"u{number}" for number in range(4 * SWEEP_MAX)]
    world = World(tmp_path, dict.fromkeys(people, "free"))
    world.feed(0, *people)
    world.new()
    for actor in world.loop.actors:
        # Time is at 500, and of the timers of 100 only the first were fired.
        actor.time_ms = DAY_0 + 500
    world.loop.refresh(world.load(dict.fromkeys(people, "paid")))
    assert world.new() == sorted([
        *[(100, "free_a", "exited", "time")] * len(people),
        *[(500, "free", "exited", "attribute")] * len(people),
        *[(500, "not_free", "entered", "attribute")] * len(people),
    ])  # fmt: skip


def test_somebody_who_is_further_on_is_switched_there(world: World) -> None:
    world.feed(80, "ann")
    world.loop.advance(DAY_0 + 70)
    world.new()
    world.loop.refresh(world.load({"ann": "paid", "bob": "paid", "cid": "paid"}))
    assert [one for one in world.new() if one[1] != "not_free"] == [
        (70, "free", "exited", "attribute"),
        (80, "free", "exited", "attribute"),
        (80, "free_a", "exited", "attribute"),
    ]


def test_a_decision_waits_for_the_one_before(world: World) -> None:
    world.loop.advance(DAY_0 + 50)
    world.loop.refresh(world.load({"ann": "paid", "bob": "free", "cid": "free"}), finish=False)
    world.loop.refresh(world.load({"ann": "free", "bob": "paid", "cid": "free"}), finish=False)
    world.loop.refresh(world.load({"ann": "free", "bob": "paid", "cid": "paid"}), finish=False)
    waiting = [actor.refresh.state for actor in world.loop.actors if actor.refresh.passing]
    assert waiting
    for state in waiting:
        assert state.versions["customers"] == "0000000000000002"
        assert state.waiting["customers"] == "0000000000000004"
    world.loop.advance(DAY_0 + 60)
    for store in world.stores:
        assert in_force(store).versions["customers"] == "0000000000000004"
        assert in_force(store).done
    members = {one.audience for one in world.loop.changes if one.profile_id == profile_id("user_id", "cid").hex()}
    assert members == {"free", "not_free"}


def test_an_older_version_changes_nothing(world: World) -> None:
    old = world.loop.snapshots.open({"customers": "0000000000000001"})
    assert old is not None
    world.loop.refresh(world.load({"ann": "paid", "bob": "paid", "cid": "free"}))
    world.new()
    for actor in world.loop.actors:
        actor.refresh.decide({"customers": "0000000000000001", "unknown": "9999999999999999"}, DAY_0 + 90)
        assert not actor.refresh.busy
    world.loop.advance(DAY_0 + 99)
    assert world.new() == []


def test_a_snapshot_that_is_gone_is_left_out(world: World) -> None:
    for actor in world.loop.actors:
        actor.refresh.decide({"customers": "0000000000009999"}, DAY_0 + 90)
        assert actor.refresh.missed == 1
        assert actor.refresh.state.versions == {"customers": "0000000000000001"}
        assert not actor.refresh.busy
    world.loop.refresh(world.load({"ann": "paid", "bob": "paid", "cid": "free"}))
    assert len(world.new()) == 2


@pytest.mark.parametrize("writes", range(4))
def test_a_restart_goes_on_with_the_same_instant_and_ids(tmp_path: Path, writes: int) -> None:
    people = [f"u{number}" for number in range(6 * SLICE_LIVE)]
    world = World(tmp_path, dict.fromkeys(people, "free"))
    world.loop.advance(DAY_0 + 50)
    world.new()
    for store in world.stores:
        store.fail_writes(writes)
    tables = world.load({**dict.fromkeys(people[:-9], "paid"), **dict.fromkeys(people[-9:], "free")})
    with pytest.raises(StateError):
        world.loop.refresh(tables)
    for store in world.stores:
        store.heal()
    world.loop.restart()
    world.loop.advance(world.loop.time_ms + 5_000)
    world.loop.advance(world.loop.time_ms + 5_000)
    told = world.loop.changes
    assert len({one.id for one in told}) == len(told) == 2 * (len(people) - 9)
    # A decision that was never written is taken anew, and then has a later instant.
    assert {(read_instant(one.at) or 0) - DAY_0 for one in told} == ({50} if writes else {5_050})
    assert {one.cause for one in told} == {"attribute"}
    assert all(in_force(store).done for store in world.stores)


def test_nothing_is_left_over_after_many_equal_refreshes(world: World) -> None:
    world.loop.advance(DAY_0 + 50)
    world.new()
    for number in range(20):
        world.loop.refresh(world.load({"ann": "free", "bob": "paid", "cid": "free"}))
        world.loop.advance(DAY_0 + 51 + number)
    assert world.new() == []
    for actor in world.loop.actors:
        assert not actor.refresh.busy
        assert actor.refresh.before == {}
