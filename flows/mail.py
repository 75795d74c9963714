"""Mail between shards: one FIFO channel from each shard to each shard, through the mailbox topic.

Owns: the layout of a piece of mail, both ends of a shard's channels, and which kinds of mail there are. MessagePack::

    piece  [version, sender, receiver, generation, sequence, kind, body]    body: bytes, of a layout that its kind names
    mark   [time_ms]                                                        body of the kind ``mark``

The first five, the stamp, are in every version of the layout. The partition of the topic is the receiver's number.
``sequence`` counts the pieces of a channel from 1 on, for ever; ``generation`` is that of the sender's state.
Invariants: a piece is in the outbox, and its sequence in the state, in the write that holds its cause; so a cause that is
applied once is sent under one sequence, however often that is. A receiver takes a piece that is above the last it took
from its sender, in the write that holds what came of it, and drops all others: repeats after a restart, and what a
process of the past still sends.
Not here: when a write is (flows.actor), what a decision says (flows.control), why writes with mail are synced (docs/mail.md).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeAlias

import msgspec

from flows.batch import LocalRecord, Mail, Record
from flows.control import Decisions, from_newer_version, superseded
from opportune.errors import OpportuneError, RejectedEvent
from state.ancestry import Ancestry
from state.keys import META_ANCESTRY, META_CHANNELS, META_GENERATION, META_SEQUENCES, U64, decode_u64
from state.outbox import OutboxMessage
from state.positions import Channels, Positions, Sequences
from state.shard_identity import FIRST_GENERATION
from state.store import Batch as Write
from state.store import Store

log = logging.getLogger(__name__)

MAIL_VERSION = 1
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_Shard: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class Stamp(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What every piece of mail begins with, in every version.

    Args:
        version: of the layout of what follows.
        sender: the shard that sent it.
        receiver: the shard that it is for.
        generation: of the sender's state.
        sequence: its place in the channel from the sender to the receiver.
    """

    version: _Count
    sender: _Shard
    receiver: _Shard
    generation: _Count
    sequence: _Count


