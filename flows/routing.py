"""What decides where events go, and what a job says of it when it starts: fingerprints, and the decision ``started``.

Owns: these, and joining a router to its shards. Not here: the layout of decisions (flows.control), whether a state fits (state.shard_identity).
"""

from __future__ import annotations

from flows.actor import Actor
from flows.control import Started
from opportune.audiences.keeps import fingerprint
from opportune.audiences.plan import Plan
from opportune.clock import wall_clock_ms
from opportune.compiled import Compiled
from opportune.event import iso_text
from opportune.project import Project
from opportune.router import Router
from state.shard_identity import Expected, Identity


def routing(project: Project) -> str:
    """Fingerprint of what decides an event's shard, and of what profiles may hold."""
    return fingerprint(project.identity)


def expected(project: Project, plan: Plan, shard: int) -> Expected:
    """What a shard's directory has to be."""
    identity = Identity(project=project.name, shard=shard, shards=project.settings.state.shards)
    return Expected(identity, plan.fingerprint.encode(), routing(project).encode())


def router_of(compiled: Compiled, actors: list[Actor]) -> Router:
    """Routes the events of shards, and asks again whose an identifier is when they say that it was lost or forgotten."""
    router = Router(compiled, len(actors))
    for actor in actors:
        actor.graph.forgetting.on_forgotten = router.people.forget
        actor.on_lost = router.people.disown
    return router


def started(compiled: Compiled, actors: list[Actor]) -> Started:
    """What this process says on the control topic when its shards are open."""
    return Started(
        generation=actors[0].mailbox.generation,
        plan=compiled.plan.fingerprint,
        routing=routing(compiled.project),
        shards=len(actors),
        at=iso_text(wall_clock_ms()),
    )
