"""What a shard has to say to itself: heard in the batch that says it, and no mail."""

from __future__ import annotations

import msgspec

from flows.loop import Arrived, Loop
from opportune.identifiers import ANONYMOUS_ID, USER_ID, IdentitySettings
from opportune.identity import digest_of, shard_of
from tests.oracle.builders import DAY_0, happened, message, project

AUDIENCES = {"looked": happened("A", within_ms=1_000)}


def loop_of(shards: int) -> Loop:
    made = msgspec.structs.replace(project(AUDIENCES), identity=IdentitySettings((USER_ID, ANONYMOUS_ID)))
    return Loop(made, shards)


def feed(loop: Loop, *events: tuple[int, str | None, str]) -> None:
    """One poll of events A: at, userId, anonymousId."""
    first = len(loop.sent) + 1_000 * loop.time_ms
    records = [
        Arrived("events", 0, first + place, DAY_0 + at, message("track", at, user, event="A", anonymousId=device))
        for place, (at, user, device) in enumerate(events)
    ]
    loop.feed(records)


def told(loop: Loop) -> list[tuple[str, str, str]]:
    return [(one.identifiers[next(iter(one.identifiers))][0], one.change, one.cause) for one in loop.changes]


def test_one_shard_needs_no_mail_to_make_one_person_of_two() -> None:
    loop = loop_of(1)
    feed(loop, (10, None, "phone"), (20, None, "laptop"), (30, "ann", "phone"), (40, "ann", "laptop"))
    assert loop.mailbox == [[]]
    store = loop.stores(0)
    assert store.get("profiles", digest_of("user_id:ann")) is not None
    actor = loop.actors[0]
    (ann,) = actor.desk.load([digest_of("user_id:ann")]) or [actor.desk.profiles[digest_of("user_id:ann")]]
    assert ann.identifiers == ["user_id:ann", "anonymous_id:phone", "anonymous_id:laptop"]
    assert not ann.pending
    loop.advance(DAY_0 + 2_000)
    assert [one for one in told(loop) if one[1] == "exited"].count(("ann", "exited", "time")) == 1


def test_the_same_comes_of_it_however_many_shards_there_are() -> None:
    members = []
    for shards in (1, 2, 5):
        loop = loop_of(shards)
        feed(loop, (10, None, "phone"), (20, None, "laptop"), (30, "ann", "phone"), (40, "ann", "laptop"))
        inside: dict[str, str] = {}
        for change in loop.changes:
            inside[change.profile_id] = change.change
        members.append({profile for profile, change in inside.items() if change == "entered"})
    assert members == [{digest_of("user_id:ann").hex()}] * 3


def test_mail_goes_to_other_shards_only() -> None:
    loop = loop_of(4)
    feed(loop, *((at, f"u{at}", f"d{at}") for at in range(1, 40)))
    own = [
        at
        for at in range(1, 40)
        if shard_of(digest_of(f"user_id:u{at}"), 4) == shard_of(digest_of(f"anonymous_id:d{at}"), 4)
    ]
    assert own, "some pairs are of one shard"
    for actor in loop.actors:
        assert actor.shard not in actor.mailbox.sent()
        assert actor.shard not in actor.mailbox.heard()
    for at in own:
        profile = digest_of(f"user_id:u{at}")
        actor = loop.actors[shard_of(profile, 4)]
        actor.desk.load([profile])
        assert f"anonymous_id:d{at}" in actor.desk.profiles[profile].identifiers
