"""Answers that event clients understand.

Owns: status 200 with small JSON for what is taken, errors as ``{"code", "message"}`` (some clients retry any other shape
for ever), and the headers that browsers ask for. Invariant: never 202 or 204, which some clients take for a failure.
Source: measured with the clients of docs/collector.md. Not here: what is taken (api.collector.messages).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from fastapi import Request, Response

HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]*", re.ASCII)
PREFLIGHT_S = 86_400
POSITION = "Opportune-Position"
"""The header that says where events are (api.settled): clients leave alone what they do not know."""


class Refused(Exception):
    """A request that is not taken, as a whole.

    Args:
        status: of HTTP.
        code: one word for programs.
        message: for people.
        retry_s: seconds after which the client may try again.
    """

    def __init__(self, status: int, code: str, message: str, retry_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_s = retry_s


def answer(request: Request, body: Any, status: int = 200, retry_s: int | None = None) -> Response:
    """JSON that a page of another origin may read."""
    headers = cors(request)
    if retry_s is not None:
        headers["Retry-After"] = str(retry_s)
    return Response(msgspec.json.encode(body), status, headers, "application/json")


def refusal(request: Request, refused: Refused) -> Response:
    """The answer to a request that is not taken."""
    return answer(request, {"code": refused.code, "message": refused.message}, refused.status, refused.retry_s)


def preflight(request: Request) -> Response:
    """The answer to a browser that asks whether it may send."""
    wanted = request.headers.get("access-control-request-headers", "")
    headers = {
        **cors(request),
        "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
        "Access-Control-Max-Age": str(PREFLIGHT_S),
    }
    if wanted and HEADER_NAMES.fullmatch(wanted):
        headers["Access-Control-Allow-Headers"] = wanted
    return Response(None, 200, headers)


def cors(request: Request) -> dict[str, str]:
    """Headers for a page of any origin: write keys are public, and no cookie decides anything here."""
    origin = request.headers.get("origin")
    if not origin:
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": f"Retry-After, {POSITION}",
        "Vary": "Origin",
    }
