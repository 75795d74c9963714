"""Definitions that change while people merge: mail of one stage is read in another, frozen profiles go on in a later one.

What stays in every stage is as if nothing had been changed; what came and went has left nothing. The number in the name of a
failed test is its seed; OPPORTUNE_SEED=N replays it, OPPORTUNE_SEEDS=N runs so many.
"""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from opportune.audiences.schema import AudienceCondition, Condition, Not
from opportune.identifiers import ANONYMOUS_ID, EMAIL, USER_ID, IdentitySettings
from opportune.project import Project
from state.keys import decode_member
from tests.oracle.builders import DAY_0, happened, predicate, project
from tests.oracle.history import live
from tests.oracle.identity import Resolver
from tests.simulation.people import STEP_MS, Crowd, texts
from tests.simulation.test_identity import AUDIENCES, SEEDS, alone, check_always, living
from tests.simulation.world import World

LIMITS = {"user_id": 1, "email": 5, "anonymous_id": 100}
NOISE: list[dict[str, Condition]] = [
    {},
    {
        "a_first": happened("C", times=predicate(gte=2)),
        "oftener": happened("A", times=predicate(gte=5), within_ms=STEP_MS),
    },
    {"b_second": happened("D"), "inverse": Not((AudienceCondition("never"),)), "zz": happened("B", within_ms=STEP_MS)},
]


def made(noise: dict[str, Condition]) -> Project:
    """The audiences that stay, and some that do not: so numbers and groups lie elsewhere in each stage."""
    namespaces = tuple(
        msgspec.structs.replace(namespace, limit=LIMITS[namespace.name]) for namespace in (USER_ID, EMAIL, ANONYMOUS_ID)
    )
    return msgspec.structs.replace(project({**AUDIENCES, **noise}), identity=IdentitySettings(namespaces))


@pytest.mark.parametrize("seed", list(SEEDS)[:80])
def test_what_stays_is_as_if_nothing_had_changed(seed: int) -> None:
    random = Random(seed)
    log = Crowd(random, random.randint(2, 7), shared=False).log(random.randint(1, 3), random.randint(20, 200))
    world = World(made(random.choice(NOISE)), random.randint(1, 5), log, random)
    steps = random.randint(100, 1_500)
    changes = {random.randrange(steps) for _ in range(random.randint(1, 4))}
    for step in range(steps):
        if step in changes:
            world.deploy(made(random.choice(NOISE)))
        world.step()
    if random.random() < 0.5:
        world.deploy(made(NOISE[0]))
    end = DAY_0 + 210 * STEP_MS
    world.drain(end)
    heads = world.heads()
    check_always(world, heads, LIMITS)
    records = sorted((one for part in world.log for one in part), key=lambda one: one[1])
    resolver = Resolver(LIMITS, frozenset({"anonymous_id"}))
    for number, (raw, _) in enumerate(records):
        resolver.take(number, texts(raw))
    found = living(heads)
    for profile in resolver.profiles():
        members = live(made({}), [alone(records[number], profile.id) for number in profile.events], end).members
        expected = {audience for audience, who in members.items() if who}
        said = {world.compiled.names[number] for number in found[profile.id].members}
        assert said & AUDIENCES.keys() == expected
    indexed = {decode_member(key) for store in world.stores for key, _ in store.scan("members")}
    assert indexed == {(number, bytes.fromhex(id_)) for id_, head in found.items() for number in head.members}
    assert not any(actor.succession.busy for actor in world.actors)
