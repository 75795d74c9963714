"""The process that serves HTTP.

Owns: the server's options, room for as many connections as the system grants, and that readers of the live stream are let go when a signal asks for the end: the server waits
for its connections, and theirs have no end.
Not here: the application (api.app), what may be listened on (opportune.cli.serve).
"""

from __future__ import annotations

import errno
import logging
import resource
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.transport import JoiningProtocol
from opportune.errors import ConfigurationError

log = logging.getLogger(__name__)

BACKLOG = 2_048
"""Clients open many connections at once; a short queue stalls them for a second."""
FILES_MAX = 65_536


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as it is called
        """A signal."""
        self._on_stop()
        # Not the library's own: that raises the signal anew when all is done, so that an end as asked looks like a failure.
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def serve_http(
    app: FastAPI,
    sockets: list[socket.socket],
    log_level: str,
    on_stop: Callable[[], None],
) -> bool:
    """Serves until SIGTERM or Ctrl-C.

    Args:
        app: the application.
        sockets: that listen already (``listening``).
        log_level: in lower case.
        on_stop: called in a signal handler when the end is asked for.

    Returns:
        Whether it has served at all.
    """
    config = uvicorn.Config(
        app,
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


def listening(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on all addresses of a host.

    Args:
        host: a name or an address.
        port: 0 takes a free one.

    Raises:
        ConfigurationError: it cannot be listened on.
    """
    made: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        ):
            one = socket.socket(family, kind, protocol)
            made.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(BACKLOG)
    except OSError as error:
        for one in made:
            one.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"port {port} of {host} is taken by another process: end that, or take another one with --port."
            ) from error
        raise ConfigurationError(
            f"{host} cannot be listened on with port {port} ({error.strerror}): see --host and --port."
        ) from error
    for one in made:
        log.info("listening on %s, port %d", *one.getsockname()[:2])
    return made


def _take_room() -> None:
    """A reader of the stream is an open file; the usual limit of 1,024 is for programs that know no better."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
