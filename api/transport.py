"""Head and body of an answer in one write.

Owns: a protocol of the server that holds the head back until the body comes, or until the loop goes round: a write is a call into
the kernel and a packet that wakes the client, and the server makes two for the smallest answer.
Invariant: what was written goes out in its order, and nothing waits longer than one round of the loop.
Not here: the server (api.server).
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class JoinedWrites(asyncio.Transport):
    """A transport whose answers' heads wait for what follows.

    Args:
        transport: the connection's own.
        loop: its loop.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._head: Any = b""

    def write(self, data: Any) -> None:
        """Writes, with the head that waits; a head waits."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif data[:5] == b"HTTP/" and data[-4:] == b"\r\n\r\n":
            self._head = data
            self._loop.call_soon(self.flush)
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Writes what waits."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """As the transport's, after what waits."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """As the transport's."""
        return self._transport.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """As the transport's, after what waits."""
        self.flush()
        self._transport.set_protocol(protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the transport's."""
        return self._transport.get_extra_info(name, default)


class JoiningProtocol(HttpToolsProtocol):
    """HTTP over such a transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its parent has it
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
        self.transport = JoinedWrites(transport, self.loop)
