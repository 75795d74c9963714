"""Audiences: what they ask, how many are in them, and what has changed lately.

Owns: the list of audiences and each of them.
Not here: who is in them (api.routes.members), one person's memberships (api.routes.lookups).
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from api.access import Access
from api.changes.hub import Hub
from api.listings import Counts, Listings
from api.routes.lookups import ERRORS, no_such_audience, written
from api.schemas import AudienceAnswer, AudiencesAnswer
from api.shards import Shards
from opportune.audiences.plan_report import report
from opportune.audiences.schema import All, Condition, Not
from opportune.audiences.schema import Any as AnyOf
from opportune.audiences.sentences import sentence
from opportune.errors import ReadRefused, StateError
from opportune.event import iso_text


def audience_routes(shards: Shards, listings: Listings, access: Access, hub: Hub | None) -> APIRouter:
    """The routes of audiences."""
    router = APIRouter(tags=["audiences"], responses=ERRORS)
    plan = shards.compiled.plan

    async def counted() -> Counts | None:
        """The members' numbers; None where the state cannot be read now, which takes nothing from the definitions."""
        try:
            return await listings.counts()
        except (ReadRefused, StateError):
            return None

    def answer_of(name: str, counts: Counts | None) -> dict[str, Any]:
        number = plan.numbers[name]
        found: dict[str, Any] = {
            "name": name,
            "description": plan.audiences[number].description,
            "definition_version": plan.definitions[number],
        }
        if counts is not None:
            found |= {"members": counts.members[number], "members_as_of": iso_text(counts.as_of_ms)}
        if hub is not None and hub.ready:
            since_ms, changes = hub.last_hour()
            found["last_hour"] = {
                "since": iso_text(since_ms),
                "entered": changes[name, "entered"],
                "exited": changes[name, "exited"],
            }
        return found

    @router.get("/v1/audiences", response_model=AudiencesAnswer)
    async def audiences(request: Request) -> Response:
        """All audiences of the project, in order of name."""
        access.check(request, "read:audiences")
        counts = await counted()
        return written({"audiences": [answer_of(name, counts) for name in shards.compiled.names]})

    @router.get("/v1/audiences/{name}", response_model=AudienceAnswer)
    async def audience(request: Request, name: str) -> Response:
        """One audience: what it asks, and what is kept of a person for it."""
        access.check(request, "read:audiences")
        if name not in plan.numbers:
            raise no_such_audience()
        answer = answer_of(name, await counted())
        answer["definition"] = _definition(plan.audiences[plan.numbers[name]].condition)
        told = report(plan)
        answer["plan"] = {
            "features": [msgspec.structs.asdict(one) for one in told.features if name in one.audiences],
            "evaluated_at": [one.event for one in told.messages if name in one.audiences],
        }
        return written(answer)

    return router


def _definition(condition: Condition) -> dict[str, Any]:
    """A condition as sentences."""
    told: dict[str, Any] = {"asks": sentence(condition)}
    if isinstance(condition, All | AnyOf | Not):
        told["parts"] = [_definition(part) for part in condition.conditions]
    return told
