"""Messages that a shard has decided to send and does not yet know to be sent.

Owns: the ``outbox`` family and the value ``outbox`` of the meta family::

    outbox       sequence:u64 -> messages, msgpack: [[topic, partition, key, value, [[name, bytes]*]]*]
    meta outbox  first:u64 | next:u64         entries first <= sequence < next are there, and no others

How an entry gets out, for ever and in order: the actor appends it in the batch that decided it, then hands it on. At a
snapshot everything appended so far is ``sealed``: the sink flushes it before that epoch commits. The first batch after a
snapshot proves that its epoch has committed (sources wait for it): ``committed``, and the next batch trims what was
sealed. After a start everything that is left goes out again, with the ids that it had; where the fence of the engine
tells a sequence, ``acknowledge`` spares what lies up to it. Sequences rise for ever, also over an empty outbox.
Not here: producing (flows.sinks), when a snapshot is (flows.actor).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from struct import Struct

import msgspec

from opportune.errors import StateError
from state.keys import META_OUTBOX, U64, decode_u64
from state.store import Batch, Store

_BOUNDS = Struct(">QQ")
FIRST_SEQUENCE = 1
"""So that 0 says in a fence: nothing."""


class OutboxMessage(msgspec.Struct, array_like=True, gc=False, forbid_unknown_fields=True):
    """One message for a topic.

    Args:
        topic: its name.
        partition: -1 lets the key decide.
        key: of the message.
        value: None is a tombstone.
        headers: names and bytes, in order.
    """

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[OutboxMessage])


def encode_messages(messages: Sequence[OutboxMessage]) -> bytes:
    """One entry's value."""
    return _encoder.encode(messages)


def decode_messages(blob: bytes) -> list[OutboxMessage]:
    """The messages of one entry. Raises ``StateError`` on other bytes."""
    try:
        return _decoder.decode(blob)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(f"an entry is not readable ({error})") from error


class Outbox:
    """The outbox of one shard.

    Args:
        store: of the shard.

    Raises:
        StateError: its bounds are not readable.
    """

    __slots__ = ("_family", "_first", "_meta", "_next", "_sealed", "_store", "_trimmable")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._family = store.family("outbox")
        self._meta = store.family("meta")
        value = store.get("meta", META_OUTBOX)
        if value is not None and len(value) != _BOUNDS.size:
            raise _damaged("its bounds are not readable")
        self._first: int = FIRST_SEQUENCE
        self._next: int = FIRST_SEQUENCE
        if value is not None:
            self._first, self._next = _BOUNDS.unpack(value)
        if not FIRST_SEQUENCE <= self._first <= self._next:
            raise _damaged(f"its bounds are {self._first} and {self._next}")
        self._sealed = self._trimmable = self._first - 1

    @property
    def last(self) -> int:
        """The sequence of the newest entry ever appended; 0 before the first."""
        return self._next - 1

    def append(self, batch: Batch, blob: bytes) -> int:
        """Puts an entry into the batch that decided it.

        Args:
            batch: to write into.
            blob: ``encode_messages`` made it.

        Returns:
            Its sequence, one above the last.
        """
        sequence = self._next
        self._next = sequence + 1
        batch.put(U64(sequence), blob, self._family)
        batch.put(META_OUTBOX, _BOUNDS.pack(self._first, self._next), self._meta)
        return sequence

    def pending(self) -> Iterator[tuple[int, bytes]]:
        """(sequence, blob) of all that is not trimmed, oldest first, as the store has it at the call; read one by one.

        Raises:
            StateError: midway, when an entry is missing or one is too many.
        """
        return self._walk(self._store.scan("outbox", U64(self._first)), self._first, self._next)

    def sealed(self, sent: int | None = None) -> int:
        """At a snapshot: what was handed on so far belongs to its epoch.

        Args:
            sent: the last sequence that was handed on; None: all of them.

        Returns:
            It, for the fence.
        """
        self._sealed = self.last if sent is None else min(sent, self.last)
        return self._sealed

    def read(self, sequence: int, limit: int) -> list[tuple[int, bytes]]:
        """At most ``limit`` entries from a sequence on, oldest first. Raises ``StateError`` as ``pending``."""
        first = max(sequence, self._first)
        found = islice(self._store.scan("outbox", U64(first), U64(min(first + limit, self._next))), limit)
        return list(self._walk(found, first, min(first + limit, self._next)))

    @property
    def first(self) -> int:
        """The sequence of the oldest entry that is not trimmed."""
        return self._first

    def committed(self) -> None:
        """The epoch of the last snapshot is known committed: what was sealed is delivered."""
        self._trimmable = max(self._trimmable, self._sealed)

    def acknowledge(self, sequence: int) -> None:
        """At a start: everything up to a sequence, which the fence tells, is delivered. The next ``trim`` removes it.

        Raises:
            StateError: the fence knows a later entry than this state: it is an old copy.
        """
        if sequence >= self._next:
            raise StateError(
                f"this state is behind the engine's fence: its newest outbox entry is {self.last}, the fence knows "
                f"{sequence}. The directory is an old copy or its disk lost writes: restore the newest checkpoint set."
            )
        self._trimmable = max(self._trimmable, sequence)

    @property
    def trimmable(self) -> bool:
        """Whether ``trim`` has something to remove."""
        return self._trimmable >= self._first

    def trim(self, batch: Batch) -> None:
        """Removes what is delivered; call it in any batch, it does nothing where there is nothing."""
        if self._trimmable < self._first:
            return
        for sequence in range(self._first, self._trimmable + 1):
            batch.delete(U64(sequence), self._family)
        self._first = self._trimmable + 1
        batch.put(META_OUTBOX, _BOUNDS.pack(self._first, self._next), self._meta)

    def _walk(self, entries: Iterator[tuple[bytes, bytes]], first: int, after: int) -> Iterator[tuple[int, bytes]]:
        expected = first
        for key, blob in entries:
            sequence = decode_u64(key, "outbox")
            if sequence != expected or sequence >= after:
                raise _damaged(f"entry {sequence} is where {expected} belongs")
            expected += 1
            yield sequence, blob
        if expected != after:
            raise _damaged(f"entry {expected} is missing")


def _damaged(what: str) -> StateError:
    return StateError(
        f"the state of this shard is damaged: in its outbox, {what}. Restore a checkpoint set, or start with an empty "
        "state directory; then the topics are read again from the beginning."
    )
