"""The addresses of event clients.

Owns: which address is which call, write keys, and the order of things: body, key, allowance, messages, Kafka, answer.
Invariants: an event is answered with 200 only when Kafka has it; whatever bytes come, the answer is no 5xx but 503.
Not here: shapes of answers (api.collector.answers), messages (api.collector.messages).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from api.access import DEFAULT_SOURCE, Access, write_key_texts
from api.collector.answers import POSITION, Refused, answer, preflight, refusal
from api.collector.body import read_body
from api.collector.messages import Reader, RefusedMessage, read
from api.collector.producer import EventProducer
from api.collector.refusals import Refusal, Refusals
from api.collector.settings_documents import rudder_source_config, segment_settings
from api.metrics import Counters
from api.settings import ServeSettings
from api.settled import place_text
from opportune.clock import Clock
from opportune.event import iso_text

CALLS = ("page", "track", "identify", "group", "alias", "screen")
SHORT = {"p": "page", "t": "track", "i": "identify", "g": "group", "a": "alias", "s": "screen"}
BATCHES = ("/v1/batch", "/v1/b", "/v1/import", "/beacon/v1/batch")
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}", re.ASCII)
_OPENAPI_BODY = {
    "requestBody": {
        "content": {"application/json": {"schema": {"type": "object"}}},
        "description": "a message, or `batch` of messages; gzip or deflate where Content-Encoding says so",
    }
}


class RefusalAnswer(BaseModel):
    """A request that is not taken."""

    code: str = Field(examples=["invalid_write_key"])
    message: str


class RefusedAnswer(BaseModel):
    """A message that is not taken, by its place in the batch."""

    index: int
    code: str
    message: str


class TakenAnswer(BaseModel):
    """Kafka has what is not named as refused."""

    success: bool
    accepted: int | None = None
    refused: list[RefusedAnswer] | None = None


_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": RefusalAnswer, "description": "what to do about it"}
    for status in (400, 401, 408, 413, 415, 429, 503)
}
_TAKEN: dict[int | str, dict[str, Any]] = {
    200: {
        "model": TakenAnswer,
        "headers": {
            POSITION: {
                "description": "where the events are: min_position of a look-up that is to have seen them",
                "schema": {"type": "string"},
            }
        },
    }
}


class Collector:
    """Takes events.

    Args:
        access: write keys.
        producer: the way to Kafka.
        settings: limits.
        counters: what is counted.
        refusals: what was refused lately.
        clock: wall clock, milliseconds.
    """

    def __init__(
        self,
        access: Access,
        producer: EventProducer,
        settings: ServeSettings,
        counters: Counters,
        refusals: Refusals,
        clock: Clock,
    ) -> None:
        self.access = access
        self.producer = producer
        self.settings = settings
        self.counters = counters
        self.refusals = refusals
        self.clock = clock
        self.reader = Reader(settings.message_bytes_max, settings.nesting_max)

    async def take(self, request: Request, kind: str | None) -> Response:
        """Takes the events of a request; ``kind`` is the type that the address says, None for a batch."""
        try:
            response = await self._take(request, kind)
        except Refused as refused:
            self._note(DEFAULT_SOURCE, None, refused.code, refused.message)
            response = refusal(request, refused)
        self.counters.add("opportune_requests_total", part="collector", status=str(response.status_code))
        return response

    async def _take(self, request: Request, kind: str | None) -> Response:
        raw = await read_body(request, self.settings.request_bytes_max, self.settings.body_ms / 1000)
        body = read(raw)
        source = self._source(request, body.write_key)
        records, refused = self.reader.records(body, kind, source, self.clock())
        for one in refused:
            self._note(source, one.index, one.code, one.message)
        if refused and not records:
            first = refused[0]
            raise Refused(400, first.code, f"nothing of it can be taken: {first.message}")
        offsets = await self.producer.send(records)
        self.counters.add("opportune_events_accepted_total", len(records), source=source)
        taken = answer(request, _taken(len(records), refused))
        topic_id = self.producer.topic_id
        if offsets and topic_id:
            taken.headers[POSITION] = place_text(topic_id, offsets)
        return taken

    def _source(self, request: Request, in_body: str) -> str:
        """The name of the source whose key it is. Raises ``Refused``: 401 or 429."""
        if not self.access.keyring.guarded:
            return DEFAULT_SOURCE
        texts = write_key_texts(request)
        key = self.access.writer([*texts, in_body] if in_body else texts)
        if key is None:
            raise Refused(401, "invalid_write_key", "give a write key that is in force (opportune keys make)")
        wait_s = self.access.allowances.take(key)
        if wait_s:
            raise Refused(429, "too_many_requests", "this write key sends too many requests", wait_s)
        return key.name

    def _note(self, source: str, index: int | None, code: str, message: str) -> None:
        self.counters.add("opportune_events_refused_total", reason=code)
        self.refusals.add(Refusal(iso_text(self.clock()), source, index, code, message))


def _taken(accepted: int, refused: list[RefusedMessage]) -> dict[str, Any]:
    body: dict[str, Any] = {"success": True}
    if refused:
        body |= {"accepted": accepted, "refused": refused}
    return body


def collector_routes(collector: Collector) -> APIRouter:
    """All addresses of the collector."""
    router = APIRouter(tags=["collector"], responses=_REFUSALS)

    def take(path: str, kind: str | None) -> None:
        async def post(request: Request) -> Response:
            return await collector.take(request, kind)

        name = "collect " + path.strip("/").replace("/", " ")
        router.add_api_route(path, post, methods=["POST"], name=name, openapi_extra=_OPENAPI_BODY, responses=_TAKEN)
        _allow(router, path)

    for path in BATCHES:
        take(path, None)
    for call in CALLS:
        for prefix in ("/v1", "/api/s", "/api/s/s2s"):
            take(f"{prefix}/{call}", call)
    for letter, call in SHORT.items():
        take(f"/v1/{letter}", call)
    _documents(router)
    return router


def _documents(router: APIRouter) -> None:
    async def settings(request: Request, write_key: str) -> Response:
        host = request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            return refusal(request, Refused(400, "bad_host", "the request has no usable Host"))
        return answer(request, segment_settings(write_key, host, request.url.scheme))

    async def source_config(request: Request) -> Response:
        return answer(request, rudder_source_config(request.query_params.get("writeKey", "")))

    documents: list[tuple[str, Callable[..., Awaitable[Response]]]] = [
        ("/v1/projects/{write_key}/settings", settings),
        ("/sourceConfig/", source_config),
        ("/sourceConfig", source_config),
    ]
    for path, get in documents:
        router.add_api_route(path, get, methods=["GET"], name="settings document")
        _allow(router, path)


def _allow(router: APIRouter, path: str) -> None:
    async def options(request: Request) -> Response:
        return preflight(request)

    router.add_api_route(path, options, methods=["OPTIONS"], include_in_schema=False)
