"""``GET /v1/changes``: membership changes as server-sent events.

Owns: the question's words, the last id, and the connection: what is sent when, and its end.
Invariant: a connection that takes nothing ends by itself; its reader waits for nobody and nobody for it.
Not here: who gets what (api.changes.hub), where changes come from (api.changes.source).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.types import Receive, Scope, Send

from api.access import Access
from api.changes.entry import KINDS, PROFILE_DIGITS, Filter
from api.changes.hub import Gone, Hub, Reader
from api.changes.position import Position, read_position
from api.problems import Problem
from api.routes.lookups import ERRORS, split
from opportune.errors import ReadRefused
from opportune.project import Project

MEDIA_TYPE = "text/event-stream"
RETRY = b"retry: 1000\n\n"
EXAMPLE = (
    "retry: 1000\n\nid: 5f0c9a31.1841.1790\nevent: entered\n"
    'data: {"id":"1c5f.../1806336007372800","audience":"pricing_intent","change":"entered","profile_id":"1c5f...",'
    '"identifiers":{"user_id":["ada"]},"at":"2026-01-01T12:00:00.000Z","emitted_at":"2026-01-01T12:00:00.031Z",'
    '"cause":"event","version":1806336007372800,"definition_version":"77b1..."}\n\n'
)
_PROFILE = re.compile(f"[0-9a-f]{{{PROFILE_DIGITS}}}")


class EventStream(Response):
    """What a reader gets, until one of both ends it.

    Args:
        hub: where the reader is to be closed.
        reader: opened.
    """

    media_type = MEDIA_TYPE

    def __init__(self, hub: Hub, reader: Reader) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._hub = hub
        self._reader = reader

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Answers."""
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._hub.close(self._reader)
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        patience = self._hub.settings.send_s
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": RETRY, "more_body": True})
        last = False
        while not last:
            chunk, last = await self._reader.next()
            try:
                async with asyncio.timeout(patience):
                    await send({"type": "http.response.body", "body": chunk, "more_body": not last})
            except TimeoutError:
                self._reader.drop("stuck")
                return


async def _left(receive: Receive) -> None:
    """Waits until the other side has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def changes_routes(hub: Hub, project: Project, access: Access) -> APIRouter:
    """The route of the stream."""
    router = APIRouter(tags=["changes"], responses={**ERRORS, 410: ERRORS[404]})
    audiences = {each.name for each in project.audiences}

    @router.get(
        "/v1/changes",
        response_class=Response,
        responses={200: {"description": "events without end", "content": {MEDIA_TYPE: {"example": EXAMPLE}}}},
    )
    async def changes(
        request: Request,
        audience: list[str] | None = Query(None, description="only of these audiences"),  # noqa: B008 - FastAPI's way
        profile: str | None = Query(None, description="only of this person: namespace:value, or a profile id"),
        kind: list[str] | None = Query(None, description="only entered, or only exited"),  # noqa: B008 - as above
        last_event_id: str | None = Header(None, description="the id of the last event: the stream goes on behind it"),
        position: str | None = Query(None, description="the same, where headers cannot be set"),
    ) -> Response:
        """Membership changes as they come, each with the place behind it as id."""
        access.check(request, "read:audiences")
        wanted = Filter(_audiences(audience or (), audiences), _kinds(kind or ()), _profile(project, profile or ""))
        since = _position(last_event_id or position or "")
        if not hub.ready:
            raise ReadRefused("the changes are not being read yet")
        if hub.readers >= hub.settings.readers_max:
            raise Problem(503, "too_many_readers", "this service has as many readers as it takes", 5)
        if since is not None and not await hub.reach(since):
            raise ReadRefused("this service has not read to that place yet")
        try:
            return EventStream(hub, hub.open(wanted, since, lambda: access.holds(request, "read:audiences")))
        except Gone:
            raise Problem(
                410, "position_gone", "the changes behind that place are no longer here: ask who is a member, and go on"
            ) from None

    return router


def _audiences(names: Sequence[str], known: set[str]) -> frozenset[str]:
    if not known.issuperset(names):
        raise Problem(404, "no_such_audience", "the project has no such audience")
    return frozenset(names)


def _kinds(names: Sequence[str]) -> frozenset[str]:
    if not set(names) <= set(KINDS):
        raise Problem(400, "bad_kind", f"kinds are {', '.join(KINDS)}")
    return frozenset(names)


def _profile(project: Project, text: str) -> str:
    return text if not text or _PROFILE.fullmatch(text) else ":".join(split(project.identity, text))


def _position(text: str) -> Position | None:
    found = read_position(text) if text else None
    if text and found is None:
        raise Problem(400, "bad_position", "a position is the id of an event, as it was sent")
    return found
