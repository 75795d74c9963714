"""What a shard has to say to itself: heard in the batch that says it, and no mail."""

from __future__ import annotations

from random import Random

import msgspec

from flows.loop import Arrived, Loop
from opportune.identifiers import ANONYMOUS_ID, USER_ID, IdentitySettings
from opportune.identity import digest_of, shard_of
from opportune.profile import FROZEN, MOVED
from tests.oracle.builders import DAY_0, happened, message, project
from tests.simulation.world import World

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


def test_what_waits_for_a_frozen_profile_is_kept_where_nothing_else_is() -> None:
    """Somebody is to be forgotten who is on the way into another profile, and the batch has nothing but that."""
    user = next(name for number in range(99) if shard_of(digest_of(f"user_id:{(name := f'u{number}')}"), 2) == 0)
    device = next(name for number in range(99) if shard_of(digest_of(f"anonymous_id:{(name := f'd{number}')}"), 2) == 1)
    raws = [message("track", at, who, event="A", anonymousId=device) for at, who in ((0, None), (1, user))]
    made = msgspec.structs.replace(project(AUDIENCES), identity=IdentitySettings((USER_ID, ANONYMOUS_ID)))
    world = World(made, 2, [[(raw, DAY_0 + at) for at, raw in enumerate(raws)]], Random(0))
    world.read(1, 0, 2)
    world.read(0, 0, 2)
    # The claim arrives, and the device's profile offers itself; the offer is still on its way.
    for _ in range(20):
        world.append(0)
        world.deliver(1, 1)
    assert living_fates(world) == {digest_of(f"anonymous_id:{device}"): FROZEN}
    world.forget("r", [f"anonymous_id:{device}"], DAY_0 + 5)
    world.decide(1, 1)
    world.crash(1)
    world.settle()
    world.pass_time(DAY_0 + 10_000)
    assert not [head for head in world.heads().values() if head.now and not head.fate & MOVED], "nobody is left"
    assert not world.actors[0].graph.forgetting.requests.open["r"].waiting


def living_fates(world: World) -> dict[bytes, int]:
    """What is on its way somewhere."""
    return {id_: head.fate for id_, head in world.heads().items() if head.fate & FROZEN}
