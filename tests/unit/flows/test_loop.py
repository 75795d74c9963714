"""The plain driver: all shards in one place, restarts, and what a subscriber sees."""

from __future__ import annotations

import pytest

from flows.loop import Arrived, Loop
from opportune.audiences.schema import Condition, Not
from opportune.settings import Settings
from state.memory import MemoryStore
from tests.oracle.builders import DAY_0, happened, project, track

AUDIENCES: dict[str, Condition] = {"a": happened("A", within_ms=10), "no_b": Not((happened("B"),))}


def arrived(*events: tuple[str, int, str], first: int = 0, partition: int = 0) -> list[Arrived]:
    """Records of a partition: name, instant, person."""
    return [
        Arrived("events", partition, first + at, DAY_0 + instant, track(name, instant, person))
        for at, (name, instant, person) in enumerate(events)
    ]


@pytest.mark.parametrize("shards", [1, 2, 12])
def test_the_number_of_shards_changes_nothing_that_is_told(shards: int) -> None:
    loop = Loop(project(AUDIENCES), shards)
    loop.feed(arrived(*((name, at, f"u{at % 9}") for at in range(30) for name in ("A", "C"))))
    loop.advance(DAY_0 + 100)
    told = sorted((one.at, one.profile_id, one.audience, one.change, one.version) for one in loop.changes)
    single = Loop(project(AUDIENCES), 1)
    single.feed(arrived(*((name, at, f"u{at % 9}") for at in range(30) for name in ("A", "C"))))
    single.advance(DAY_0 + 100)
    assert told == sorted((one.at, one.profile_id, one.audience, one.change, one.version) for one in single.changes)


def test_a_restart_sends_again_and_a_subscriber_sees_each_once() -> None:
    loop = Loop(project(AUDIENCES), 2)
    loop.feed(arrived(("A", 0, "ann"), ("A", 1, "bob")))
    before = list(loop.changes)
    loop.restart()
    assert len(loop.sent) == 2 * len(before)
    loop.feed(arrived(("A", 0, "ann"), ("A", 1, "bob"), ("A", 2, "cid")))
    assert loop.changes[: len(before)] == before
    assert len(loop.changes) == 6
    loop.commit()
    loop.feed(arrived(("C", 3, "dan"), first=3))
    loop.commit()
    loop.feed(arrived(("C", 4, "ann"), first=4))
    sent = len(loop.sent)
    loop.restart()
    assert len(loop.sent) - sent <= 2


def test_time_fires_what_is_due_and_never_goes_back() -> None:
    loop = Loop(project(AUDIENCES), 2)
    loop.feed(arrived(("A", 0, "ann")))
    loop.advance(DAY_0 + 50)
    loop.advance(DAY_0 + 20)
    assert loop.time_ms == DAY_0 + 50
    assert [(one.audience, one.change) for one in loop.changes] == [
        ("a", "entered"),
        ("no_b", "entered"),
        ("a", "exited"),
    ]


def test_dead_letters_are_kept_by_the_shard_of_their_partition() -> None:
    loop = Loop(project(AUDIENCES, Settings()), 2)
    loop.feed([Arrived("events", partition, 0, DAY_0, b"{") for partition in range(5)])
    assert len(loop.letters) == 5
    assert [actor.refused.get("not_json", 0) for actor in loop.actors] == [3, 2]


def test_it_goes_on_with_the_state_that_it_is_given() -> None:
    kept = [MemoryStore(), MemoryStore()]
    one = Loop(project(AUDIENCES), 2, kept.__getitem__)
    one.feed(arrived(("A", 0, "ann")))
    two = Loop(project(AUDIENCES), 2, kept.__getitem__)
    two.feed(arrived(("A", 0, "ann"), ("A", 5, "ann")))
    assert [one.audience for one in two.changes] == ["a", "no_b"]
    assert sum(actor.counts["replayed"] for actor in two.actors) == 1
