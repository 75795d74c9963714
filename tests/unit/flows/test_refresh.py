"""Tables put in force: who is found, who changes, and a pass that is killed and done again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.actor import Actor
from flows.batch import Batch, LocalRecord, Span
from flows.changes import ChangeWriter
from flows.dead_letters import DeadLetters
from flows.in_force import in_force
from flows.loop import local_topic_id
from flows.refresh import SLICE, put_in_force
from opportune.audiences.schema import All, AttributeCondition, Condition, Not, Table
from opportune.compiled import Compiled
from opportune.errors import StateError
from opportune.identity import profile_id, shard_of
from opportune.router import Router
from state.faults import FaultyStore
from state.memory import MemoryStore
from state.outbox import OutboxMessage
from state.warehouse import WarehouseTable
from tests.oracle.builders import DAY_0, happened, predicate, project, track
from tests.oracle.engine import warehouse
from tests.unit.flows.one_shard import Told, changes, told

FREE = AttributeCondition("customers", "plan", predicate(eq="free"))
A10 = happened("A", within_ms=10)
AUDIENCES: dict[str, Condition] = {
    "free": FREE,
    "free_a": All((FREE, A10)),
    "not_free": Not((FREE,)),
    "no_a": Not((happened("A"),)),
}
TABLE = Table("customers", "customers.csv", "user_id", columns={"plan": "string"})


class World:
    """One shard, a table, and a store that lasts."""

    def __init__(self, directory: Path, rows: dict[str, str], shards: int = 1) -> None:
        self.directory = directory
        self.project = project(AUDIENCES, tables={"customers": TABLE})
        self.compiled = Compiled(self.project)
        self.shards = shards
        self.store = FaultyStore(MemoryStore())
        self.tables = self.load(rows)
        self.offset = 0
        self.start()

    def load(self, rows: dict[str, str]) -> dict[str, WarehouseTable]:
        text = "user_id,plan\n" + "".join(f"{key},{plan}\n" for key, plan in rows.items())
        (self.directory / "customers.csv").write_text(text)
        return warehouse(self.project, self.directory)

    def start(self, tables: dict[str, WarehouseTable] | None = None, shard: int = 0) -> None:
        self.tables = self.tables if tables is None else tables
        writer = ChangeWriter(self.compiled, "memberships", 1, lambda: DAY_0)
        self.actor = Actor(
            shard, self.compiled, self.store, tables=self.tables, changes=writer, dead_letters=DeadLetters("d", 1 << 20)
        )
        while self.actor.hand_over.resending:
            self.actor.hand_over.resend()

    def enforce(self, at: int) -> Iterator[list[OutboxMessage]]:
        return put_in_force(self.actor, self.tables, self.shards, DAY_0 + at)

    def told(self, at: int) -> list[Told]:
        return [one for messages in self.enforce(at) for one in told(messages)]

    def feed(self, name: str, at: int, person: str) -> list[Told]:
        raw = track(name, at, person)
        events: list[object] = []
        Router(self.compiled, 1).route(
            [LocalRecord("events", 0, self.offset, raw)], [raw], [DAY_0 + at], [events.append]
        )
        span = Span("events", local_topic_id("events"), 0, self.offset, self.offset + 1, DAY_0 + at)
        self.offset += 1
        return told(self.actor.apply(Batch(0, [span], events)))


def test_people_who_never_sent_an_event_are_found_by_their_rows(tmp_path: Path) -> None:
    world = World(tmp_path, {"ann": "free", "bob": "paid"})
    found = [one for messages in world.enforce(5) for one in changes(messages)]
    by_person = {name: profile_id("user_id", name).hex() for name in ("ann", "bob")}
    assert {(one.profile_id, one.audience, one.change, one.cause) for one in found} == {
        (by_person["ann"], "free", "entered", "attribute"),
        (by_person["ann"], "no_a", "entered", "attribute"),
        (by_person["bob"], "not_free", "entered", "attribute"),
        (by_person["bob"], "no_a", "entered", "attribute"),
    }
    assert {one.at for one in found} == {"2023-11-14T22:13:20.005Z"}
    assert {tuple(one.identifiers["user_id"]) for one in found} == {("ann",), ("bob",)}
    assert world.actor.counts["profiles"] == 2


def test_the_same_tables_again_change_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, {"ann": "free"})
    assert world.told(5)
    assert in_force(world.store).done
    assert world.told(9) == []
    world.start()
    written = world.store.writes
    assert world.told(9) == []
    assert world.store.writes == written


def test_new_rows_change_who_is_there_and_what_is_due_goes_first(tmp_path: Path) -> None:
    world = World(tmp_path, {"ann": "free", "bob": "paid"})
    world.told(0)
    assert world.feed("A", 2, "ann") == [Told(2, "free_a", "entered", "event"), Told(2, "no_a", "exited", "event")]
    world.feed("A", 30, "bob")
    world.start(world.load({"ann": "free", "bob": "free", "cid": "free"}))
    assert sorted(world.told(20)) == [
        # Ann's A left the window at 12, before the rows came.
        Told(12, "free_a", "exited", "time"),
        Told(20, "free", "entered", "attribute"),
        Told(20, "no_a", "entered", "attribute"),
        # Bob was looked at last at 30, and time does not go back for him.
        Told(30, "free", "entered", "attribute"),
        Told(30, "free_a", "entered", "attribute"),
        Told(30, "not_free", "exited", "attribute"),
    ]
    assert world.feed("B", 41, "bob") == []
    assert told(world.actor.apply(Batch(DAY_0 + 41, [], []))) == [Told(40, "free_a", "exited", "time")]


def test_what_is_due_at_the_very_instant_of_a_refresh_is_done_by_it(tmp_path: Path) -> None:
    world = World(tmp_path, {"ann": "free"})
    world.told(0)
    world.feed("A", 2, "ann")
    world.start(world.load({"ann": "free", "new": "paid"}))
    assert Told(12, "free_a", "exited", "attribute") in world.told(12)
    assert world.feed("B", 12, "ann") == []


def test_a_row_that_is_gone_is_missing(tmp_path: Path) -> None:
    world = World(tmp_path, {"ann": "free"})
    world.told(0)
    world.start(world.load({}))
    assert world.told(7) == [Told(7, "free", "exited", "attribute"), Told(7, "not_free", "entered", "attribute")]


@pytest.mark.parametrize("after", range(5))
def test_a_pass_that_was_killed_is_done_again_with_the_same_instant(tmp_path: Path, after: int) -> None:
    rows = {f"u{number}": "free" if number % 3 else "paid" for number in range(2 * SLICE + 10)}
    world = World(tmp_path, rows)
    world.store.fail_writes(after)
    found: dict[str, str] = {}

    def go_on() -> None:
        for messages in world.enforce(5):
            found.update({one.id: one.audience for one in changes(messages)})

    with pytest.raises(StateError):
        go_on()
    world.store.heal()
    world.start()
    for messages in world.enforce(77):
        again = changes(messages)
        assert {one.at for one in again} <= {"2023-11-14T22:13:20.005Z" if after else "2023-11-14T22:13:20.077Z"}
        assert not found.keys() & {one.id for one in again}, "nothing is decided twice"
        found |= {one.id: one.audience for one in again}
    assert len(found) == 2 * len(rows)
    assert in_force(world.store).done


def test_each_shard_takes_its_own_rows(tmp_path: Path) -> None:
    names = [f"u{number}" for number in range(30)]
    world = World(tmp_path, dict.fromkeys(names, "free"), shards=3)
    seen = []
    for shard in range(3):
        world.store = FaultyStore(MemoryStore())
        world.start(shard=shard)
        mine = {one.profile_id for messages in world.enforce(1) for one in changes(messages)}
        assert mine == {profile_id("user_id", n).hex() for n in names if shard_of(profile_id("user_id", n), 3) == shard}
        seen.append(len(mine))
    assert sum(seen) == 30
