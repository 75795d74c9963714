"""What is not yet as IDENTITY.md has it while mail is on its way, each pinned: whoever closes a gap meets its test (ADR 0013).

Not here: what holds when all mail has drained (tests.simulation.test_identity).
"""

from __future__ import annotations

from random import Random

import pytest

from flows.loop import Arrived, Loop
from flows.replay import replay
from opportune.event import instant_ms
from opportune.identity import profile_id, shard_of
from tests.oracle.builders import DAY_0, happened, message, predicate, project
from tests.simulation.world import World

SHARDS = 2
DEVICE = "d1"
HOME = shard_of(profile_id("anonymous_id", DEVICE), SHARDS)
USER = next(name for number in range(99) if shard_of(profile_id("user_id", name := f"u{number}"), SHARDS) == 1 - HOME)


def track(at: int, event: str, user: str | None, device: str | None) -> bytes:
    return message("track", at, user, event=event, anonymousId=device, messageId=f"m{at}")


def exits(mail_first: bool) -> list[int]:
    """Instants at which a user leaves "A in the last 10 s": A at 1 s, and at 9 s on a device whose pointer is elsewhere."""
    raws = [track(0, "B", USER, DEVICE), track(1_000, "A", USER, None), track(9_000, "A", None, DEVICE)]
    log = [[(raw, DAY_0 + instant) for raw, instant in zip(raws, (0, 1_000, 9_000), strict=True)]]
    world = World(project({"lately": happened("A", within_ms=10_000)}), SHARDS, log, Random(1))
    for shard in range(SHARDS):
        world.read(shard, 0, 2)
    world.settle()
    world.read(HOME, 0, 1)
    world.read(1 - HOME, 0, 1)
    if mail_first:
        world.settle()
    for shard in (HOME, 1 - HOME, HOME, 1 - HOME):
        world.tick(shard, DAY_0 + 15_000)
    world.drain(DAY_0 + 30_000)
    return [instant_ms(change.at) - DAY_0 for change in world.changes if change.change == "exited"]


def test_an_event_that_is_sent_on_holds_a_timer_back_where_mail_is_there() -> None:
    assert exits(mail_first=True) == [19_000]


def test_an_event_that_is_sent_on_holds_a_timer_back() -> None:
    assert exits(mail_first=False) == [19_000]


def exits_behind() -> list[int]:
    """As ``exits``, where an event of the user at 20 s is read together with those before it: the job was away."""
    raws = [track(0, "B", USER, DEVICE), track(1_000, "A", USER, None)]
    raws += [track(9_000, "A", None, DEVICE), track(20_000, "A", USER, None)]
    log = [[(raw, DAY_0 + instant) for raw, instant in zip(raws, (0, 1_000, 9_000, 20_000), strict=True)]]
    world = World(project({"lately": happened("A", within_ms=10_000)}), SHARDS, log, Random(1))
    for shard in range(SHARDS):
        world.read(shard, 0, 2)
    world.settle()
    world.read(HOME, 0, 2)
    world.read(1 - HOME, 0, 2)
    world.drain(DAY_0 + 30_000)
    return [instant_ms(change.at) - DAY_0 for change in world.changes if change.change == "exited"]


@pytest.mark.xfail(strict=True, reason="events do not wait for those that are sent on: ADR 0017")
def test_an_event_that_is_sent_on_holds_a_timer_back_when_a_later_one_is_there() -> None:
    assert exits_behind() == [19_000]


def causes(shards: int) -> list[tuple[str, str]]:
    """Changes of a user who signs in, with an event that alone would do, on a device that was in the audience; 0 shards: replay."""
    raws = [
        track(0, "A", None, DEVICE),
        track(1, "A", None, DEVICE),
        track(2, "A", USER, None),
        track(3, "A", USER, DEVICE),
    ]
    made = project({"twice": happened("A", times=predicate(gte=2))})
    if shards:
        loop = Loop(made, shards)
        for offset, raw in enumerate(raws):
            loop.feed([Arrived("events", 0, offset, DAY_0 + offset, raw)])
        changes = loop.changes
    else:
        changes = replay(made, raws).changes
    mine = profile_id("user_id", USER).hex()
    return [(change.change, change.cause) for change in changes if change.profile_id == mine]


def test_who_only_moved_is_no_news_in_a_replay() -> None:
    assert causes(0) == [("entered", "merged")]


def test_who_only_moved_is_no_news_in_one_shard() -> None:
    assert causes(1) == [("entered", "merged")]


@pytest.mark.xfail(strict=True, reason="an event counts before the merge that it brings about: ADR 0013")
def test_who_only_moved_is_no_news_over_shards() -> None:
    assert causes(SHARDS) == [("entered", "merged")]
