"""How far a shard has read and sent: applied positions of its inputs, and the last mail of each channel.

Owns: the values ``applied``, ``channels``, ``sequences`` and ``reached`` of the meta family, each one value whatever the number of
partitions::

    applied    (topic_id:16 | partition:u32 | offset:i64 | time_ms:i64)*      in order of first use
    channels   (sender:u32 | generation:u64 | sequence:u64)*                  mail taken, in order of first use
    sequences  (receiver:u32 | sequence:u64)*                                 mail sent, in order of first use
    reached    time_ms:u64 | latest_ms:u64                                    log time, and the latest arrival that was applied

``offset`` is the offset to read next, as Kafka counts positions: all below it is applied. ``time_ms`` is the log time
that the partition was read to. A topic that was made anew has another id, so its positions are other ones.
Invariant: encoding is one copy of a buffer that ``advance`` writes into; a row never moves.
Not here: comparing with what the broker has (flows.sources), log time (flows.hub).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from opportune.errors import StateError
from state.keys import META_REACHED
from state.store import Batch, Store

_APPLIED = Struct(">16sIqq")
_APPLIED_TAIL = Struct(">qq")
_APPLIED_AT = _APPLIED.size - _APPLIED_TAIL.size
_CHANNEL = Struct(">IQQ")
_CHANNEL_TAIL = Struct(">QQ")
_CHANNEL_AT = _CHANNEL.size - _CHANNEL_TAIL.size
_SEQUENCE = Struct(">IQ")
_REACHED = Struct(">QQ")


class Positions:
    """Applied positions by (topic id, partition).

    Args:
        value: what ``encode`` made, or nothing.

    Raises:
        StateError: the value is of another layout, or has a partition twice.
    """

    __slots__ = ("_buffer", "_rows")

    def __init__(self, value: bytes = b"") -> None:
        _check(len(value) % _APPLIED.size == 0, "applied")
        self._buffer = bytearray(value)
        self._rows: dict[tuple[bytes, int], int] = {}
        for at, (topic, partition, _offset, _time) in enumerate(_APPLIED.iter_unpack(value)):
            self._rows[topic, partition] = at * _APPLIED.size + _APPLIED_AT
        _check(len(self._rows) * _APPLIED.size == len(value), "applied")

    def advance(self, topic_id: bytes, partition: int, offset: int, time_ms: int) -> None:
        """Everything of a partition below ``offset`` (the one to read next) is applied, and its time is ``time_ms``."""
        at = self._rows.get((topic_id, partition))
        if at is None:
            assert len(topic_id) == 16, "a topic id is 16 bytes"
            self._rows[topic_id, partition] = len(self._buffer) + _APPLIED_AT
            self._buffer += _APPLIED.pack(topic_id, partition, offset, time_ms)
        else:
            _APPLIED_TAIL.pack_into(self._buffer, at, offset, time_ms)

    def get(self, topic_id: bytes, partition: int) -> tuple[int, int] | None:
        """(offset to read next, time_ms), or None for a partition of which nothing was applied."""
        at = self._rows.get((topic_id, partition))
        return None if at is None else _APPLIED_TAIL.unpack_from(self._buffer, at)

    def encode(self) -> bytes:
        """The value for the meta family."""
        return bytes(self._buffer)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[tuple[tuple[bytes, int], tuple[int, int]]]:
        """((topic_id, partition), (offset, time_ms)) in order of first use."""
        for topic, partition, offset, time_ms in _APPLIED.iter_unpack(bytes(self._buffer)):
            yield (topic, partition), (offset, time_ms)


class Reached:
    """How far a shard has come in time.

    Args:
        store: the shard's state.

    Attributes:
        time_ms: log time that the state tells of; it may be behind.
        latest_ms: no event of a later arrival was applied.

    Raises:
        StateError: the value is of another layout.
    """

    __slots__ = ("_meta", "latest_ms", "time_ms")

    def __init__(self, store: Store) -> None:
        self._meta = store.family("meta")
        value = store.get("meta", META_REACHED) or _REACHED.pack(0, 0)
        _check(len(value) == _REACHED.size, "reached")
        self.time_ms, self.latest_ms = _REACHED.unpack(value)

    def late(self, arrival_ms: int) -> int:
        """An event of this arrival is applied; returns the arrival."""
        self.latest_ms = max(self.latest_ms, arrival_ms)
        return arrival_ms

    def save(self, write: Batch, time_ms: int) -> None:
        """Puts that time has come to an instant into a write."""
        self.time_ms = max(self.time_ms, time_ms)
        write.put(META_REACHED, _REACHED.pack(self.time_ms, self.latest_ms), self._meta)


class Channels:
    """The generation and sequence of the last mail taken from each sending shard.

    Args:
        value: what ``encode`` made, or nothing.

    Raises:
        StateError: the value is of another layout, or has a sender twice.
    """

    __slots__ = ("_buffer", "_rows")

    def __init__(self, value: bytes = b"") -> None:
        _check(len(value) % _CHANNEL.size == 0, "channels")
        self._buffer = bytearray(value)
        self._rows = {
            sender: at * _CHANNEL.size + _CHANNEL_AT for at, (sender, _, _) in enumerate(_CHANNEL.iter_unpack(value))
        }
        _check(len(self._rows) * _CHANNEL.size == len(value), "channels")

    def advance(self, sender: int, generation: int, sequence: int) -> None:
        """The mail of a sender up to this one is taken."""
        at = self._rows.get(sender)
        if at is None:
            self._rows[sender] = len(self._buffer) + _CHANNEL_AT
            self._buffer += _CHANNEL.pack(sender, generation, sequence)
        else:
            _CHANNEL_TAIL.pack_into(self._buffer, at, generation, sequence)

    def get(self, sender: int) -> tuple[int, int]:
        """(generation, sequence) of the last mail taken from a sender; (0, 0) before the first."""
        at = self._rows.get(sender)
        return (0, 0) if at is None else _CHANNEL_TAIL.unpack_from(self._buffer, at)

    def encode(self) -> bytes:
        """The value for the meta family."""
        return bytes(self._buffer)

    def __iter__(self) -> Iterator[tuple[int, tuple[int, int]]]:
        """(sender, (generation, sequence)) in order of first use."""
        for sender, generation, sequence in _CHANNEL.iter_unpack(bytes(self._buffer)):
            yield sender, (generation, sequence)


class Sequences:
    """The sequence of the last mail sent to each receiving shard.

    Args:
        value: what ``encode`` made, or nothing.

    Raises:
        StateError: the value is of another layout, or has a receiver twice.
    """

    __slots__ = ("_rows",)

    def __init__(self, value: bytes = b"") -> None:
        _check(len(value) % _SEQUENCE.size == 0, "sequences")
        self._rows: dict[int, int] = dict(_SEQUENCE.iter_unpack(value))
        _check(len(self._rows) * _SEQUENCE.size == len(value), "sequences")

    def next(self, receiver: int) -> int:
        """Takes the next sequence for a receiver, 1 at first."""
        sequence = self._rows.get(receiver, 0) + 1
        self._rows[receiver] = sequence
        return sequence

    def rows(self) -> dict[int, int]:
        """The last sequence by receiver, as a value that later mail does not change."""
        return dict(self._rows)

    def encode(self) -> bytes:
        """The value for the meta family."""
        return b"".join(_SEQUENCE.pack(receiver, sequence) for receiver, sequence in self._rows.items())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(receiver, sequence) in order of first use."""
        return iter(self._rows.items())


def _check(right: bool, what: str) -> None:
    if not right:
        raise StateError(
            f"the state of this shard is damaged: its {what} positions are not of their layout. Restore a checkpoint "
            "set, or start with an empty state directory; then the topics are read again from the beginning."
        )
