"""The service: its parts put together, started in order and stopped in reverse.

Owns: the application and its own routes (health, readiness, metrics, refusals). Nothing is made at import.
Not here: the collector (api.collector), look-ups (api.routes), keys (api.keys), the process (opportune.cli.serve).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from api import document, problems
from api.access import Access
from api.changes.routes import changes_routes
from api.changes.service import Changes
from api.collections import Collections
from api.collector.producer import EventProducer
from api.collector.refusals import Refusals
from api.collector.routes import Collector, collector_routes
from api.hot_route import HotRoute
from api.keys import Keyring
from api.listings import Listings
from api.metrics import Counters
from api.problems import Problem
from api.routes.audiences import audience_routes
from api.routes.collections import collection_routes
from api.routes.erasures import Erasures, erasure_routes
from api.routes.explanations import explanation_routes
from api.routes.lookups import ERRORS, lookup_routes
from api.routes.members import member_routes
from api.settings import ServeSettings
from api.shards import Shards
from opportune.clock import Clock, monotonic_ms, wall_clock_ms

WAREHOUSE = "warehouse"
"""Of the snapshots, below the state directory."""


class Service(FastAPI):
    """The application, with a short way past it."""

    hot_route: HotRoute | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if self.hot_route is None or not await self.hot_route.answers(scope, receive, send):
            await super().__call__(scope, receive, send)


def make_app(
    settings: ServeSettings,
    keyring: Keyring,
    producer: EventProducer | None = None,
    shards: Shards | None = None,
    clock: Clock = wall_clock_ms,
    changes: Changes | None = None,
    erasures: Erasures | None = None,
) -> FastAPI:
    """The application.

    Args:
        settings: limits.
        keyring: the keys in force.
        producer: the way to Kafka, not started; None without a collector.
        shards: the state that look-ups read; None without look-ups.
        clock: wall clock, milliseconds.
        changes: the live stream, not started; None without look-ups.
        erasures: takes requests to forget somebody; None without look-ups.
    """
    listings = Listings(shards, shards.directory) if shards is not None else None
    collections = Collections(shards, shards.directory / WAREHOUSE) if shards is not None else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if producer is not None:
            producer.start()
        if changes is not None:
            changes.start()
        keeping_up = asyncio.create_task(shards.keep_up()) if shards is not None else None
        yield
        if keeping_up is not None:
            keeping_up.cancel()
        if changes is not None:
            await changes.close()
        if producer is not None:
            producer.close()
        for part in (collections, listings, shards, erasures):
            if part is not None:
                part.close()

    app = Service(title="Opportune", version="0.1.0", lifespan=lifespan, redoc_url=None)
    problems.install(app)
    document.install(app)
    access, counters, refusals = Access(keyring, monotonic_ms), Counters(), Refusals()
    _own_routes(app, access, counters, refusals, producer, shards, changes)
    if shards is not None:
        app.hot_route = HotRoute(shards, access, counters)
        app.include_router(lookup_routes(shards, access, counters))
        app.include_router(explanation_routes(shards, access))
        assert listings is not None, "made with the shards"
        assert collections is not None, "likewise"
        app.include_router(collection_routes(shards, collections, access))
        app.include_router(audience_routes(shards, listings, access, changes.hub if changes is not None else None))
        app.include_router(member_routes(shards, listings, access))
    if changes is not None and shards is not None:
        app.include_router(changes_routes(changes.hub, shards.compiled.project, access))
    if erasures is not None and shards is not None:
        app.include_router(erasure_routes(erasures, shards.compiled.project.identity, access))
    if producer is not None:
        app.include_router(collector_routes(Collector(access, producer, settings, counters, refusals, clock)))
    return app


def _own_routes(
    app: FastAPI,
    access: Access,
    counters: Counters,
    refusals: Refusals,
    producer: EventProducer | None,
    shards: Shards | None,
    changes: Changes | None,
) -> None:
    @app.get("/healthz", tags=["service"])
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["service"], responses=ERRORS)
    async def readyz() -> dict[str, Any]:
        """Every part can answer."""
        if producer is not None and not producer.partitions:
            raise Problem(503, "no_topic", "the events topic is not there or cannot be reached", 1)
        if shards is not None:
            shards.check()
        return {"status": "ready"}

    @app.get("/metrics", tags=["service"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counters, as Prometheus reads them."""
        gauges: dict[str, float] = {}
        if producer is not None:
            gauges["opportune_collector_waiting_records"] = producer.waiting_records
            gauges["opportune_collector_waiting_bytes"] = producer.waiting_bytes
        if changes is not None:
            gauges |= changes.gauges()
        return Response(counters.text(gauges), media_type="text/plain; version=0.0.4")

    @app.get("/v1/refusals", tags=["collector"], responses=ERRORS)
    async def last_refusals(request: Request) -> Response:
        """What the collector of this process refused lately; scope admin."""
        access.check(request, "admin")
        return Response(msgspec.json.encode({"refusals": refusals.last()}), media_type="application/json")
