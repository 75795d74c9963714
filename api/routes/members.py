"""Who is in an audience: a list of any length, in constant memory.

Owns: the route, its cursor and its pieces. A cursor is ``LISTING.PROFILE``: the state that is held, and the last profile id that
was got; who was cut off puts the last one that came behind the listing's name by hand.
Invariant: all pieces of a list are of the same position for each shard.
Not here: formats (api.member_formats), what is held (api.listings).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.access import Access
from api.freshness import writes_text
from api.listings import Listing, Listings
from api.member_formats import ARROW, COLUMNS, CSV, FORMATS, NDJSON, PARQUET, body, media_type_of
from api.problems import Problem
from api.routes.lookups import ERRORS, no_such_audience
from api.shards import Shards
from opportune.event import iso_text
from state.members import Slice

LIMIT_MAX = 50_000
_CURSOR = re.compile(r"([\w-]{12})(?:\.([0-9a-f]{32}))?")
_EXAMPLE = '{"profile_id":"1c5f...","since":"2026-01-01T12:00:00.000Z","identifiers":["user_id:ada"]}\n'
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_ANSWER = {
    "description": "a row a member, in order of profile id",
    "content": {NDJSON: {"example": _EXAMPLE}, CSV: {"schema": {"type": "string"}}, ARROW: _BINARY, PARQUET: _BINARY},
    "headers": {
        "Opportune-As-Of": {"description": "the instant of each shard", "schema": {"type": "string"}},
        "Opportune-Position": {"description": "the last write of each shard", "schema": {"type": "string"}},
        "Opportune-Cursor": {"description": "goes on behind this piece", "schema": {"type": "string"}},
    },
}


def member_routes(shards: Shards, listings: Listings, access: Access) -> APIRouter:
    """The route of members."""
    answers = {**ERRORS, 406: ERRORS[404], 410: ERRORS[404]}
    router = APIRouter(tags=["audiences"], responses=answers)
    numbers = shards.compiled.plan.numbers

    @router.get("/v1/audiences/{name}/members", response_class=StreamingResponse, responses={200: _ANSWER})
    async def members(
        request: Request,
        name: str,
        fields: str | None = Query(None, description=f"a list with commas of {', '.join(COLUMNS)}; else all of them"),
        limit: int | None = Query(None, ge=1, le=LIMIT_MAX, description="so many rows, then a cursor; else all"),
        cursor: str | None = Query(None, description="Opportune-Cursor of an earlier answer: goes on behind it"),
    ) -> Response:
        """Everybody in an audience: NDJSON, or by Accept CSV, an Arrow stream or Parquet."""
        access.check(request, "read:audiences")
        if name not in numbers:
            raise no_such_audience()
        columns, media_type = _columns(fields), media_type_of(request.headers.get("accept", ""))
        if media_type is None:
            raise Problem(406, "no_such_format", f"members come as {', '.join(FORMATS)}")
        listing, after = await _listing(listings, cursor)
        try:
            await asyncio.to_thread(listing.check, numbers[name])
        except BaseException:
            listings.release(listing)
            raise
        headers = {
            "Opportune-As-Of": ", ".join(
                f"{shard}={iso_text(max(at - 1, 0))}" for shard, at in enumerate(listing.times)
            ),
            "Opportune-Position": writes_text(dict(enumerate(listing.writes))),
        }
        make, rows = FORMATS[media_type]
        parts = listing.slices(numbers[name], after, min(rows, limit or rows), identifiers="identifiers" in columns)
        if limit is None:
            headers["Opportune-Cursor"] = f"{listing.id}.{after.hex()}" if after else listing.id
            pieces = body(make(columns), parts)
            return StreamingResponse(_stream(listings, listing, pieces), headers=headers, media_type=media_type)
        try:
            taken, last = await asyncio.to_thread(_first, parts, limit)
            content = await asyncio.to_thread(lambda: b"".join(body(make(columns), taken)))
        finally:
            listings.release(listing)
        if last:
            headers["Opportune-Cursor"] = f"{listing.id}.{last.hex()}"
        return Response(content, headers=headers, media_type=media_type)

    return router


async def _listing(listings: Listings, cursor: str | None) -> tuple[Listing, bytes]:
    """What is listed, and behind whom."""
    if cursor is None:
        return await listings.open(), b""
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise Problem(400, "bad_cursor", "a cursor is Opportune-Cursor of an earlier answer")
    return listings.again(found[1]), bytes.fromhex(found[2] or "")


def _columns(fields: str | None) -> tuple[str, ...]:
    chosen = tuple(fields.split(",")) if fields is not None else COLUMNS
    if not set(chosen) <= set(COLUMNS) or len(set(chosen)) < len(chosen):
        raise Problem(400, "bad_field", f"fields are {', '.join(COLUMNS)}")
    return chosen


async def _stream(listings: Listings, listing: Listing, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    coming = _next(pieces)
    try:
        # The next piece is made while this one is sent.
        while (piece := await asyncio.shield(coming)) is not None:
            coming = _next(pieces)
            if piece:
                yield piece
    finally:
        # Whoever leaves midway does not end the thread that makes a piece.
        coming.add_done_callback(lambda made: _release(made, listings, listing))


def _release(made: asyncio.Future[bytes | None], listings: Listings, listing: Listing) -> None:
    # What went wrong was told to whoever waited for the piece.
    made.exception()
    listings.release(listing)


def _next(pieces: Iterator[bytes]) -> asyncio.Future[bytes | None]:
    return asyncio.get_running_loop().run_in_executor(None, next, pieces, None)


def _first(parts: Iterator[Slice], limit: int) -> tuple[list[Slice], bytes]:
    """The first so many rows, and the last profile id of them where there are more."""
    taken: list[Slice] = []
    left = limit
    for part in parts:
        if not left:
            return taken, taken[-1].ids[-1]
        names = part.identifiers[:left] if part.identifiers is not None else None
        taken.append(Slice(part.ids[:left], part.since_ms[:left], names))
        if len(part.ids) > left:
            return taken, taken[-1].ids[-1]
        left -= len(part.ids)
    return taken, b""
