"""The live stream of membership changes, followed from Python.

Owns: reading server-sent events, coming again with the last id when a connection ends, and dropping what is no news: per
profile, a version that is not above the last one seen (docs/memberships.md). ``opportune.client`` hands it on.
Invariant: every change behind the place at which it began comes once, in order, or ``CallFailed`` says that it cannot.
Not here: calls that end (opportune.client).
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Generator, Iterable, Iterator

import msgspec

from opportune.membership import MembershipChange

REMEMBERED_MAX = 200_000
"""Profiles whose last version is remembered."""
BROKEN = (OSError, http.client.HTTPException)


class Event(msgspec.Struct, frozen=True):
    """One event of a stream: its id, its name and its data; all may be empty."""

    id: str
    name: str
    data: str


def events_of(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events of a stream, also those that only move the id. Source: HTML Living Standard, 9.2.6."""
    id_, name, data = "", "", list[str]()
    for line in lines:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        field, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if not text:
            if id_ or data:
                yield Event(id_, name, "\n".join(data))
            name, data = "", []
        elif field == "id":
            id_ = value
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)


class Changes:
    """Membership changes, without end. Iterate over it; ``position`` is where to begin next time.

    Args:
        connect: opens a stream behind a place (empty: from now on); gives its lines. Raises what ends the iteration.
        position: the place to begin behind.
        pause: called between two connections.

    Attributes:
        position: the place behind the last change that came.
    """

    def __init__(self, connect: Callable[[str], Iterable[bytes]], position: str, pause: Callable[[], None]) -> None:
        self.position = position
        self._connect = connect
        self._pause = pause
        self._versions: dict[str, int] = {}
        self._decode = msgspec.json.Decoder(MembershipChange).decode

    def __iter__(self) -> Iterator[MembershipChange]:
        return self.follow()

    def follow(self) -> Generator[MembershipChange, None, None]:
        """As iteration does; ``close`` of what is returned ends the connection."""
        while True:
            try:
                for event in events_of(self._connect(self.position)):
                    if event.name == "dropped":
                        break
                    self.position = event.id or self.position
                    if event.data and self._is_news(change := self._decode(event.data)):
                        yield change
            except BROKEN:
                pass  # a connection that ends is nothing unusual: the next one goes on behind the last id
            self._pause()

    def _is_news(self, change: MembershipChange) -> bool:
        last = self._versions.pop(change.profile_id, 0)
        self._versions[change.profile_id] = max(last, change.version)
        if len(self._versions) > REMEMBERED_MAX:
            del self._versions[next(iter(self._versions))]
        return change.version > last
