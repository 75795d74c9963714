"""Heads of requests: bounded in time and bytes, whoever opens connections and says little or too much on them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from api import transport
from api.transport import JoiningProtocol

Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


async def echo_length(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers with how many bytes came."""
    assert scope["type"] == "http"
    size, more = 0, True
    while more:
        part = await receive()
        size, more = size + len(part.get("body", b"")), part.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d bytes" % size})


def talk(client: Client, head_s: float, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a client makes of a connection to such a server."""
    monkeypatch.setattr(transport, "HEAD_S", head_s)

    async def both() -> Any:
        config = uvicorn.Config(echo_length, log_level="critical")
        config.load()
        loop, state = asyncio.get_running_loop(), ServerState()
        server = await loop.create_server(lambda: JoiningProtocol(config, state, {}), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
            try:
                return await asyncio.wait_for(client(reader, writer), 20)
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

    return asyncio.run(both())


@pytest.mark.parametrize("said", [b"", b"G", GET[:-2], GET + GET[:9]])
def test_a_head_that_does_not_come_ends_the_connection(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(said)
        return await reader.read()

    answered = talk(client, 0.2, monkeypatch)
    assert (b"0 bytes" in answered) == said.startswith(GET)


def test_a_head_without_an_end_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                writer.write(b"X: " + b"x" * 65_536 + b"\r\n")
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            return await reader.read() == b""
        return True

    assert talk(client, 60, monkeypatch)


def test_bodies_and_their_followers_are_no_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 300_000

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(POST % size + b"a" * (size - 1))
        await writer.drain()
        # Longer than a head may take, in the middle of a body: that has a bound of its own.
        await asyncio.sleep(0.5)
        writer.write(b"a" + POST % 3 + b"abc" + GET[:20])
        await writer.drain()
        first = await reader.readuntil(b"3 bytes")
        writer.write(GET[20:])
        return first + await reader.readuntil(b"0 bytes\r\n" if b"chunked" in first else b"0 bytes")

    answered = talk(client, 0.2, monkeypatch)
    assert b"300000 bytes" in answered
    assert answered.count(b"HTTP/1.1 200 OK") == 3
