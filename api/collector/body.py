"""The bytes of a collector's request, bounded before and after decompression.

Owns: reading and inflating. Content-Type is not looked at: clients send JSON as text/plain and as forms. gzip is known by
its first bytes too, since some clients leave the header out.
Invariant: at most ``bytes_max + 1`` bytes are ever inflated. Not here: what the bytes mean (api.collector.messages).
"""

from __future__ import annotations

import asyncio
import zlib

from fastapi import Request
from starlette.requests import ClientDisconnect

from api.collector.answers import Refused

GZIP = b"\x1f\x8b"
RAW_DEFLATE, ZLIB_OR_GZIP = -15, 47
MEMBERS_MAX = 100
"""Each member of gzip costs a copy of all that follows it: a body of many small ones would hold everybody up for seconds."""


async def read_body(request: Request, bytes_max: int, within_s: float) -> bytes:
    """The body, inflated.

    Args:
        request: whose body was not read yet.
        bytes_max: of what came, and of what it inflates to.
        within_s: for so long the body may take to come.

    Raises:
        Refused: 408, 413, 415, or 400 where it cannot be inflated.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > bytes_max:
        raise _too_large(bytes_max)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(within_s):
            async for part in request.stream():
                size += len(part)
                if size > bytes_max:
                    raise _too_large(bytes_max)
                parts.append(part)
    except TimeoutError as error:
        raise Refused(408, "too_slow", "the body did not come in time") from error
    except ClientDisconnect as error:
        raise Refused(400, "gone", "the client went away") from error
    body = b"".join(parts)
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding == "deflate":
        return _inflated(body, bytes_max, ZLIB_OR_GZIP if body[:1] == b"\x78" else RAW_DEFLATE)
    if encoding in ("gzip", "x-gzip") or body[:2] == GZIP:
        return _inflated(body, bytes_max, ZLIB_OR_GZIP)
    if encoding not in ("", "identity"):
        raise Refused(415, "unknown_encoding", "send the body as it is, or with gzip or deflate")
    return body


def _inflated(body: bytes, bytes_max: int, window_bits: int) -> bytes:
    parts: list[bytes] = []
    left = bytes_max
    try:
        while body:
            if len(parts) == MEMBERS_MAX:
                raise Refused(400, "bad_encoding", f"the compressed body has more than {MEMBERS_MAX} parts")
            inflater = zlib.decompressobj(window_bits)
            part = inflater.decompress(body, left + 1)
            left -= len(part)
            if left < 0:
                raise _too_large(bytes_max)
            if not inflater.eof:
                raise Refused(400, "bad_encoding", "the compressed body ends early")
            parts.append(part)
            body = inflater.unused_data
    except zlib.error as error:
        raise Refused(400, "bad_encoding", "the body is not what Content-Encoding says") from error
    return b"".join(parts)


def _too_large(bytes_max: int) -> Refused:
    return Refused(413, "too_large", f"a request may have {bytes_max} bytes: send smaller batches")
