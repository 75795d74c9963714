"""Who is this, and in which audiences?

Owns: the routes of people. An identifier in an address is ``namespace:value``; one with a slash goes to ``POST /v1/lookups``.
Invariant: "no such person" (404) is said only by a shard that can answer; one that cannot is 503.
Not here: freshness (api.freshness), why somebody is a member (api.routes.explanations), lists of members (api.routes.audiences).
"""

from __future__ import annotations

from collections.abc import Container
from functools import lru_cache
from typing import Any

import msgspec
from fastapi import APIRouter, Query, Request, Response
from msgspec import UNSET

from api.access import Access
from api.freshness import AGE, POSITION, VERSION, AsFresh, as_fresh, freshness
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
from api.shards import Found, Located, Shards
from opportune.audiences.explain import Explainer
from opportune.audiences.explain_general import of_person
from opportune.event import iso_text
from opportune.features.values import InstantValue
from opportune.identifiers import Blocked, IdentitySettings, normalised
from opportune.profile import NEVER
from state.people import Membership, Person

FIELDS = ("identifiers", "memberships", "traits", "computed_traits", "attributes")
FIELDS_ASKED = Query(None, description=f"a list with commas of {', '.join(FIELDS)}; else all of them")
VALUE_CHARS_MAX = 1_000
blocked_of = lru_cache(Blocked)
encode = msgspec.json.Encoder(decimal_format="number").encode
"""Numbers keep their digits: a trait of 0.1 is answered as 0.1."""
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemAnswer, "description": "a problem document"}
    for status in (400, 401, 403, 404, 422, 429, 503)
}


def lookup_routes(shards: Shards, access: Access, counters: Counters) -> APIRouter:
    """The routes of people."""
    router = APIRouter(tags=["people"], responses=ERRORS)
    identity = shards.compiled.project.identity

    async def look_up(identifier: str, wanted: AsFresh, until_of: Container[str] | None) -> tuple[Found, Person]:
        found = await shards.find(*split(identity, identifier), wanted, until_of)
        counters.add("opportune_lookups_total", outcome="found" if found.person else "unknown")
        if found.person is None:
            raise unknown(shards, found)
        return found, found.person

    @router.get("/v1/profiles/{identifier}", response_model=ProfileAnswer)
    async def profile(
        request: Request,
        identifier: str,
        fields: str | None = FIELDS_ASKED,
        min_freshness_ms: int | None = AGE,
        min_position: str | None = POSITION,
        min_version: int | None = VERSION,
    ) -> Response:
        """A person: identifiers, memberships, traits, computed traits and attributes."""
        access.check(request, "read:profiles")
        chosen = choose(fields.split(",") if fields is not None else None)
        wanted = as_fresh(min_freshness_ms, min_position, min_version, shards.count)
        found, person = await look_up(identifier, wanted, until_of(chosen))
        return written(told(shards, found, person, chosen))

    @router.get("/v1/profiles/{identifier}/audiences", response_model=MembershipsAnswer)
    async def memberships(
        request: Request,
        identifier: str,
        min_freshness_ms: int | None = AGE,
        min_position: str | None = POSITION,
        min_version: int | None = VERSION,
    ) -> Response:
        """The audiences that a person is in; an empty list for one who is in none."""
        access.check(request, "read:profiles")
        wanted = as_fresh(min_freshness_ms, min_position, min_version, shards.count)
        found, person = await look_up(identifier, wanted, None)
        answer = told(shards, found, person, {"memberships"})
        del answer["identifiers"]
        return written(answer)

    @router.get("/v1/profiles/{identifier}/audiences/{audience}", response_model=OneMembershipAnswer)
    async def membership(
        request: Request,
        identifier: str,
        audience: str,
        min_freshness_ms: int | None = AGE,
        min_position: str | None = POSITION,
        min_version: int | None = VERSION,
    ) -> Response:
        """Whether a person is in one audience, since when, and until when if nothing happens.

        ``member`` is null where the audience has not seen enough to say (``warming``).
        """
        access.check(request, "read:profiles")
        if audience not in shards.compiled.plan.numbers:
            raise no_such_audience()
        wanted = as_fresh(min_freshness_ms, min_position, min_version, shards.count)
        return written(one_membership(shards, *await look_up(identifier, wanted, (audience,)), audience))

    _many(router, shards, access, counters)
    return router


