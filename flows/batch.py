"""What a shard is given at once: events, refused records, mail, how far its inputs are read.

Owns: ``Batch``, the item that travels from the source to a shard's actor, and ``Record``, the protocol of what an event
keeps of its origin (confluent_kafka's Message satisfies it).
Not here: how batches are gathered (flows.hub), what is done with one (flows.actor).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from opportune.decode import Event
from opportune.errors import RejectedEvent


class Record(Protocol):
    """Where an event comes from."""

    def topic(self) -> str | None:
        """The topic's name."""

    def partition(self) -> int | None:
        """The partition."""

    def offset(self) -> int | None:
        """The offset."""

    def value(self, /) -> bytes | None:
        """The bytes as they came."""

    def key(self, /) -> bytes | None:
        """The key as it came."""


class LocalRecord(msgspec.Struct, frozen=True):
    """A record that does not come from a broker: a line of a file, or one that a test makes."""

    source: str
    place: int
    number: int
    body: bytes | None

    def topic(self) -> str | None:
        """The file's or topic's name."""
        return self.source

    def partition(self) -> int | None:
        """The partition."""
        return self.place

    def offset(self) -> int | None:
        """The line's number, from 0."""
        return self.number

    def value(self) -> bytes | None:
        """The line."""
        return self.body

    def key(self) -> bytes | None:
        """There is none."""
        return None


class Span(msgspec.Struct, gc=False):
    """The stretch of a partition that a batch covers, for all shards.

    Args:
        topic: the topic's name.
        topic_id: 16 bytes.
        partition: the partition.
        first: the first offset.
        next: the offset to read next.
        time_ms: the log time that the partition is read to.
    """

    topic: str
    topic_id: bytes
    partition: int
    first: int
    next: int
    time_ms: int


class Mail(msgspec.Struct, array_like=True, frozen=True):
    """A record of the mailbox or of the control topic, as read: its place, what it says, and its Kafka time (0: unknown)."""

    topic_id: bytes
    partition: int
    offset: int
    value: bytes
    time_ms: int = 0


class Batch(msgspec.Struct):
    """What one shard is given at once.

    Args:
        time_ms: the shard's time: everything that arrived before it is in this batch or an earlier one.
        spans: the stretches of the inputs that it covers; events of other shards are not in it.
        events: routed events, in order of each partition.
        refused: records that are no events, for the shard that answers for their partition.
        mail: from the mailbox and control topics.
        read_ms: how far the inputs are read, where the shard's time waits for mail; 0: as ``time_ms``.
    """

    time_ms: int
    spans: list[Span]
    events: list[Event]
    refused: Sequence[tuple[Any, RejectedEvent]] = ()
    mail: Sequence[Mail] = ()
    read_ms: int = 0
