"""Errors as RFC 9457 problem documents.

Owns: ``Problem``, what every route may raise, and the handlers that turn it, a wrong request and an error of ours into an
answer. Invariant: no identifier, value or key of a request is in an answer's text beyond what the caller sent.
Not here: the collector's errors, which have the shape that event clients read (api.collector.answers).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from opportune.errors import ReadRefused, StateError, TransientError

MEDIA_TYPE = "application/problem+json"
TITLES = {
    400: "the request is not right",
    401: "a key is needed",
    403: "the key may not do this",
    404: "not found",
    405: "the method is not for this address",
    406: "no such format",
    413: "too large",
    422: "the request is not right",
    429: "too many requests",
    503: "not now",
}
RETRY_S = 1


class Problem(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        kind: one word for programs: the last part of the problem's ``type``.
        detail: for people: what to do.
        retry_s: seconds after which to try again, where that helps.
        more: further members of the document.
    """

    def __init__(
        self, status: int, kind: str, detail: str, retry_s: int | None = None, more: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.retry_s = retry_s
        self.more = more or {}


def respond(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The answer of a problem."""
    body: dict[str, Any] = {
        "type": f"urn:opportune:problem:{problem.kind}",
        "title": TITLES.get(problem.status, "an error"),
        "status": problem.status,
        "detail": problem.detail,
        **problem.more,
    }
    given = dict(headers or {})
    if problem.retry_s is not None:
        given["Retry-After"] = str(problem.retry_s)
    return Response(msgspec.json.encode(body), problem.status, given, MEDIA_TYPE)


KNOWN = (Problem, ReadRefused, StateError, TransientError)
"""What a route may raise; anything else is a bug."""


def answer_to(error: Exception) -> Response:
    """The answer to one of ``KNOWN``."""
    return respond(error if isinstance(error, Problem) else Problem(503, "not_ready", str(error), RETRY_S))


def install(app: FastAPI) -> None:
    """Makes every error of an application a problem document."""

    async def known(_: Request, error: Exception) -> Response:
        return answer_to(error)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(request)) or headers.get("Allow", "")
        kind = {404: "no_such_address", 405: "wrong_method"}.get(error.status_code, "http")
        return respond(Problem(error.status_code, kind, str(error.detail)), headers)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        return respond(Problem(422, "invalid_request", places))

    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    for kind in KNOWN:
        app.add_exception_handler(kind, known)


def _methods(request: Request) -> list[str]:
    """The methods of an address. The framework tells those of its first route only, and an address may have several."""
    return [
        method
        for method in ("DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]