def _many(router: APIRouter, shards: Shards, access: Access, counters: Counters) -> None:
    """The route of many people at once."""
    identity = shards.compiled.project.identity

    @router.post("/v1/lookups", response_model=LookupsAnswer)
    async def lookups(
        request: Request,
        wanted: LookupsRequest,
        min_freshness_ms: int | None = AGE,
        min_position: str | None = POSITION,
    ) -> Response:
        """Up to 100 people at once, each found or not, in the order of the question."""
        access.check(request, "read:profiles")
        if len(wanted.identifiers) > shards.settings.lookups_max:
            raise Problem(400, "too_many", f"ask for {shards.settings.lookups_max} identifiers at most")
        chosen = choose(wanted.fields)
        fresh = as_fresh(min_freshness_ms, min_position, None, shards.count)
        pairs = [(text, split(identity, text)) for text in wanted.identifiers]
        results: list[dict[str, Any]] = []
        for text, (namespace, value) in pairs:
            found = await shards.find(namespace, value, fresh, until_of(chosen))
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
    if blocked_of(settings.blocked)(value):
        raise Problem(400, "blocked_identifier", "this value stands for nobody: identity.yml blocks it")
    return name, value


def choose(fields: list[str] | None) -> set[str]:
    """The fields of an answer. Raises ``Problem`` (400)."""
    chosen = set(FIELDS if fields is None else fields)
    if not chosen <= set(FIELDS):
        raise Problem(400, "bad_field", f"fields are {', '.join(FIELDS)}")
    return chosen


def waiting(audience: str, until_ms: int) -> dict[str, Any]:
    """An audience that has not seen enough yet, and until when; without ``until`` where no time completes it."""
    return {"audience": audience} | ({"until": iso_text(until_ms)} if until_ms < NEVER else {})


def told(shards: Shards, found: Found, person: Person, chosen: set[str]) -> dict[str, Any]:
    """A person as an answer."""
    identifiers: dict[str, list[str]] = {}
    for text in person.identifiers:
        namespace, _, value = text.partition(":")
        identifiers.setdefault(namespace, []).append(value)
    answer: dict[str, Any] = {"profile_id": person.id.hex(), "identifiers": identifiers}
    if "memberships" in chosen:
        answer["memberships"] = [{"audience": one.audience, **times_of(one)} for one in person.memberships]
        answer["warming"] = [waiting(name, until_ms) for name, until_ms in sorted(person.warming.items())]
    if "traits" in chosen:
        answer["traits"] = person.traits
    if "computed_traits" in chosen:
        answer["computed_traits"] = computed_traits(shards, found.at, person)
    if "attributes" in chosen:
        answer["attributes"] = person.attributes
    if person.approximate:
        answer["approximate"] = person.approximate
    answer["freshness"] = age(shards, found)
    return answer


def one_membership(shards: Shards, found: Found, person: Person, audience: str) -> dict[str, Any]:
    """Whether a person is in one audience, as an answer."""
    one = next((one for one in person.memberships if one.audience == audience), None)
    member = None if audience in person.warming else one is not None
    answer: dict[str, Any] = {"profile_id": person.id.hex(), "audience": audience, "member": member}
    if member is None:
        answer["warming"] = waiting(audience, person.warming[audience])
    if one is not None:
        answer |= times_of(one)
    answer["freshness"] = age(shards, found)
    return answer


def written(answer: dict[str, Any]) -> Response:
    """An answer as JSON. What is documented is not checked again at each request: that costs more than the look-up."""
    return Response(encode(answer), media_type="application/json")


def age(shards: Shards, found: Found) -> dict[str, Any]:
    """The freshness of an answer."""
    at = found.at
    as_of_ms = found.person.as_of_ms if found.person is not None else max(at.time_ms - 1, 0)
    return freshness(at.shard, found.time_ms, iso_text(as_of_ms), shards.clock(), at.writes)


def times_of(membership: Membership) -> dict[str, str]:
    """Since when, and until when where time alone will end it."""
    times = {"since": iso_text(membership.since_ms)}
    if membership.until_ms is not None:
        times["until"] = iso_text(membership.until_ms)
    return times


def until_of(chosen: set[str]) -> Container[str] | None:
    """The audiences whose end an answer tells: all, where it has memberships."""
    return None if "memberships" in chosen else ()


def computed_traits(shards: Shards, at: Located, person: Person) -> dict[str, Any]:
    """The computed traits of the project that have a value, as of the answer's instant."""
    computed = shards.compiled.project.computed
    state = at.people.state(at.reader, at.profile) if computed else None
    if state is None:
        return {}
    explainer = Explainer(shards.compiled.plan, state)
    values = {trait.name: of_person(explainer, trait.value, person.as_of_ms)[0] for trait in computed}
    return {name: plain(value) for name, value in values.items() if value is not UNSET}


def plain(value: Any) -> Any:
    """A value of the engine as an answer has it: instants are ISO 8601."""
    return iso_text(int(value)) if isinstance(value, InstantValue) else value


def unknown(shards: Shards, found: Found) -> Problem:
    """Nobody is known by an identifier; which, too, is true as of an instant."""
    more = {"freshness": age(shards, found)}
    return Problem(404, "no_such_person", "nobody with this identifier is known", more=more)


def no_such_audience() -> Problem:
    """There is no audience of a name."""
    return Problem(404, "no_such_audience", "the project has no such audience")
