"""Changed definitions over a state: what is kept, who is told what, when an audience that waits begins, and kills in between."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from flows.identity.notes import HISTORY
from flows.loop import Arrived, Loop
from flows.succession import SLICE
from opportune.audiences.explain import Explainer
from opportune.audiences.schema import All, AudienceCondition, Condition, Not, TraitCondition
from opportune.cli.explain_tree import tree_text
from opportune.errors import ReadRefused, StateError
from opportune.identity import profile_id, shard_of
from opportune.project import Project
from state.faults import FaultyStore
from state.keys import U16
from state.lineage import lineage_of
from state.memory import MemoryStore
from state.people import People
from state.person import person_state
from tests.oracle.builders import DAY_0, happened, identify, predicate, project, track
from tests.oracle.instants import read_instant, write_instant

THRICE = happened("A", times=predicate(gte=3), within_ms=100)
TWICE = happened("A", times=predicate(gte=2), within_ms=100)
ONCE = happened("A", within_ms=100)
EVER = happened("A")
B100 = happened("B", within_ms=100)
News = list[tuple[int, str, str, str]]


class World:
    """A loop of two shards whose definitions change."""

    def __init__(self, *start_empty: str, **audiences: Condition) -> None:
        self.stores = [FaultyStore(MemoryStore()) for _ in range(2)]
        self.loop = Loop(made(audiences, start_empty), 2, self.stores.__getitem__, counting=True)
        self.offset = 0

    def feed(self, at: int, *people: str, event: str = "A", raw: bytes | None = None) -> None:
        """Events of people, at an instant after DAY_0; ``raw``: one message as it is."""
        bodies = [track(event, at, who) for who in people] if raw is None else [raw]
        records = [Arrived("events", 0, self.offset + n, DAY_0 + at, body) for n, body in enumerate(bodies)]
        self.offset += len(bodies)
        self.loop.feed(records)

    def advance(self, at: int) -> None:
        """Log time goes on, everything is worked off, and is kept."""
        self.loop.advance(DAY_0 + at)
        self.loop.commit()

    def deploy(self, *start_empty: str, **audiences: Condition) -> None:
        """The process ends, and starts with other definitions."""
        self.loop.deploy(made(audiences, start_empty))

    def finish(self) -> None:
        """Everybody whom the definitions concern is renewed."""
        for actor in self.loop.actors:
            while actor.overdue:
                self.loop.take(actor.sweep())

    def new(self) -> News:
        """What was told since this was asked last: at, audience, change, cause."""
        news, self.loop.changes = self.loop.changes, []
        return sorted(((read_instant(one.at) or 0) - DAY_0, one.audience, one.change, one.cause) for one in news)

    def members(self) -> dict[str, int]:
        """How many the index has in each audience."""
        found: dict[str, int] = {}
        names = [*self.loop.compiled.names, *(name for name, _ in self.loop.compiled.gone)]
        for store in self.stores:
            for key, _ in store.scan("members"):
                name = names[int.from_bytes(key[:4], "big")]
                found[name] = found.get(name, 0) + 1
        return found


def made(audiences: Mapping[str, Condition], start_empty: tuple[str, ...] = ()) -> Project:
    return project(dict(audiences), start_empty=start_empty)


def test_an_audience_whose_features_are_kept_is_evaluated_for_everybody() -> None:
    world = World(a=THRICE)
    world.feed(10, "u1", "u1", "u2")
    world.advance(20)
    world.deploy(a=TWICE)
    world.finish()
    assert world.new() == [(20, "a", "entered", "definition")]
    world.advance(200)
    assert world.new() == [(110, "a", "exited", "time")]


def test_those_who_no_longer_qualify_exit() -> None:
    world = World(a=ONCE)
    world.feed(10, "u1", "u1", "u2")
    world.advance(20)
    world.new()
    world.deploy(a=happened("A", times=predicate(lt=1), within_ms=100))
    world.finish()
    assert world.new() == [(20, "a", "exited", "definition")] * 2
    world.advance(200)
    assert world.new() == [(110, "a", "entered", "time")] * 2


def test_the_person_whom_an_event_meets_first_is_renewed_before_it() -> None:
    world = World(a=THRICE)
    world.feed(10, "u1", "u1", "u2", "u2")
    world.advance(20)
    world.deploy(a=TWICE)
    world.feed(30, "u1")
    assert world.new() == [(20, "a", "entered", "definition")]
    world.finish()
    assert world.new() == [(20, "a", "entered", "definition")]


def test_a_new_feature_waits_until_its_window_is_covered() -> None:
    """To its millisecond: the last event that was not seen is at 10, so 110 is the first instant that sees all."""
    world = World(a=ONCE)
    world.feed(10, "u1", "u2", event="B")
    world.feed(11, "u1", event="A")
    world.advance(20)
    world.deploy(a=ONCE, b=B100)
    world.feed(50, "u3", "u2", event="B")
    world.advance(120)
    assert {one[1] for one in world.new()} == {"a"}, "what was read under the former definitions came up to 20"
    world.advance(121)
    assert world.new() == [(120, "b", "entered", "definition")] * 2
    world.advance(200)
    assert world.new() == [(150, "b", "exited", "time")] * 2


def test_at_the_end_of_its_wait_an_audience_is_current_before_the_event_of_that_instant() -> None:
    world = World(a=ONCE)
    world.advance(20)
    world.feed(20, "u1")
    world.deploy(b=B100)
    world.feed(60, "u2", event="B")
    world.feed(120, "u2", "u4", event="B")
    world.advance(121)
    assert [one for one in world.new() if one[1] == "b"] == [(120, "b", "entered", "definition")] * 2


def test_with_start_empty_nobody_waits() -> None:
    world = World(a=ONCE)
    world.feed(10, "u1", event="A")
    world.advance(20)
    world.new()
    world.deploy("c", a=ONCE, c=All((happened("A", times=predicate(gte=2)),)))
    world.feed(30, "u1", "u1")
    assert world.new() == [(30, "c", "entered", "event")]


def test_what_looks_at_all_of_the_past_waits_for_ever() -> None:
    world = World(a=ONCE)
    world.feed(10, "u1")
    world.advance(20)
    world.new()
    world.deploy(a=ONCE, ever=EVER, trait=TraitCondition(("plan",), predicate(eq="free")))
    world.feed(30, "u1", "u2")
    world.feed(40, raw=identify(40, "u1", traits={"plan": "free"}))
    world.advance(10_000_000)
    assert {one[1] for one in world.new()} == {"a"}
    assert world.loop.compiled.plan.waiting.keys() == {1, 2}


def test_the_members_of_an_audience_that_is_gone_exit() -> None:
    world = World(a=ONCE, b=EVER, c=EVER)
    world.feed(10, "u1", "u2")
    world.advance(20)
    world.new()
    world.deploy(c=EVER)
    world.finish()
    assert world.new() == [
        (20, "a", "exited", "definition"),
        (20, "a", "exited", "definition"),
        (20, "b", "exited", "definition"),
        (20, "b", "exited", "definition"),
    ]
    assert world.members() == {"c": 2}


def test_what_is_unchanged_changes_when_and_why_it_would_have() -> None:
    """A timer that was due before the definitions changed, and was not fired yet, is told as of its instant."""
    world = World(a=ONCE, x=EVER)
    world.feed(10, "u1")
    for actor in world.loop.actors:
        actor.reached.time_ms = DAY_0 + 500
    world.loop.commit()
    for store, actor in zip(world.stores, world.loop.actors, strict=True):
        write = store.batch()
        actor.reached.save(write, DAY_0 + 500)
        store.write(write)
    world.new()
    world.deploy(a=ONCE)
    world.finish()
    assert world.new() == [(110, "a", "exited", "time"), (500, "x", "exited", "definition")]


def test_an_audience_that_names_a_changed_one_is_renewed_with_it() -> None:
    world = World(a=THRICE, b=Not((AudienceCondition("a"),)))
    world.feed(10, "u1", "u1")
    world.advance(20)
    assert world.new() == [(10, "b", "entered", "event")]
    world.deploy(a=TWICE, b=Not((AudienceCondition("a"),)))
    world.finish()
    assert world.new() == [(20, "a", "entered", "definition"), (20, "b", "exited", "definition")]


def test_an_audience_that_names_a_waiting_one_waits_with_it() -> None:
    world = World(a=ONCE)
    world.feed(10, "u1")
    world.advance(20)
    world.new()
    world.deploy(a=B100, b=Not((AudienceCondition("a"),)))
    world.advance(119)
    assert world.new() == [], "those who were in stay, untold, until it is known"
    world.advance(121)
    assert world.new() == [(120, "a", "exited", "definition"), (120, "b", "entered", "definition")]


def test_a_count_that_has_to_tell_more_apart_waits_and_the_others_go_on() -> None:
    world = World(a=ONCE)
    world.feed(10, "u1", "u1", "u1")
    world.advance(20)
    world.new()
    world.deploy(a=ONCE, b=THRICE)
    world.feed(30, "u1")
    world.advance(100)
    assert world.new() == []
    world.feed(100, "u1", "u1")
    world.advance(121)
    assert world.new() == [(120, "b", "entered", "definition")]


def test_a_feature_that_went_and_came_back_has_not_seen_what_was_in_between() -> None:
    world = World(a=EVER)
    world.feed(10, "u1")
    world.advance(20)
    world.new()
    world.deploy(b=B100)
    world.deploy(a=happened("A", times=predicate(lt=1)))
    world.finish()
    assert world.new() == [], "the state of before is not the whole of it"
    assert world.loop.compiled.plan.waiting.keys() == {0}


def test_two_changes_before_anybody_was_renewed_come_to_the_second() -> None:
    world = World(a=THRICE)
    world.feed(10, "u1", "u1")
    world.advance(20)
    world.deploy(a=TWICE)
    world.deploy(a=ONCE, z=TWICE)
    world.finish()
    assert world.new() == [(20, "a", "entered", "definition"), (20, "z", "entered", "definition")]
    assert world.members() == {"a": 1, "z": 1}


@pytest.mark.parametrize("written", range(8))
def test_a_kill_in_the_middle_goes_on_with_who_is_left(written: int) -> None:
    """The store refuses a write in the pass: the process dies, and starts again."""
    people = [f"u{number}" for number in range(3 * SLICE)]
    world = World(a=TWICE, gone=ONCE)
    world.feed(10, *people, *people)
    world.advance(20)
    world.new()
    world.deploy(a=ONCE, b=TWICE)
    world.stores[written % 2].fail_writes(written // 2)
    try:
        world.finish()
    except StateError:
        world.stores[written % 2].heal()
        world.loop.restart()
    world.finish()
    told = world.new()
    exits = [(20, "gone", "exited", "definition")] * len(people)
    assert told == sorted([*exits, *[(20, "b", "entered", "definition")] * len(people)])
    assert world.members() == {"a": len(people), "b": len(people)}
    for store in world.stores:
        lineage = lineage_of(store)
        assert lineage is not None
        assert (lineage.done, len(lineage.layouts)) == (True, 1)


def test_nothing_of_what_is_gone_stays_in_the_store() -> None:
    world = World(a=ONCE, b=B100, c=happened("C", within_ms=10))
    world.feed(10, "u1")
    world.feed(10, "u1", event="B")
    world.feed(10, "u1", event="C")
    world.advance(20)
    world.deploy(c=happened("C", within_ms=10))
    world.finish()
    keys = [key for store in world.stores for key, _ in store.scan("profiles")]
    owner = profile_id("user_id", "u1")
    history = owner + U16(HISTORY)
    assert keys == [owner, owner + b"\0\1", history], (
        "head, the group of what stays, and which event brought the identifier"
    )


def test_a_reader_says_of_people_what_the_job_will_make_of_them() -> None:
    """Before they are renewed, while an audience waits, and at the end of its wait."""
    world = World(a=THRICE, gone=ONCE, z=EVER)
    world.feed(10, "u1", "u1", "u2")
    world.advance(20)
    world.deploy(a=TWICE, b=B100, z=EVER)
    owner = profile_id("user_id", "u1")
    store = world.stores[shard_of(owner, 2)]

    def read(time: int) -> tuple[list[tuple[str, int]], dict[str, int]]:
        found = People(world.loop.compiled, {}, lineage_of(store)).find(store, owner, DAY_0 + time)
        assert found is not None
        memberships = [(one.audience, one.since_ms - DAY_0) for one in found.memberships]
        return memberships, {name: until_ms - DAY_0 for name, until_ms in found.warming.items()}

    said = read(20)
    assert said == ([("a", 20), ("z", 10)], {"b": 120})
    with pytest.raises(ReadRefused, match="put in force"):
        People(world.loop.compiled, {}, lineage_of(store)).corrected(store, DAY_0 + 20)
    world.finish()
    assert read(20) == said
    people = People(world.loop.compiled, {}, lineage_of(store))
    assert people.corrected(store, DAY_0 + 20) == {}
    assert not people.is_known(1, people.warming(DAY_0 + 20))
    world.feed(60, "u1", event="B")
    assert read(120) == ([("z", 10)], {"b": 120}), "what has not begun is not known, what has ended is over"
    assert read(121) == ([("b", 120), ("z", 10)], {}), "the job has not fired it yet"


def test_an_explanation_says_since_when_it_has_seen_what() -> None:
    world = World(a=ONCE)
    world.feed(10, "u1")
    world.advance(20)
    world.deploy(a=ONCE, b=B100, c=EVER)
    world.finish()
    plan, owner = world.loop.compiled.plan, profile_id("user_id", "u1")
    person = person_state(plan, world.stores[shard_of(owner, 2)], owner, {})
    assert person is not None
    a, b, c = (Explainer(plan, person).explain(name, DAY_0 + 30) for name in ("a", "b", "c"))
    assert (a.member, a.condition.seen_since) == (True, None)
    assert (b.member, b.warming_until, b.condition.seen_since) == (None, *map(write_instant, (DAY_0 + 120, DAY_0 + 20)))
    assert (c.member, c.warming_until, c.condition.seen_since) == (None, None, write_instant(DAY_0 + 20))
    assert "whether user_id:u1 is in b" in tree_text(b)
    assert Explainer(plan, person).explain("b", DAY_0 + 120).member is False


@pytest.mark.parametrize("shard", [0, 1])
def test_a_start_that_dies_between_two_shards_is_caught_up(shard: int) -> None:
    """By a start with the same definitions, and by one with others still."""
    for later in (TWICE, ONCE):
        world = World(a=THRICE)
        world.feed(10, "u1", "u1", "u2", "u2")
        world.advance(20)
        world.stores[shard].fail_syncs(0)
        with pytest.raises(StateError):
            world.deploy(a=TWICE)
        world.stores[shard].heal()
        world.deploy(a=later)
        world.finish()
        assert world.new() == [(20, "a", "entered", "definition")] * 2
        assert len({lineage.present.stage for lineage in map(lineage_of, world.stores) if lineage is not None}) == 1


def test_the_same_definitions_are_no_change() -> None:
    world = World(a=ONCE)
    world.feed(10, "u1")
    world.advance(20)
    world.deploy(a=ONCE)
    assert [actor.stage for actor in (one.succession for one in world.loop.actors)] == [0, 0]
    assert not any(actor.overdue for actor in world.loop.actors)
