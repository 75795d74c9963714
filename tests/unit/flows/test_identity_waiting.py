"""Mail that waits for a frozen profile: in order, over a restart, at the cost of what comes, and not without end."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from flows.identity.waiting import Waiting
from opportune.identity import profile_id, shard_of
from opportune.profile import FROZEN
from state.memory import MemoryStore
from tests.oracle.builders import DAY_0, happened, message, predicate, project
from tests.simulation.world import World

ONE, OTHER = bytes(range(16)), bytes([*range(15), 16])


def saved(store: MemoryStore, waiting: Waiting) -> int:
    """Writes; returns how many bytes."""
    write = store.batch()
    waiting.save(write)
    changes = write.changes  # type: ignore[attr-defined]  # of a batch in memory
    size = sum(len(value or b"") for _, _, value, _ in changes)
    store.write(write)
    return size


@pytest.mark.parametrize("restart", [False, True])
def test_it_comes_out_in_order_and_only_once(restart: bool) -> None:
    store = MemoryStore()
    waiting = Waiting(store)
    for number in range(30):
        waiting.park(ONE, "meet", b"%d" % number)
        waiting.park(OTHER, "meet", b"other")
        if number % 3 == 2:
            saved(store, waiting)
            waiting = Waiting(store) if restart else waiting
    assert [body for _, body in waiting.release(ONE)] == [b"%d" % number for number in range(30)]
    assert waiting.all(ONE) == []
    waiting.park(ONE, "meet", b"later")
    saved(store, waiting)
    waiting = Waiting(store) if restart else waiting
    assert waiting.all(ONE) == [("meet", b"later")]
    assert len(waiting.all(OTHER)) == 30


def test_a_write_costs_what_came_and_not_what_waits() -> None:
    store = MemoryStore()
    waiting = Waiting(store)
    sizes = []
    for _ in range(200):
        waiting.park(ONE, "forward", b"x" * 100)
        sizes.append(saved(store, waiting))
    assert set(sizes) == {sizes[0]}


def test_events_of_a_bot_end_as_dead_letters_while_its_merge_waits() -> None:
    """The stronger profile lives on a shard that reads nothing."""
    shards = 2
    device = "d1"
    home = shard_of(profile_id("anonymous_id", device), shards)
    user = next(
        name for number in range(99) if shard_of(profile_id("user_id", name := f"u{number}"), shards) == 1 - home
    )
    raws = [
        message("track", 0, None, event="A", anonymousId=device, messageId="m0"),
        message("track", 1, user, event="A", anonymousId=device, messageId="m1"),
        *(message("track", 2 + at, None, event="A", anonymousId=device, messageId=f"n{at}") for at in range(300)),
    ]
    log = [[(raw, DAY_0 + at) for at, raw in enumerate(raws)]]
    world = World(project({"many": happened("A", times=predicate(gte=1_000))}), shards, log, Random(1))
    actor = world.actors[home]
    actor.graph.waiting = Waiting(actor.store, 20_000)
    world.read(home, 0, 2)
    world.read(1 - home, 0, 2)
    for sender in (1 - home, home):
        world.append(sender)
        world.deliver(home, 9)
    assert actor.graph.profile(profile_id("anonymous_id", device)).fate & FROZEN
    for _ in range(30):
        world.read(home, 0, 10)
    waiting = sum(len(body) for _, body in actor.graph.waiting.all(profile_id("anonymous_id", device)))
    assert 20_000 <= waiting < 24_000
    given_up = [dict(letter.headers)["opportune-reason"] for letter in world.letters]
    assert set(given_up) == {b"merge_too_long"}
    world.drain(DAY_0 + 1_000)
    winner = world.heads()[profile_id("user_id", user)]
    group, feature = world.compiled.plan.feature(happened("A", times=predicate(gte=1_000)))
    counted = _count(winner.groups[group.number], feature.number)
    assert counted + len(given_up) == len(raws)


def _count(value: bytes, feature: int) -> int:
    return int(msgspec.msgpack.decode(value)[feature])
