"""Who is this, and in which audiences?

Owns: the routes of people. An identifier in an address is ``namespace:value``; one with a slash goes to ``POST /v1/lookups``.
Invariant: "no such person" (404) is said only by a shard that can answer; one that cannot is 503.
Not here: freshness (api.shards), lists of members (api.routes.audiences).
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Query, Request, Response

from api.access import Access
from api.metrics import Counters
from api.problems import Problem
from api.schemas import (
    LookupsAnswer,
    LookupsRequest,
    MembershipsAnswer,
    OneMembershipAnswer,
    ProblemAnswer,
    ProfileAnswer,
)
from api.shards import Found, Shards, freshness
from opportune.event import iso_text
from opportune.identifiers import IdentitySettings, normalised
from state.people import Person

FIELDS = ("memberships", "traits", "attributes")
VALUE_CHARS_MAX = 1_000
encode = msgspec.json.Encoder(decimal_format="number").encode
"""Numbers keep their digits: a trait of 0.1 is answered as 0.1."""
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemAnswer, "description": "a problem document"}
    for status in (400, 401, 403, 404, 422, 429, 503)
}
FRESH = Query(None, ge=1, le=3_600_000, description="the answer may be so old; waited for within 2 seconds, else 503")


def lookup_routes(shards: Shards, access: Access, counters: Counters) -> APIRouter:
    """The routes of people."""
    router = APIRouter(tags=["people"], responses=ERRORS)
    identity = shards.compiled.project.identity

    async def look_up(request: Request, identifier: str, age_ms_max: int | None) -> tuple[Found, Person]:
        access.check(request, "read:profiles")
        found = await shards.find(*split(identity, identifier), age_ms_max)
        counters.add("opportune_lookups_total", outcome="found" if found.person else "unknown")
        if found.person is None:
            raise Problem(404, "no_such_person", "nobody with this identifier is known")
        return found, found.person

    @router.get("/v1/profiles/{identifier}", response_model=ProfileAnswer)
    async def profile(
        request: Request, identifier: str, fields: str | None = None, min_freshness_ms: int | None = FRESH
    ) -> Response:
        """A person: identifiers, memberships, traits and attributes. ``fields`` is a list with commas."""
        chosen = choose(fields.split(",") if fields is not None else None)
        found, person = await look_up(request, identifier, min_freshness_ms)
        return written(told(shards, found, person, chosen))

    @router.get("/v1/profiles/{identifier}/audiences", response_model=MembershipsAnswer)
    async def memberships(request: Request, identifier: str, min_freshness_ms: int | None = FRESH) -> Response:
        """The audiences that a person is in; an empty list for one who is in none."""
        found, person = await look_up(request, identifier, min_freshness_ms)
        answer = told(shards, found, person, {"memberships"})
        del answer["identifiers"]
        return written(answer)

    @router.get("/v1/profiles/{identifier}/audiences/{audience}", response_model=OneMembershipAnswer)
    async def membership(
        request: Request, identifier: str, audience: str, min_freshness_ms: int | None = FRESH
    ) -> Response:
        """Whether a person is in one audience."""
        if audience not in shards.compiled.plan.numbers:
            access.check(request, "read:profiles")
            raise Problem(404, "no_such_audience", "the project has no such audience")
        found, person = await look_up(request, identifier, min_freshness_ms)
        since = next((one.since_ms for one in person.memberships if one.audience == audience), None)
        answer: dict[str, Any] = {"profile_id": person.id.hex(), "audience": audience, "member": since is not None}
        if since is not None:
            answer["since"] = iso_text(since)
        return written(answer | {"freshness": age(shards, found)})

    @router.post("/v1/lookups", response_model=LookupsAnswer)
    async def lookups(request: Request, wanted: LookupsRequest, min_freshness_ms: int | None = FRESH) -> Response:
        """Up to 100 people at once, each found or not, in the order of the question."""
        access.check(request, "read:profiles")
        if len(wanted.identifiers) > shards.settings.lookups_max:
            raise Problem(400, "too_many", f"ask for {shards.settings.lookups_max} identifiers at most")
        chosen = choose(wanted.fields)
        pairs = [(text, split(identity, text)) for text in wanted.identifiers]
        results: list[dict[str, Any]] = []
        for text, (namespace, value) in pairs:
            found = await shards.find(namespace, value, min_freshness_ms)
            one: dict[str, Any] = {
                "identifier": text,
                "found": found.person is not None,
                "freshness": age(shards, found),
            }
            if found.person is not None:
                one["profile"] = told(shards, found, found.person, chosen)
            counters.add("opportune_lookups_total", outcome="found" if found.person else "unknown")
            results.append(one)
        return written({"results": results})

    return router


def split(settings: IdentitySettings, identifier: str) -> tuple[str, str]:
    """Namespace and value of ``namespace:value``, the value as profiles have it. Raises ``Problem`` (400)."""
    name, colon, raw = identifier.partition(":")
    namespace = next((one for one in settings.namespaces if one.name == name), None)
    names = ", ".join(one.name for one in settings.namespaces)
    if not colon or namespace is None or len(raw) > VALUE_CHARS_MAX:
        raise Problem(400, "bad_identifier", f"an identifier is NAMESPACE:VALUE, with a namespace of {names}")
    value = normalised(namespace, raw)
    if not value:
        raise Problem(400, "bad_identifier", f"the value cannot be read as one of {name}")
    return name, value


def choose(fields: list[str] | None) -> set[str]:
    """The fields of an answer. Raises ``Problem`` (400)."""
    chosen = set(FIELDS if fields is None else fields)
    if not chosen <= set(FIELDS):
        raise Problem(400, "bad_field", f"fields are {', '.join(FIELDS)}")
    return chosen


def told(shards: Shards, found: Found, person: Person, chosen: set[str]) -> dict[str, Any]:
    """A person as an answer."""
    identifiers: dict[str, list[str]] = {}
    for text in person.identifiers:
        namespace, _, value = text.partition(":")
        identifiers.setdefault(namespace, []).append(value)
    answer: dict[str, Any] = {"profile_id": person.id.hex(), "identifiers": identifiers}
    if "memberships" in chosen:
        answer["memberships"] = [
            {"audience": one.audience, "since": iso_text(one.since_ms)} for one in person.memberships
        ]
    if "traits" in chosen:
        answer["traits"] = person.traits
    if "attributes" in chosen:
        answer["attributes"] = person.attributes
    if person.approximate:
        answer["approximate"] = person.approximate
    answer["freshness"] = age(shards, found)
    return answer


def written(answer: dict[str, Any]) -> Response:
    """An answer as JSON. What is documented is not checked again at each request: that costs more than the look-up."""
    return Response(encode(answer), media_type="application/json")


def age(shards: Shards, found: Found) -> dict[str, Any]:
    """The freshness of an answer."""
    as_of_ms = found.person.as_of_ms if found.person is not None else max(found.time_ms - 1, 0)
    return freshness(found.shard, found.time_ms, iso_text(as_of_ms), shards.clock())
