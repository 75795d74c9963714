"""One shard: whatever comes in one poll and however people turn out to be one, what is told is what a replay tells.

Not here: several shards, where mail takes its time (tests.simulation.test_identity).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec
import pytest

from flows.loop import Arrived, Loop
from flows.replay import replay
from opportune.identifiers import ANONYMOUS_ID, EMAIL, USER_ID, IdentitySettings
from opportune.membership import MembershipChange
from opportune.project import Project
from tests.oracle.builders import DAY_0, project
from tests.simulation.people import STEP_MS, Crowd
from tests.simulation.test_identity import AUDIENCES

SEEDS = 200
WIDE = {"user_id": 1_000, "email": 1_000, "anonymous_id": 1_000}
TIGHT = {"user_id": 1, "email": 2, "anonymous_id": 3}


def project_of(limits: dict[str, int]) -> Project:
    namespaces = tuple(
        msgspec.structs.replace(namespace, limit=limits[namespace.name]) for namespace in (USER_ID, EMAIL, ANONYMOUS_ID)
    )
    return msgspec.structs.replace(project(AUDIENCES), identity=IdentitySettings(namespaces))


def played(
    made: Project, records: Sequence[tuple[bytes, int]], random: Random, polls: Sequence[int]
) -> list[MembershipChange]:
    """What a job tells that is given some records at a time, and may die between them; time goes on behind them or later."""
    loop = Loop(made, 1)
    offset = 0
    while offset < len(records):
        part = records[offset : offset + random.choice(polls)]
        loop.feed([Arrived("events", 0, offset + at, arrival, raw) for at, (raw, arrival) in enumerate(part)])
        offset += len(part)
        if random.random() < 0.3:
            loop.advance(part[-1][1])
        if random.random() < 0.05:
            loop.restart()
    loop.advance(records[-1][1] + 1)
    return loop.changes


def told(changes: Sequence[MembershipChange]) -> list[tuple[object, ...]]:
    """What subscribers are told, each person's in order."""
    return sorted(
        (one.profile_id, one.version, one.at, one.audience, one.change, one.cause, one.event_id or "")
        for one in changes
    )


@pytest.mark.parametrize(("limits", "polls"), [(WIDE, (1, 2, 5, 40)), (TIGHT, (1,))], ids=["wide", "tight"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_live_is_replay(seed: int, limits: dict[str, int], polls: tuple[int, ...]) -> None:
    random = Random(seed)
    crowd = Crowd(random, random.randint(2, 7), shared=limits is TIGHT)
    (records,) = crowd.log(1, random.randint(20, 150))
    assert records[0][1] == DAY_0
    assert records[-1][1] == DAY_0 + (len(records) - 1) * STEP_MS
    made = project_of(limits)
    assert told(played(made, records, random, polls)) == told(replay(made, [raw for raw, _ in records]).changes)
