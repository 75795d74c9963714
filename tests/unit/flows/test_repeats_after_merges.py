"""A message that comes again after its profile was merged, and merged again, is a repeat for whoever has it now."""

from __future__ import annotations

import pytest

from flows.loop import Arrived, Loop
from opportune.identity import profile_id, shard_of
from tests.oracle.builders import DAY_0, happened, message, predicate, project

SHARDS = 2
DEVICE = "d1"


def named(namespace: str, shard: int, pattern: str) -> str:
    """A value whose profile lives in a shard."""
    return next(
        value
        for number in range(100)
        if shard_of(profile_id(namespace, value := pattern.format(number)), SHARDS) == shard
    )


@pytest.mark.parametrize("mail_shard", range(SHARDS))
@pytest.mark.parametrize("user_shard", range(SHARDS))
@pytest.mark.parametrize("restart", [False, True])
def test_a_repeat_stays_one(mail_shard: int, user_shard: int, restart: bool) -> None:
    mail = named("email", mail_shard, "a{}@x.example")
    user = named("user_id", user_shard, "u{}")
    viewed = message("track", 0, None, event="Viewed", anonymousId=DEVICE, messageId="m1")
    signs = [
        viewed,
        message("identify", 1_000, None, anonymousId=DEVICE, traits={"email": mail}, messageId="m2"),
        viewed,
        message("identify", 2_000, user, traits={"email": mail}, messageId="m3"),
        viewed,
        viewed,
    ]
    loop = Loop(project({"once": happened("Viewed"), "twice": happened("Viewed", times=predicate(gte=2))}), SHARDS)
    for offset, raw in enumerate(signs):
        loop.feed([Arrived("events", 0, offset, DAY_0 + 3_000 + offset, raw)])
        for _ in range(8):
            loop.advance(DAY_0 + 3_000 + offset)
        if restart:
            loop.restart()
    known = {change.audience for change in loop.changes}
    assert known == {"once"}, "three repeats of one view"
    owner = profile_id("user_id", user).hex()
    assert [change.change for change in loop.changes if change.profile_id == owner] == ["entered"]
