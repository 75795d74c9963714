"""People are forgotten at any step: in the middle of merges, by any of their identifiers, twice, with shards that die.

The number in the name of a failed test is its seed; OPPORTUNE_SEED=N replays it, OPPORTUNE_SEEDS=N runs so many.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from random import Random

import msgspec
import pytest

from flows.control import Erased, Forget, Forgotten, decode_decision, encode_decision
from flows.drained import is_quiet
from flows.erasures import Erasures
from opportune.audiences.schema import Condition, Not
from opportune.identifiers import ANONYMOUS_ID, EMAIL, USER_ID, IdentitySettings
from opportune.identity import NOBODY, digest_of
from opportune.membership import MembershipChange
from opportune.profile import ELSEWHERE, FROZEN, MOVED, Profile
from opportune.project import Project
from state.keys import PROFILE_BYTES, decode_member, decode_timer
from tests.oracle.builders import DAY_0, happened, project
from tests.oracle.history import live
from tests.oracle.identity import Resolver
from tests.simulation.people import STEP_MS, Crowd, texts
from tests.simulation.test_identity import AUDIENCES, alone, counted, living
from tests.simulation.world import World

FOUND = (88, 203, 373)
"""Seeds that found something: claims of identifiers of the forgotten that were on their way."""
SEEDS = (
    [int(os.environ["OPPORTUNE_SEED"])]
    if "OPPORTUNE_SEED" in os.environ
    else sorted({*range(int(os.environ.get("OPPORTUNE_SEEDS", "40"))), *FOUND})
)
LIMITS = {"user_id": 1, "email": 5, "anonymous_id": 100}
END = DAY_0 + 210 * STEP_MS


def made_world(seed: int, *, shared: bool, limits: dict[str, int]) -> tuple[World, Project, Random]:
    """A world at its beginning."""
    random = Random(seed)
    namespaces = tuple(
        msgspec.structs.replace(namespace, limit=limits[namespace.name]) for namespace in (USER_ID, EMAIL, ANONYMOUS_ID)
    )
    made = msgspec.structs.replace(project(AUDIENCES), identity=IdentitySettings(namespaces))
    log = Crowd(random, random.randint(2, 5), shared=shared).log(random.randint(1, 3), random.randint(20, 120))
    return World(made, random.randint(1, 4), log, random), made, random


def everybody(world: World) -> list[str]:
    """The identifiers of the log."""
    return sorted({text for part in world.log for raw, _ in part for text in texts(raw)})


def read_to(world: World, at_ms: int) -> None:
    """Everything that arrived up to an instant is read; mail of it may be on its way."""
    for shard in range(world.shards):
        for partition, records in enumerate(world.log):
            read = (world.actors[shard].positions.get(world.topic_id, partition) or (0, 0))[0]
            world.read(shard, partition, sum(arrival <= at_ms for _, arrival in records) - read)


def finish(world: World) -> None:
    """Goes on until every request is known to be complete, as a job does."""
    until = END
    for _ in range(20):
        world.settle()
        for actor in world.actors:
            actor.snapshot()
            actor.committed()
        until += 2_000
        world.pass_time(until)
        for request in world.erasures.complete():
            world.control.append((encode_decision(Erased(generation=1, request=request, at="")), 0))
        if not world.erasures.open and is_quiet(world.actors):
            return
    raise AssertionError(f"never complete: {world.actors[0].graph.forgetting.requests.open}")


def forgotten(world: World) -> list[Forgotten]:
    """What the shards have told of people who were forgotten."""
    decisions = [decode_decision(value) for value, _ in world.control]
    return [decision for decision in decisions if isinstance(decision, Forgotten)]


def check_nothing_is_left(world: World, heads: dict[bytes, Profile]) -> None:
    """What is stored, and what a reader of the topic believes, is of profiles that live."""
    alive = living(heads)
    gone = {one.profile for one in forgotten(world) if one.profile} - alive.keys()
    for actor in world.actors:
        for key, value in actor.store.scan("profiles"):
            if len(key) > PROFILE_BYTES:
                assert key[:PROFILE_BYTES].hex() in alive, f"of {key[:PROFILE_BYTES].hex()} there is {value!r}"
        for key, _ in actor.store.scan("timers"):
            assert decode_timer(key)[1].hex() in alive
        for key, _ in actor.store.scan("members"):
            number, owner = decode_member(key)
            assert number in alive[owner.hex()].members
    members, last = subscribed(world)
    assert not gone & {profile for inside in members.values() for profile in inside}
    names = world.compiled.names
    for number, name in enumerate(names):
        assert members[name] == {id_ for id_, head in alive.items() if number in head.members}
    for profile in gone:
        keys = [f"{profile}/{name}".encode() for name in names]
        assert all(last[key] is None for key in keys), f"the topic still has keys of {profile}"


def subscribed(world: World) -> tuple[dict[str, set[str]], dict[bytes, bytes | None]]:
    """Who is in each audience for a subscriber who keeps the contract, and the last record of each key."""
    versions: dict[str, int] = {}
    members: dict[str, set[str]] = defaultdict(set)
    last: dict[bytes, bytes | None] = {}
    for message in world.sent:
        last[message.key or b""] = message.value
        if message.value is None:
            continue
        change = msgspec.json.decode(message.value, type=MembershipChange)
        if change.version > versions.get(change.profile_id, 0):
            versions[change.profile_id] = change.version
            inside = members[change.audience]
            (inside.add if change.change == "entered" else inside.discard)(change.profile_id)
    return members, last


def check_resolved(world: World, heads: dict[bytes, Profile], limits: dict[str, int]) -> None:
    """Each identifier leads to one profile that has it, or to nobody."""
    assert not world.letters
    resolved: dict[str, set[str]] = defaultdict(set)
    for text in everybody(world):
        at: bytes = digest_of(text)
        if at in heads and heads[at].fate & ELSEWHERE:
            at = heads[at].founder or b""
        while at in heads and heads[at].fate & MOVED:
            at = heads[at].into or b""
        if at != NOBODY and at in heads and heads[at].now:
            resolved[at.hex()].add(text)
    for id_, head in living(heads).items():
        assert not head.pending
        assert not head.fate & FROZEN
        assert set(head.identifiers) == resolved[id_]
        assert len(head.identifiers) == len(resolved[id_])
        for namespace, limit in limits.items():
            assert sum(text.startswith(f"{namespace}:") for text in head.identifiers) <= limit


@pytest.mark.parametrize("seed", SEEDS)
def test_the_forgotten_are_as_if_they_had_never_been(seed: int) -> None:
    world, made, random = made_world(seed, shared=False, limits=LIMITS)
    log = sorted((one for part in world.log for one in part), key=lambda one: one[1])
    cuts = sorted(random.sample(range(len(log)), random.randint(1, 3)))
    who = [random.sample(everybody(world), random.randint(1, 2)) for _ in cuts]
    resolver = Resolver(LIMITS, frozenset({"anonymous_id"}))
    for _ in range(random.randint(0, 40)):
        world.step(until_ms=log[cuts[0]][1])
    for number, (raw, arrival) in enumerate(log):
        resolver.take(number, texts(raw))
        if number in cuts:
            read_to(world, arrival)
            at = cuts.index(number)
            if random.random() < 0.3:
                world.settle()
            world.forget(f"r{at}", who[at], arrival)
            # Merges may be in their middle when the shards hear of it.
            for _ in range(random.randint(0, 100)):
                world.step(until_ms=arrival)
            for text in who[at]:
                resolver.forget(text)
            following = log[cuts[at + 1]][1] if at + 1 < len(cuts) else END
            world.settle()
            for _ in range(random.randint(0, 200)):
                world.step(until_ms=following)
    world.drain(END)
    heads = world.heads()
    check_resolved(world, heads, LIMITS)
    found = living(heads)
    assert {profile.id: profile.identifiers for profile in resolver.profiles()} == {
        id_: set(head.identifiers) for id_, head in found.items()
    }
    for profile in resolver.profiles():
        records = [alone(log[number], profile.id) for number in profile.events]
        expected = {audience for audience, inside in live(made, records, END).members.items() if inside}
        assert {world.compiled.names[number] for number in found[profile.id].members} == expected
    finish(world)
    check_nothing_is_left(world, world.heads())


@pytest.mark.parametrize("seed", SEEDS)
def test_at_any_step_an_event_is_of_somebody_forgotten_or_counts_once(seed: int) -> None:
    world, _, random = made_world(seed, shared=False, limits=LIMITS)
    ask_at_any_step(world, random)
    heads = world.heads()
    check_resolved(world, heads, LIMITS)
    until: dict[str, int] = defaultdict(int)
    for told in forgotten(world):
        for digest in told.identifiers or [told.asked]:
            until[digest] = max(until[digest], told.until)
    every = [(raw, arrival, until[digest_of(texts(raw)[0]).hex()]) for part in world.log for raw, arrival in part]
    newer = {raw for raw, arrival, before in every if arrival > before}
    # A copy that came later may have been left out as a repeat of one that was forgotten then.
    repeated = {raw for raw, arrival, before in every if arrival <= before} & newer
    most = sum(json.loads(raw).get("event") == "A" for raw in newer)
    assert most - len(repeated) <= counted(world, heads) <= most
    check_no_trace(world, heads)
    check_only_the_asked_went(world)


@pytest.mark.parametrize("seed", SEEDS)
def test_with_conflicts_nothing_is_left_and_no_limit_passed(seed: int) -> None:
    limits = {"user_id": 1, "email": Random(seed).randint(1, 2), "anonymous_id": Random(seed).randint(1, 4)}
    world, _, random = made_world(seed, shared=True, limits=limits)
    ask_at_any_step(world, random)
    heads = world.heads()
    check_resolved(world, heads, limits)
    messages = {raw for part in world.log for raw, _ in part}
    assert counted(world, heads) <= sum(json.loads(raw).get("event") == "A" for raw in messages)


def ask_at_any_step(world: World, random: Random) -> None:
    """Requests at any step, some by several identifiers, some twice; then all is done."""
    steps = random.randint(100, 1_000)
    asked = sorted(random.sample(range(steps), random.randint(1, 4)))
    who = everybody(world)
    for step in range(steps):
        world.step()
        if step in asked:
            read = [
                part[(actor.positions.get(world.topic_id, number) or (0, 0))[0] - 1][1]
                for actor in world.actors
                for number, part in enumerate(world.log)
                if actor.positions.get(world.topic_id, number)
            ]
            world.forget(f"r{step}", random.sample(who, random.randint(1, 2)), random.choice([*read, DAY_0]))
    world.drain(END)
    finish(world)
    check_nothing_is_left(world, world.heads())


def check_no_trace(world: World, heads: dict[bytes, Profile]) -> None:
    """An identifier that nobody has any more is nowhere in the state."""
    held = {text for head in living(heads).values() for text in head.identifiers}
    for text in set(everybody(world)) - held:
        for actor in world.actors:
            for family in ("profiles", "identifiers", "timers", "members"):
                for key, value in actor.store.scan(family):
                    assert text.encode() not in value, f"{text} is in {family} under {key.hex()}"


def check_only_the_asked_went(world: World) -> None:
    """Without conflicts a request concerns the people whose identifiers it names, and nobody else."""
    # The crowd numbers its people in their identifiers: u1, d1.0, e1.0@x.example.
    whose = {digest_of(text).hex(): text.partition(":")[2][1] for text in everybody(world)}
    asked: dict[str, set[str]] = {}
    for value, _ in world.control:
        decision = decode_decision(value)
        if isinstance(decision, Forget):
            asked[decision.request] = {whose[digest] for digest in decision.identifiers}
        elif isinstance(decision, Forgotten):
            assert {whose[digest] for digest in decision.identifiers} <= asked[decision.request]


OTHER: list[dict[str, Condition]] = [{"b_more": happened("B")}, {"a_more": Not((happened("C"),))}, {}]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_topic_keeps_no_key_of_the_forgotten_in_audiences_that_are_gone(seed: int) -> None:
    """Definitions change at any step, and people are forgotten: keys of all audiences that there ever were get tombstones."""
    world, made, random = made_world(seed, shared=False, limits=LIMITS)
    others = [project({**AUDIENCES, **other}) for other in OTHER]
    steps = random.randint(100, 600)
    changes = set(random.sample(range(steps), 3))
    for step in range(steps):
        world.step()
        if step in changes:
            world.deploy(msgspec.structs.replace(random.choice(others), identity=made.identity))
    world.deploy(made)
    world.drain(END)
    while any(actor.succession.busy for actor in world.actors):
        world.pass_time(END)
    # A start after which no shard has anything to do with the former definitions.
    world.deploy(made)
    for text in random.sample(everybody(world), 2):
        world.forget(f"of {text}", [text], END)
    world.erasures = Erasures(world.actors)
    finish(world)
    gone = {one.profile for one in forgotten(world) if one.profile}
    _, last = subscribed(world)
    for profile in gone:
        left = {key: value for key, value in last.items() if key.startswith(profile.encode()) and value is not None}
        assert not left, f"the topic still has {left}"
