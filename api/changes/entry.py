"""One membership change as readers of the stream get it, and whom it concerns.

Owns: the text of an event (HTML Living Standard, 9.2.5), and filters.
Invariant: a chunk is whole events, so that it can follow any other.
Not here: who reads (api.changes.hub), where changes come from (api.changes.source).
"""

from __future__ import annotations

import msgspec

from opportune.membership import MembershipChange

encode = msgspec.json.Encoder().encode
KINDS = ("entered", "exited")
PROFILE_DIGITS = 32


class Entry(msgspec.Struct, frozen=True):
    """A change of the topic.

    Args:
        partition: where it stands.
        offset: its own.
        at_ms: when Kafka got it, milliseconds.
        change: what it says.
        event: name and data of the event, without its id.
        offsets: the place behind it, of all partitions; what ``text`` of a position says.
    """

    partition: int
    offset: int
    at_ms: int
    change: MembershipChange
    event: bytes
    offsets: tuple[int, ...] = ()


class Filter(msgspec.Struct, frozen=True):
    """Which changes somebody wants.

    Args:
        audiences: of these; empty: of all.
        kinds: ``entered``, ``exited``; empty: both.
        profile: of one profile, an id of 32 digits or ``namespace:value``; empty: of all.
    """

    audiences: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    profile: str = ""

    def wants(self, change: MembershipChange) -> bool:
        """Whether a change is among them."""
        if self.audiences and change.audience not in self.audiences:
            return False
        if self.kinds and change.change not in self.kinds:
            return False
        return not self.profile or self.profile in names_of(change)


def names_of(change: MembershipChange) -> list[str]:
    """All names of a change's person: the profile's id and every identifier."""
    return [
        change.profile_id,
        *(f"{namespace}:{value}" for namespace, values in change.identifiers.items() for value in values),
    ]


def event_of(change: MembershipChange, value: bytes) -> bytes:
    """Name and data of a change's event. ``value`` is the record as it is; data must be one line."""
    data = value if b"\n" not in value and b"\r" not in value else encode(change)
    return b"event: %s\ndata: %s\n\n" % (change.change.encode(), data)


def identified(position: str, event: bytes) -> bytes:
    """An event with its id."""
    return b"id: %s\n%s" % (position.encode(), event)


def heartbeat(position: str) -> bytes:
    """Keeps a connection alive and moves the reader's last id, without being an event."""
    return b": heartbeat\nid: %s\n\n" % position.encode()


def dropped(reason: str, detail: str) -> bytes:
    """The last event of a reader who is sent away."""
    return b"event: dropped\ndata: %s\n\n" % encode({"reason": reason, "detail": detail})
