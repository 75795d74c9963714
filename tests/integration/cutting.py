"""A line to a server that is cut when a number of bytes has come through: what a lost connection is to who reads.

Owns: a proxy on the loopback. Not here: the server.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread

CHUNK = 16_384


class Cutting:
    """The proxy.

    Args:
        host, port: of the server.
        bytes_max: so many bytes come from it, then every connection is cut, also new ones.
    """

    def __init__(self, host: str, port: int, bytes_max: int) -> None:
        self._server = host, port
        self._left = bytes_max
        self._lock = Lock()
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        Thread(target=self._accept, daemon=True).start()

    @property
    def cut(self) -> bool:
        """Whether it has come to that."""
        return self._left <= 0

    def close(self) -> None:
        """Ends."""
        self._left = 0
        for each in (self._listening, *self._open):
            with suppress(OSError):
                each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self.cut:
                    client.close()
                    continue
                server = socket.create_connection(self._server)
                self._open += [client, server]
                Thread(target=self._pass, args=(client, server, False), daemon=True).start()
                Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                if counted:
                    with self._lock:
                        data, self._left = data[: max(self._left, 0)], self._left - len(data)
                target.sendall(data)
                if counted and self.cut:
                    break
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting(address: str, bytes_max: int) -> Iterator[Cutting]:
    """A proxy to ``HOST:PORT`` while the block runs."""
    host, _, port = address.rpartition(":")
    proxy = Cutting(host, int(port), bytes_max)
    try:
        yield proxy
    finally:
        proxy.close()
