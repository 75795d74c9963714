"""The body of a collector's request: bounded in bytes and in time, before anything of it is looked at."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import pytest
from fastapi import Request

from api.collector import body as body_module
from api.collector.answers import Refused
from api.collector.body import read_body

BYTES_MAX = 1_000


def read(*parts: bytes, within_s: float = 5.0, ends: bool = True, **headers: str) -> bytes:
    """Reads a body that comes in parts, and that comes no further where it does not end."""
    scope = {
        "type": "http",
        "method": "POST",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    left = list(parts)

    async def receive() -> dict[str, Any]:
        if not left and not ends:
            await asyncio.Event().wait()
        body = left.pop(0) if left else b""
        return {"type": "http.request", "body": body, "more_body": bool(left) or not ends}

    return asyncio.run(read_body(Request(scope, receive), BYTES_MAX, within_s))


def refused(*parts: bytes, **options: Any) -> tuple[int, str]:
    with pytest.raises(Refused) as raised:
        read(*parts, **options)
    return raised.value.status, raised.value.code


def test_parts_are_put_together() -> None:
    assert read(b"ab", b"", b"cd") == b"abcd"
    assert read(b"x" * BYTES_MAX) == b"x" * BYTES_MAX


def test_one_that_does_not_come_in_time_is_refused() -> None:
    assert refused(b"{", within_s=0.01, ends=False) == (408, "too_slow")
    assert refused(within_s=0.01, ends=False) == (408, "too_slow")


def test_one_that_is_too_large_is_refused_before_it_has_come() -> None:
    assert refused(content_length=str(BYTES_MAX + 1), ends=False) == (413, "too_large")
    assert refused(b"x" * 600, b"x" * 600, ends=False) == (413, "too_large")
    # A length that is not one promises nothing.
    assert read(b"x", content_length="-1") == b"x"
    assert read(b"x", content_length="9" * 30 + "x") == b"x"


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", ""])
def test_what_inflates_beyond_the_bound_is_refused(encoding: str) -> None:
    small, large = b"y" * BYTES_MAX, b"y" * (BYTES_MAX + 1)
    squeeze = zlib.compress if encoding == "deflate" else gzip.compress
    assert read(squeeze(small), content_encoding=encoding) == small
    assert refused(squeeze(large), content_encoding=encoding) == (413, "too_large")


def test_members_of_gzip_count_together() -> None:
    half = gzip.compress(b"y" * 600)
    assert read(gzip.compress(b"y" * 300) * 2) == b"y" * 600
    assert refused(half + half) == (413, "too_large")


def test_more_members_than_anybody_makes_are_refused() -> None:
    assert read(gzip.compress(b"") * 39 + gzip.compress(b"y")) == b"y"
    assert len(gzip.compress(b"")) * 40 < BYTES_MAX
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(body_module, "MEMBERS_MAX", 3)
        assert read(gzip.compress(b"y") * 3) == b"yyy"
        assert refused(gzip.compress(b"y") * 4) == (400, "bad_encoding")