class Piece(Stamp, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A piece of mail.

    Args:
        kind: what it is; the kinds of a ``Mailbox``.
        body: as the kind has it.
    """

    kind: str
    body: bytes


class Mark(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """The body of a ``mark``: all that the sender has to say about instants before ``time_ms`` is in earlier mail."""

    time_ms: int


class MailTopics(msgspec.Struct, frozen=True):
    """Names and ids (16 bytes) of the topics of mail and decisions."""

    mailbox: str
    mailbox_id: bytes
    control: str
    control_id: bytes


LOCAL_TOPICS = MailTopics("mailbox", b"mailbox".ljust(16, b"\0"), "control", b"control".ljust(16, b"\0"))
"""Those of a loop without a broker."""

Handler: TypeAlias = Callable[[Piece, Write], bool]
"""Applies a piece of one kind: puts what comes of it into the write, and says whether it put something there, so that the
write has to happen. Raises ``RejectedEvent`` (``bad_mail``) where the body is not of its layout."""

encode_piece = msgspec.msgpack.Encoder().encode
_decode_piece = msgspec.msgpack.Decoder(Piece).decode
_decode_stamp = msgspec.msgpack.Decoder(Stamp).decode
_decode_mark = msgspec.msgpack.Decoder(Mark).decode


def decode_piece(value: bytes) -> Stamp:
    """Reads a record of the mailbox topic.

    Returns:
        A ``Piece``, or the bare ``Stamp`` of what a newer version wrote.

    Raises:
        RejectedEvent: ``bad_mail``: the bytes are neither.
    """
    try:
        piece = _decode_piece(value)
    except _UNREADABLE as error:
        stamp = _newer_stamp(value)
        if stamp is None:
            raise RejectedEvent("bad_mail", f"not a piece of mail: {error}") from error
        return stamp
    return piece if piece.version == MAIL_VERSION else _decode_stamp(value)


def stamp_of(stamp: Stamp) -> tuple[int, int, int]:
    """Sender, generation and sequence."""
    return stamp.sender, stamp.generation, stamp.sequence


def _newer_stamp(value: bytes) -> Stamp | None:
    try:
        stamp = _decode_stamp(value)
    except _UNREADABLE:
        return None
    return stamp if stamp.version > MAIL_VERSION else None


def decode_mark(body: bytes) -> Mark:
    """Reads the body of a ``mark``. Raises ``RejectedEvent`` (``bad_mail``) on other bytes."""
    try:
        return _decode_mark(body)
    except _UNREADABLE as error:
        raise RejectedEvent("bad_mail", f"not the body of a mark: {error}") from error


class Mailbox:
    """The mail of one shard.

    Args:
        shard: its number.
        store: its state.
        topic: name of the mailbox topic.

    Attributes:
        generation: of the shard's state.
        kinds: what is done with a piece, by its kind.
        marks: the last mark of each sender, milliseconds.
        moves: how many pieces were sent and taken.
        answering: whether what is sent is because of mail that was taken.
        outgoing: what was sent since the last ``save``; it belongs into the outbox entry of that write.
        wrote: whether a piece has put something into the write since the last ``save``.
        taken: pieces that were applied.
        repeated: pieces that were dropped, since the channel is beyond them.
        abandoned: pieces that were dropped, since a process sent them whose future a restore has undone.
        lost: sequences that never came: the broker refused the piece, or it was set aside; a dead letter tells of each.

    Raises:
        StateError: the state's channels, sequences or generation are not of their layout.
    """

    def __init__(self, shard: int, store: Store, topic: str) -> None:
        self._meta = store.family("meta")
        self._shard = shard
        self._topic = topic
        self._channels = Channels(store.get("meta", META_CHANNELS) or b"")
        self._sequences = Sequences(store.get("meta", META_SEQUENCES) or b"")
        self._ancestry = Ancestry(store.get("meta", META_ANCESTRY) or b"")
        self._moved = False
        self.generation = decode_u64(store.get("meta", META_GENERATION) or U64(FIRST_GENERATION), "the generation")
        self.kinds: dict[str, Handler] = {"mark": self._mark}
        self.marks: dict[int, int] = {}
        self.outgoing: list[OutboxMessage] = []
        self.moves = 0
        self.answering = False
        self._answers = self._sequences.rows()
        self.wrote = False
        self.taken = self.repeated = self.abandoned = self.lost = 0

    def send(self, receiver: int, kind: str, body: bytes) -> None:
        """Puts a piece behind all earlier ones of its channel; it goes out with the next ``save``.

        Args:
            receiver: the shard that it is for; the sender itself is allowed.
            kind: one of ``kinds``.
            body: as the kind has it.
        """
        assert kind in self.kinds, "mail that no shard can read"
        sequence = self._sequences.next(receiver)
        self.moves += 1
        if self.answering:
            self._answers[receiver] = sequence
        piece = Piece(MAIL_VERSION, self._shard, receiver, self.generation, sequence, kind, body)
        self.outgoing.append(OutboxMessage(self._topic, receiver, None, encode_piece(piece), []))

    def sent(self) -> dict[int, int]:
        """The sequence of the last piece that was sent, by receiver."""
        return self._sequences.rows()

    def answered(self) -> Mapping[int, int]:
        """The sequence of the last piece that may have been sent because of mail, by receiver."""
        return self._answers

    def heard(self) -> dict[int, int]:
        """The sequence of the last piece that was taken, by sender."""
        return {sender: sequence for sender, (_, sequence) in self._channels}

    def take(self, value: bytes, write: Write) -> None:
        """Applies a record of this shard's partition, or drops it.

        Args:
            value: the record's.
            write: takes what comes of it.

        Raises:
            RejectedEvent: ``bad_mail``: it is no piece of mail, or one for another shard.
            StateError: a newer version sent it, or the state went on in another process.
        """
        stamp = decode_piece(value)
        if stamp.receiver != self._shard:
            raise RejectedEvent("bad_mail", f"for shard {stamp.receiver}, in the partition of shard {self._shard}")
        if stamp.generation > self.generation:
            raise superseded(f"mail of shard {stamp.sender}", stamp.generation, self.generation)
        if stamp.generation < self.generation and not self._ancestry.has(*stamp_of(stamp)):
            self.abandoned += 1
            return
        last = self._channels.get(stamp.sender)
        if (stamp.generation, stamp.sequence) <= last:
            self.repeated += 1
            return
        if not isinstance(stamp, Piece):
            raise from_newer_version(f"mail of shard {stamp.sender} (version {stamp.version})")
        handler = self.kinds.get(stamp.kind)
        if handler is None:
            raise from_newer_version(f"mail of shard {stamp.sender} (kind {stamp.kind[:40]!r})")
        if stamp.sequence > last[1] + 1:
            self._miss(stamp, last[1])
        self._channels.advance(stamp.sender, stamp.generation, stamp.sequence)
        self._moved = True
        self.taken += 1
        self.moves += 1
        self.answering = True
        if handler(stamp, write):
            self.wrote = True

    def save(self, write: Write) -> None:
        """Puts the ends of the channels into a write that also holds ``outgoing`` and the positions.

        Outgoing mail is not handed on before that write is on disk.
        """
        if self.outgoing:
            write.put(META_SEQUENCES, self._sequences.encode(), self._meta)
            self.outgoing = []
        if self._moved:
            write.put(META_CHANNELS, self._channels.encode(), self._meta)
            self._moved = False
        self.wrote = self.answering = False

    def _miss(self, piece: Piece, last: int) -> None:
        missing = piece.sequence - last - 1
        self.lost += missing
        log.error(
            "%d pieces of mail from shard %d to shard %d never came (%d to %d): look for dead letters bad_mail, "
            "refused_by_broker and poison of %s",
            missing, piece.sender, self._shard, last + 1, piece.sequence - 1, self._topic,
        )  # fmt: skip

    def _mark(self, piece: Piece, _: Write) -> bool:
        self.marks[piece.sender] = max(self.marks.get(piece.sender, 0), decode_mark(piece.body).time_ms)
        return False


class Incoming:
    """What one shard reads of the mailbox and control topics.

    Args:
        shard: its number.
        topics: which topic is which.
        mailbox: takes mail.
        decisions: takes decisions.
        on_poison: called with the record on which our own code raised, and the error.
    """

    def __init__(
        self,
        shard: int,
        topics: MailTopics,
        mailbox: Mailbox,
        decisions: Decisions,
        on_poison: Callable[[Record, BaseException], None],
    ) -> None:
        self._answers = shard == 0
        self._topics = topics
        self._mailbox = mailbox
        self._decisions = decisions
        self._on_poison = on_poison

    def take(self, mail: Sequence[Mail], positions: Positions, write: Write) -> list[tuple[Record, RejectedEvent]]:
        """Takes what is new of a batch's mail.

        Args:
            mail: records of both topics, in order of each partition.
            positions: what they cover was taken before.
            write: takes what comes of it.

        Returns:
            Records that nobody can read; those of the control topic only in the first shard, since all read them.

        Raises:
            StateError: a newer version wrote one, or the state went on in another process.
        """
        topics, refused = self._topics, list[tuple[Record, RejectedEvent]]()
        for one in mail:
            known = positions.get(one.topic_id, one.partition)
            if known is not None and one.offset < known[0]:
                continue
            decided = one.topic_id == topics.control_id
            record = LocalRecord(topics.control if decided else topics.mailbox, one.partition, one.offset, one.value)
            try:
                if decided:
                    self._decisions.take(one.value, one.offset, one.time_ms)
                else:
                    self._mailbox.take(one.value, write)
            except RejectedEvent as refusal:
                if self._answers or not decided:
                    refused.append((record, refusal))
            except OpportuneError:
                raise
            except Exception as error:
                self._on_poison(record, error)
                raise
        return refused
