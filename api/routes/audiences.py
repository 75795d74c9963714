"""Audiences, and who is in them.

Owns: the list of definitions, and members as a stream of NDJSON or CSV in constant memory, true at one instant for each shard.
Not here: one person's memberships (api.routes.lookups).
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from api.access import Access
from api.problems import Problem
from api.routes.lookups import ERRORS
from api.schemas import AudienceAnswer, AudiencesAnswer
from api.shards import Shards
from opportune.event import iso_text

NDJSON, CSV = "application/x-ndjson", "text/csv"
Rows = list[tuple[bytes, int, list[str]]]


def audience_routes(shards: Shards, access: Access) -> APIRouter:
    """The routes of audiences."""
    router = APIRouter(tags=["audiences"], responses=ERRORS)
    plan = shards.compiled.plan

    def answer_of(name: str) -> dict[str, Any]:
        if name not in plan.numbers:
            raise Problem(404, "no_such_audience", "the project has no such audience")
        return {"name": name, "definition_version": plan.definitions[plan.numbers[name]]}

    @router.get("/v1/audiences", response_model=AudiencesAnswer)
    async def audiences(request: Request) -> dict[str, Any]:
        """All audiences of the project, in order of name."""
        access.check(request, "read:audiences")
        return {"audiences": [answer_of(name) for name in shards.compiled.names]}

    @router.get("/v1/audiences/{name}", response_model=AudienceAnswer)
    async def audience(request: Request, name: str) -> dict[str, Any]:
        """One audience."""
        access.check(request, "read:audiences")
        return answer_of(name)

    @router.get(
        "/v1/audiences/{name}/members",
        response_class=StreamingResponse,
        responses={200: {"content": {NDJSON: {}, CSV: {}}}},
    )
    async def members(request: Request, name: str) -> StreamingResponse:
        """Everybody in an audience: NDJSON, or CSV where Accept says so. Opportune-As-Of has the instant of each shard."""
        access.check(request, "read:audiences")
        answer_of(name)
        times, parts = await shards.members(plan.numbers[name])
        headers = {"Opportune-As-Of": ", ".join(f"{shard}={iso_text(max(at - 1, 0))}" for shard, at in times.items())}
        as_csv = "text/csv" in request.headers.get("accept", "")
        write = _csv if as_csv else _ndjson
        head = b"profile_id,since,identifiers\r\n" if as_csv else b""
        return StreamingResponse(_stream(parts, write, head), headers=headers, media_type=CSV if as_csv else NDJSON)

    return router


async def _stream(parts: Iterator[Rows], write: Callable[[Rows], bytes], head: bytes) -> AsyncIterator[bytes]:
    if head:
        yield head
    for rows in parts:
        yield write(rows)
        # Look-ups come between two slices.
        await asyncio.sleep(0)


def _ndjson(rows: Rows) -> bytes:
    lines = [
        msgspec.json.encode({"profile_id": profile.hex(), "since": iso_text(since), "identifiers": identifiers})
        for profile, since, identifiers in rows
    ]
    return b"\n".join(lines) + b"\n"


def _csv(rows: Rows) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows((profile.hex(), iso_text(since), " ".join(names)) for profile, since, names in rows)
    return out.getvalue().encode("utf-8", "surrogatepass")
