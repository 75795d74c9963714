"""The process that serves HTTP.

Owns: the server's options, room for as many connections as the system grants, and that readers of the live stream are let go when a signal asks for the end: the server waits
for its connections, and theirs have no end.
Not here: the application (api.app), what may be listened on (opportune.cli.serve).
"""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.transport import JoiningProtocol

BACKLOG = 2_048
"""Clients open many connections at once; a short queue stalls them for a second."""
FILES_MAX = 65_536


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal."""
        self._on_stop()
        super().handle_exit(sig, frame)


def serve_http(
    app: FastAPI,
    host: str,
    port: int,
    log_level: str,
    on_stop: Callable[[], None],
    sockets: list[socket.socket] | None = None,
) -> bool:
    """Serves until SIGTERM or Ctrl-C.

    Args:
        app: the application.
        host: to listen on.
        port: 0 takes a free one.
        log_level: in lower case.
        on_stop: called in a signal handler when the end is asked for.
        sockets: that listen already; None: it makes its own.

    Returns:
        Whether it has served at all.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=JoiningProtocol,
        backlog=BACKLOG,
        # Addresses hold identifiers and write keys: no line for each request.
        access_log=False,
        log_level=log_level,
        server_header=False,
    )
    _take_room()
    server = _Server(config, on_stop)
    server.run(sockets)
    return bool(server.started)


def _take_room() -> None:
    """A reader of the stream is an open file; the usual limit of 1,024 is for programs that know no better."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
