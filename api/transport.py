"""What the service does on a connection otherwise than its server.

Owns: head and body of an answer in one write: a protocol that holds the head back until the body comes, or until the loop goes
round: a write is a call into the kernel and a packet that wakes the client, and the server makes two for the smallest answer.
And the bounds of a request's head, which the server takes for as long and as large as it comes: else whoever opens connections
and says little on them takes them all.
Invariants: what was written goes out in its order, and nothing waits longer than one round of the loop; a connection without an
open request whose next head is not there within ``HEAD_S`` of its first byte (of the connection, for the first one) is closed.
Not here: the server (api.server).
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 15.0
"""So long a request's head may take to come."""
HEAD_BYTES_MAX = 64 << 10


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
    """HTTP over such a transport, with heads that are bounded."""

    _head_bytes = 0
    _in_head = False
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its parent has it
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
        self.transport = JoinedWrites(transport, self.loop)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """As the server's; most heads come in one piece and cost two comparisons."""
        goes_on = self._in_head
        super().data_received(data)
        if self._in_head:
            # A head that begins behind a body, in one piece with it, is not as large as that.
            self._head_bytes += len(data) if goes_on else 0
            if self._head_bytes > HEAD_BYTES_MAX:
                self._give_up()
            elif self._head_timer is None:
                self._await_head()
        elif self._head_timer is not None:
            self._forget_head()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """It is whole."""
        self._in_head = False
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._in_head = False
        self._forget_head()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self._give_up)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._forget_head()
        self._in_head = False
        self.transport.close()
