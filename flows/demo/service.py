"""The service of a demo: where it listens, and the calls that one can make of it while the demo runs.

Owns: the listening socket, which the demo opens so that its address is known before the service is up, and three commands
to copy: send an event, look a person up, list an audience. Invariant: they are told only when they work: the service is
ready, it knows the person, and somebody is in the audience.
Not here: the service (api), its process (flows.demo.tree), where the commands are shown (flows.demo.view).
"""

from __future__ import annotations

import contextlib
import http.client
import socket

from flows.demo.board import Board
from opportune.membership import MembershipChange

HOST, PORT = "127.0.0.1", 8080
BACKLOG = 128
ANSWER_SECONDS = 0.5
LOOK_MS = 500
EVENT = "Pricing Viewed"
CALL_LENGTH = 79


class Service:
    """Where the service of a demo listens. Closed by ``close``; the process has its own handle of the socket."""

    def __init__(self) -> None:
        self._socket = _listening(PORT)
        self._next_ms = 0

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{HOST}:{self._socket.getsockname()[1]}"

    @property
    def descriptor(self) -> int:
        """The socket's, to hand on to the process."""
        return self._socket.fileno()

    def close(self) -> None:
        """Lets the address go."""
        self._socket.close()

    def look(self, board: Board) -> None:
        """Tells the board the calls, as soon as they work; afterwards does nothing."""
        if board.calls or board.now_ms < self._next_ms or not board.newest:
            return
        self._next_ms = board.now_ms + LOOK_MS
        person, audience = _person(board), _audience(board)
        if person is None or audience is None:
            return
        if all(self._answers(path) for path in ("/readyz", f"/v1/profiles/{person}", f"/v1/audiences/{audience}")):
            board.calls = calls(self.address, person, audience)

    def _answers(self, path: str) -> bool:
        line = http.client.HTTPConnection(self.address, timeout=ANSWER_SECONDS)
        try:
            line.request("GET", path)
            return line.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            line.close()


def calls(address: str, person: str, audience: str) -> tuple[str, ...]:
    """Three commands to copy.

    Args:
        address: ``host:port`` of the service.
        person: ``namespace:value`` of somebody who is known.
        audience: the name of one.
    """
    return (
        f'curl -s {address}/v1/t -d \'{{"event":"{EVENT}","userId":"you"}}\'',
        f"curl -s {address}/v1/profiles/{person}",
        f"curl -s {address}/v1/audiences/{audience}/members",
    )


def _person(board: Board) -> str | None:
    """Somebody whose own event made one of the newest changes, and who has signed in; else None."""
    acting = (change for change in board.newest if change.cause == "event")
    return next((f"user_id:{name}" for change in acting for name in _names(change)), None)


def _names(change: MembershipChange) -> list[str]:
    return [
        name for name in change.identifiers.get("user_id", []) if name.isascii() and name.replace("-", "").isalnum()
    ]


def _audience(board: Board) -> str | None:
    """The largest audience whose command fits the narrowest terminal, else None."""
    fitting = {
        name: tally.members
        for name, tally in board.tallies.items()
        if tally.members and len(calls(f"{HOST}:{65_535}", "", name)[2]) <= CALL_LENGTH
    }
    return max(fitting, key=lambda name: fitting[name], default=None)


def _listening(port: int) -> socket.socket:
    """A socket that listens on a port, on any free one where that is taken."""
    with contextlib.suppress(OSError):
        return socket.create_server((HOST, port), backlog=BACKLOG)
    return socket.create_server((HOST, 0), backlog=BACKLOG)
