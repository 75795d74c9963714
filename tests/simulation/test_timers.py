"""Timers while mail is on its way: who is in an audience changes at the instants at which it would without shards.

Everybody has an id and one device that is known to be theirs; then the devices alone send events. Pointers of most devices are on
other shards than the profiles, so most events are sent on, and come late, after deaths, or again; meanwhile time goes on as far as
flows.mail_time lets it. The changes are those of one sequence, each once for whoever keeps the subscriber's contract.
The number in the name of a failed test is its seed; OPPORTUNE_SEED=N replays it, OPPORTUNE_SEEDS=N runs so many.
Not here: several devices of a person, whose events may come before each other's (tests.simulation.test_known_gaps).
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random

import msgspec
import pytest

from opportune.audiences.schema import Condition, Not
from opportune.event import instant_ms
from opportune.identifiers import ANONYMOUS_ID, EMAIL, USER_ID, IdentitySettings
from opportune.identity import profile_id
from opportune.project import Project
from tests.oracle.builders import DAY_0, happened, message, predicate, project
from tests.oracle.history import live
from tests.simulation.order import Order
from tests.simulation.people import STEP_MS, texts
from tests.simulation.test_identity import alone
from tests.simulation.world import World

SEEDS = (
    [int(os.environ["OPPORTUNE_SEED"])]
    if "OPPORTUNE_SEED" in os.environ
    else range(int(os.environ.get("OPPORTUNE_SEEDS", "60")))
)
AUDIENCES: dict[str, Condition] = {
    "lately": happened("A", within_ms=7 * STEP_MS),
    "often": happened("A", times=predicate(gte=3), within_ms=30 * STEP_MS),
    "away": Not((happened("B", within_ms=11 * STEP_MS),)),
    "few": happened("B", times=predicate(lt=2), within_ms=20 * STEP_MS),
}
LIMITS = {"user_id": 1, "email": 5, "anonymous_id": 100}
Told = Counter[tuple[str, str, str, int]]
"""How often a profile was told to have entered or exited an audience at an instant."""


class Devices:
    """People with a device each.

    Args:
        random: decides.
        partitions: of the topic; a device writes to one of them.
    """

    def __init__(self, random: Random, partitions: int) -> None:
        self.random = random
        self.count = random.randint(1, 6)
        self.log: list[list[tuple[bytes, int]]] = [[] for _ in range(partitions)]
        self.of: dict[str, list[tuple[bytes, int]]] = {f"u{number}": [] for number in range(self.count)}
        self.sent = 0

    def send(self, number: int, event: str, *, signed_in: bool, **fields: object) -> None:
        """An event of a device, a step after the last one."""
        at = self.sent * STEP_MS
        fields |= {"event": event, "anonymousId": f"d{number}", "messageId": f"m{at}"}
        user = f"u{number}" if signed_in else None
        raw = message("identify" if "traits" in fields else "track", at, user, **fields)
        self.log[number % len(self.log)].append((raw, DAY_0 + at))
        self.of[f"u{number}"].append((raw, DAY_0 + at))
        self.sent += 1

    def introduce(self) -> None:
        """Some devices are used before anybody signs in there, and some people give an address first: profiles move, even twice."""
        for number in range(self.count):
            if self.random.random() < 0.5:
                self.send(number, self.random.choice("AB"), signed_in=False)
        for number in range(self.count):
            if self.random.random() < 0.5:
                self.send(number, "C", signed_in=False, traits={"email": f"e{number}@x.example"})
        for number in range(self.count):
            self.send(number, "C", signed_in=True)

    def use(self, times: int) -> None:
        """Events of devices, with pauses in which somebody else sends them."""
        for _ in range(times):
            who = self.random.randrange(self.count)
            self.send(who, self.random.choice("AABC"), signed_in=False)


def told(world: World, after_ms: int) -> Told:
    """The changes that a subscriber takes, of later instants."""
    versions: dict[str, int] = {}
    taken: Told = Counter()
    for change in world.changes:
        if change.version > versions.get(change.profile_id, 0):
            versions[change.profile_id] = change.version
            if instant_ms(change.at) > after_ms:
                taken[change.profile_id, change.audience, change.change, instant_ms(change.at)] += 1
    return taken


def due(made: Project, devices: Devices, after_ms: int, end_ms: int) -> Told:
    """The changes of people who are in one place, of later instants."""
    found: Told = Counter()
    for user, records in devices.of.items():
        who = profile_id("user_id", user).hex()
        for change in live(made, [alone(one, user) for one in records], end_ms).changes:
            if change.at > after_ms:
                found[who, change.audience, change.change, change.at] += 1
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_mail_that_is_on_its_way_holds_timers_back(seed: int) -> None:
    random = Random(seed)
    namespaces = tuple(
        msgspec.structs.replace(namespace, limit=LIMITS[namespace.name]) for namespace in (USER_ID, EMAIL, ANONYMOUS_ID)
    )
    made = msgspec.structs.replace(project(AUDIENCES), identity=IdentitySettings(namespaces))
    devices = Devices(random, random.randint(1, 3))
    devices.introduce()
    known_ms = DAY_0 + (devices.sent - 1) * STEP_MS
    devices.use(random.randint(20, 150))
    last_ms = DAY_0 + (devices.sent - 1) * STEP_MS
    everybody = {text for part in devices.log for raw, _ in part for text in texts(raw)}
    order = Order(LIMITS, frozenset({"anonymous_id"}), everybody)
    world = World(made, random.randint(2, 5), devices.log, random, order=order)
    for shard in range(world.shards):
        for partition in range(len(devices.log)):
            world.read(shard, partition, devices.sent, known_ms)
    world.settle()
    world.pass_time(known_ms)
    for _ in range(random.randint(200, 2_000)):
        world.step()
        for shard in range(world.shards):
            world.tick(shard, last_ms)
    end_ms = last_ms + 60 * STEP_MS
    world.drain(end_ms)
    assert told(world, known_ms) == due(made, devices, known_ms, end_ms)
