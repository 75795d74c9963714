"""People who are to be forgotten: taking requests, and saying how far each has come.

Owns: the routes of erasure; scope ``erase``. Invariant: 202 is said once the request is in the log that the job reads, so it is
done whatever happens to this process. Whether somebody is known by an identifier is not told here.
Not here: the log (the caller of api.app brings it), what the job does.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import msgspec
from fastapi import APIRouter, Request, Response

from api.access import Access
from api.problems import Problem
from api.routes.lookups import ERRORS, split
from api.schemas import ErasureAnswer, ErasureRequest
from opportune.identifiers import Blocked, IdentitySettings


class Erasures(Protocol):
    """Where requests go. Its calls block, for seconds at most."""

    def ask(self, identifiers: list[str], /) -> str:
        """Asks that whoever has these identifiers (``namespace:value``) be forgotten; returns the request's name.

        Raises ``TransientError``: nothing was asked.
        """
        ...

    def status(self, request: str, /) -> Any:
        """The fields of ``ErasureAnswer``; None for an unknown request. Raises ``TransientError``."""
        ...

    def close(self) -> None:
        """Lets the log go."""
        ...


def erasure_routes(erasures: Erasures, identity: IdentitySettings, access: Access) -> APIRouter:
    """The routes of erasure."""
    router = APIRouter(tags=["erasure"], responses=ERRORS)
    blocked = Blocked(identity.blocked)

    async def ask(identifiers: list[str]) -> Response:
        texts = []
        for identifier in identifiers:
            namespace, value = split(identity, identifier)
            if blocked(value):
                raise Problem(400, "bad_identifier", "the value stands for nobody (blocked in identity.yml)")
            texts.append(f"{namespace}:{value}")
        request = await asyncio.to_thread(erasures.ask, texts)
        return await answered(request, 202)

    async def answered(request: str, status: int) -> Response:
        found = await asyncio.to_thread(erasures.status, request)
        if found is None:
            raise Problem(404, "no_such_erasure", "there is no request of this name")
        headers = {"Location": f"/v1/erasures/{request}"} if status == 202 else None
        return Response(msgspec.json.encode(found), status, headers, media_type="application/json")

    @router.delete("/v1/profiles/{identifier}", status_code=202, response_model=ErasureAnswer)
    async def forget(request: Request, identifier: str) -> Response:
        """Forgets whoever has an identifier, known or not. Ask ``GET /v1/erasures/{request}`` until it is complete."""
        access.check(request, "erase")
        return await ask([identifier])

    @router.post("/v1/erasures", status_code=202, response_model=ErasureAnswer)
    async def forget_all(request: Request, wanted: ErasureRequest) -> Response:
        """Forgets whoever has these identifiers, also those with a slash in them."""
        access.check(request, "erase")
        return await ask(wanted.identifiers)

    @router.get("/v1/erasures/{erasure}", response_model=ErasureAnswer)
    async def erasure(request: Request, erasure: str) -> Response:
        """How far a request has come: pending, erased, or complete."""
        access.check(request, "erase")
        return await answered(erasure, 200)

    return router
