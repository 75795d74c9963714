"""Warehouse rows of any identifier, with tables that change, people who merge, devices that change hands, shards that die.

In the end everybody has the row of their identifiers that holds, and the memberships that it gives.
The number in the name of a failed test is its seed; OPPORTUNE_SEED=N replays it, OPPORTUNE_SEEDS=N runs so many.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import msgspec
import pytest

from flows.identity.attached import FIRST
from opportune.audiences.schema import All, AttributeCondition, Condition, Not, Table
from opportune.identifiers import ANONYMOUS_ID, EMAIL, USER_ID, IdentitySettings, Normalise
from opportune.identity import digest_of
from opportune.profile import ELSEWHERE, FROZEN, MOVED, Profile
from opportune.project import Project
from state.warehouse import WarehouseTable
from tests.oracle.builders import happened, predicate, project
from tests.oracle.engine import warehouse
from tests.simulation.people import STEP_MS, Crowd
from tests.simulation.test_identity import holder, living
from tests.simulation.world import World

SEEDS = (
    [int(os.environ["OPPORTUNE_SEED"])]
    if "OPPORTUNE_SEED" in os.environ
    else range(int(os.environ.get("OPPORTUNE_SEEDS", "200")))
)
PLANS = ("free", "paid", "trial")
KINDS: tuple[tuple[str, str, Normalise], ...] = (
    ("customers", "user_id", "text"),
    ("addresses", "email", "email"),
    ("devices", "anonymous_id", "text"),
)
TABLES = {
    name: Table(name, f"{name}.csv", "key", namespace, columns={"plan": "string"}, normalise=normalise)
    for name, namespace, normalise in KINDS
}
AUDIENCES: dict[str, Condition] = {
    f"{plan}_{name}": AttributeCondition(name, "plan", predicate(eq=plan)) for plan in PLANS for name in TABLES
}
AUDIENCES["no_device"] = Not((AttributeCondition("devices", "plan", predicate(exists=True)),))
AUDIENCES["often"] = All((AUDIENCES["free_devices"], happened("A", times=predicate(gte=2), within_ms=60 * STEP_MS)))
OF_ROWS = [name for name in AUDIENCES if name != "often"]
Contents = dict[str, dict[str, str]]


def drawn(random: Random, crowd: Crowd) -> Contents:
    """Rows for some of everybody's identifiers, and of nobody's."""
    keys = {
        "customers": [*crowd.users, "stranger"],
        "addresses": [address.upper() for theirs in crowd.emails for address in theirs] + ["e@x.example"],
        "devices": [device for theirs in crowd.devices for device in theirs] + ["nobodys"],
    }
    return {
        name: {key: random.choice(PLANS) for key in theirs if random.random() < 0.7} for name, theirs in keys.items()
    }


def loaded(made: Project, directory: Path, contents: Contents) -> dict[str, WarehouseTable]:
    for name, rows in contents.items():
        text = "key,plan\n" + "".join(f"{key},{plan}\n" for key, plan in rows.items())
        (directory / f"{name}.csv").write_text(text)
    return warehouse(made, directory)


def expected(head: Profile, contents: Contents) -> set[str]:
    """The audiences that somebody's rows put them in, by the rule: of several rows that of the smaller identifier."""
    found: dict[str, str] = {}
    for name, rows in contents.items():
        namespace = TABLES[name].namespace
        plans = {f"{namespace}:{key.lower() if name == 'addresses' else key}": plan for key, plan in rows.items()}
        texts = sorted(text for text in head.identifiers if text in plans)
        if texts:
            found[name] = plans[texts[0]]
    members = {f"{plan}_{name}" for name, plan in found.items()}
    return members if "devices" in found else {*members, "no_device"}


@pytest.mark.parametrize("seed", SEEDS)
def test_everybody_has_the_rows_of_their_identifiers(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    made, crowd, world, contents = begun(random, tmp_path)
    for _ in range(random.randint(50, 700)):
        contents = stepped(world, made, crowd, tmp_path, contents)
    settled(world)
    check_rows(world, contents)


@pytest.mark.parametrize("seed", SEEDS[: max(len(SEEDS) // 4, 1)])
def test_at_every_instant_at_which_nothing_is_under_way(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    made, crowd, world, contents = begun(random, tmp_path)
    for _ in range(40):
        for _ in range(random.randint(1, 4)):
            contents = stepped(world, made, crowd, tmp_path, contents)
        settled(world)
        check_rows(world, contents)


def begun(random: Random, directory: Path) -> tuple[Project, Crowd, World, Contents]:
    """A project, its people, and shards that have read nothing yet."""
    made = msgspec.structs.replace(
        project(AUDIENCES, tables=TABLES), identity=IdentitySettings((USER_ID, EMAIL, ANONYMOUS_ID))
    )
    crowd = Crowd(random, random.randint(2, 6), shared=random.random() < 0.7)
    log = crowd.log(random.randint(1, 3), random.randint(10, 80))
    contents = drawn(random, crowd)
    world = World(made, random.randint(1, 4), log, random, loaded(made, directory, contents))
    return made, crowd, world, contents


def stepped(world: World, made: Project, crowd: Crowd, directory: Path, contents: Contents) -> Contents:
    """Something happens; returns the rows that were decided last."""
    random = world.random
    world.step()
    choice = random.random()
    if choice < 0.02:
        contents = drawn(random, crowd)
        world.refresh(loaded(made, directory, contents))
    elif choice < 0.2:
        world.decide(random.randrange(world.shards), 1)
    elif choice < 0.4:
        world.go_on(random.randrange(world.shards))
    return contents


def settled(world: World) -> None:
    """All decisions are read, all mail is delivered, and nothing is left for later."""
    world.settle()
    for shard in range(world.shards):
        while world.actors[shard].overdue:
            world.go_on(shard)
    world.settle()
    for actor in world.actors:
        assert not actor.refresh.busy


def check_rows(world: World, contents: Contents) -> None:
    """Everybody has the memberships of their rows, and every row is somebody's."""
    heads = world.heads()
    names = world.compiled.names
    for id_, head in living(heads).items():
        assert not head.fate & FROZEN
        members = {names[number] for number in head.members}
        assert members & set(OF_ROWS) == expected(head, contents), (id_, head.identifiers)
    for name, rows in contents.items():
        for key in rows:
            text = f"{TABLES[name].namespace}:{key.lower() if name == 'addresses' else key}"
            theirs = heads[holder(heads, text)]
            assert theirs.now, "a row makes a profile"
            assert not theirs.fate & MOVED
            assert text in theirs.identifiers
    check_attached(world, heads)


def check_attached(world: World, heads: dict[bytes, Profile]) -> None:
    """Each shard knows which of its profiles have an identifier that did not found them."""
    for actor in world.actors:
        kept = {
            (key[4:], value[at : at + 16])
            for key, value in actor.store.scan("identifiers", FIRST)
            for at in range(0, len(value), 16)
        }
        wanted = set()
        for id_, head in heads.items():
            if head.now and not head.fate & MOVED and actor.store.get("profiles", id_) is not None:
                wanted |= {
                    (bytes(digest_of(text)), id_)
                    for text in head.identifiers
                    if digest_of(text) != id_ or head.fate & ELSEWHERE
                }
        assert {pair for pair in kept if pair[0] != pair[1]} == {pair for pair in wanted if pair[0] != pair[1]}
