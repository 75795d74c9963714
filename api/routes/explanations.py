"""Why is this person in an audience, or not?

Owns: the route. The tree is that of ``opportune explain --json`` over the state as of the answer's instant.
Invariant: the state is read in one go, between two waits; only what is concluded from it is worked out beside the event loop,
since looking for the next change of a large condition can take long.
Not here: the explanation (opportune.audiences.explain), reading a person (state.person).
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from api.access import Access
from api.freshness import AGE, POSITION, VERSION, as_fresh
from api.routes.lookups import ERRORS, age, encode, no_such_audience, split, unknown
from api.schemas import ExplanationAnswer
from api.shards import Shards
from opportune.audiences.explain import Explainer
from opportune.errors import ReadRefused


def explanation_routes(shards: Shards, access: Access) -> APIRouter:
    """The route of explanations."""
    router = APIRouter(tags=["people"], responses=ERRORS)
    plan, identity = shards.compiled.plan, shards.compiled.project.identity

    @router.get("/v1/profiles/{identifier}/audiences/{audience}/explanation", response_model=ExplanationAnswer)
    async def explanation(
        request: Request,
        identifier: str,
        audience: str,
        min_freshness_ms: int | None = AGE,
        min_position: str | None = POSITION,
        min_version: int | None = VERSION,
    ) -> Response:
        """Each condition with what it saw, what is missing, and when that changes if nothing happens."""
        access.check(request, "read:profiles")
        if audience not in plan.numbers:
            raise no_such_audience()
        wanted = as_fresh(min_freshness_ms, min_position, min_version, shards.count)
        found = await shards.find(*split(identity, identifier), wanted)
        at, person = found.at, found.person
        state = at.people.state(at.reader, at.profile) if person is not None else None
        if person is None:
            raise unknown(shards, found)
        if state is None:
            raise ReadRefused("the warehouse row of this person is being put in force: ask again")
        fresh = age(shards, found)
        explained = await asyncio.to_thread(Explainer(plan, state).explain, audience, person.as_of_ms)
        tree = encode(explained)
        return Response(tree[:-1] + b',"freshness":' + encode(fresh) + b"}", media_type="application/json")

    return router
