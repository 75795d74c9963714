"""The control topic: the one log of what is decided from outside, read whole by every shard.

Owns: the layout of its records, and what a shard knows from them. A record is one JSON object. ``version`` and ``kind``
are in every version of the layout; this version writes and reads these kinds::

    {"version": 1, "kind": "started", "generation": 1, "plan": text, "routing": text, "shards": 12, "at": instant}
    {"version": 1, "kind": "snapshot", "generation": 1, "tables": {name: version}, "at": instant}
    {"version": 1, "kind": "forget", "generation": 0, "request": text, "identifiers": [digest, ...], "at": instant}
    {"version": 1, "kind": "forgotten", "generation": 1, "request": text, "asked": digest, "profile": id,
     "identifiers": [digest, ...], "until": milliseconds}
    {"version": 1, "kind": "erased", "generation": 1, "request": text, "at": instant}

``started``: a process runs the shards, in this generation of their state. Each process appends one when its shards are
open. A shard keeps the last one; one of a newer generation says that the state went on elsewhere (a restored checkpoint),
so that this process is one of the past and stops.
``forget``: whoever has these identifiers is to be forgotten; it comes from outside, so it is of no generation. An identifier is
its digest, in hexadecimal digits: a topic that is kept for ever has no identifier of anybody. ``forgotten``: a profile was, or
there was none; ``erased``: all of a request is done, and no mail of the person is on its way (flows.identity.forgetting).
``snapshot``: these versions of warehouse tables come into force; what a shard does then is flows.refresh's.
Invariant: the value ``started`` of the meta family is written together with the position behind its record.
Not here: reading the topic (flows.hub), the mail of shards (flows.mail), what later decisions do (their own rooms).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import msgspec

from opportune.errors import RejectedEvent, StateError
from state.keys import META_STARTED
from state.outbox import OutboxMessage
from state.store import Batch as Write
from state.store import Store

CONTROL_VERSION = 1
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Started(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A process began to run the shards.

    Args:
        version: of the layout.
        kind: ``started``.
        generation: of the state that it runs.
        plan: fingerprint of the definitions.
        routing: fingerprint of what decides an event's shard.
        shards: how many there are.
        at: when, by the clock of the process; for people, nothing depends on it.
    """

    version: int = CONTROL_VERSION
    kind: Literal["started"] = "started"
    generation: int
    plan: str
    routing: str
    shards: int
    at: str


class SnapshotDecision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Snapshots of warehouse tables come into force.

    Args:
        version: of the layout.
        kind: ``snapshot``.
        generation: of the state.
        tables: the versions, by table.
        at: when it was decided, by the clock of the process; for people, nothing depends on it.
    """

    version: int = CONTROL_VERSION
    kind: Literal["snapshot"] = "snapshot"
    generation: int
    tables: dict[str, str]
    at: str


Digest: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class Forget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody is to be forgotten.

    Args:
        version: of the layout.
        kind: ``forget``.
        generation: 0: whoever asks knows no state.
        request: its name, for whoever asks what became of it.
        identifiers: the digests of identifiers, one or more.
        at: when, by the clock of who asked; what counts is the record's Kafka time.
    """

    version: int = CONTROL_VERSION
    kind: Literal["forget"] = "forget"
    generation: int = 0
    request: Name
    identifiers: Annotated[list[Digest], msgspec.Meta(min_length=1, max_length=1_000)]
    at: str


class Forgotten(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A profile was forgotten, or there was none.

    Args:
        version: of the layout.
        kind: ``forgotten``.
        generation: of the state.
        request: that asked for it.
        asked: the digest of the request that led here; empty where a merge under way did.
        profile: its id; empty where there was none.
        identifiers: the digests of its identifiers: their events that arrived up to ``until`` stay refused.
        until: milliseconds of log time.
    """

    version: int = CONTROL_VERSION
    kind: Literal["forgotten"] = "forgotten"
    generation: int
    request: Name
    asked: str
    profile: str
    identifiers: list[Digest]
    until: int


class Erased(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of a request is done. ``at``: when, by the clock of the process."""

    version: int = CONTROL_VERSION
    kind: Literal["erased"] = "erased"
    generation: int
    request: Name
    at: str


Erasure: TypeAlias = Forget | Forgotten | Erased
Decision: TypeAlias = Started | SnapshotDecision | Erasure


class Decided(NamedTuple):
    """What was decided about somebody who is to be forgotten: where it stands, and the record's Kafka time, 0: not known."""

    erasure: Erasure
    offset: int
    time_ms: int


class _Head(msgspec.Struct):
    """What every version of every record has."""

    version: int
    kind: str


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_started = msgspec.json.Decoder(Started).decode
_decoders: dict[str, Any] = {
    "started": _decode_started,
    "snapshot": msgspec.json.Decoder(SnapshotDecision).decode,
    "forget": msgspec.json.Decoder(Forget).decode,
    "forgotten": msgspec.json.Decoder(Forgotten).decode,
    "erased": msgspec.json.Decoder(Erased).decode,
}


def encode_decision(decision: Decision) -> bytes:
    """The value of a control record."""
    return msgspec.json.encode(decision)


def decode_decision(value: bytes) -> Decision:
    """Reads a control record.

    Raises:
        RejectedEvent: ``bad_mail``: the bytes are not one.
        StateError: a newer version of Opportune wrote it.
    """
    try:
        head = _decode_head(value)
        if head.version > CONTROL_VERSION or (head.version == CONTROL_VERSION and head.kind not in _decoders):
            raise from_newer_version(f"a record of the control topic (kind {head.kind[:40]!r}, version {head.version})")
        if head.version < 1:
            raise RejectedEvent("bad_mail", f"no version of Opportune writes version {head.version}")
        decision: Decision = _decoders[head.kind](value)
        return decision
    except _UNREADABLE as error:
        raise RejectedEvent("bad_mail", f"not a control record: {error}") from error


def control_message(topic: str, decision: Decision) -> OutboxMessage:
    """The message that appends a decision to the control topic."""
    return OutboxMessage(topic, 0, None, encode_decision(decision), [])


class Decisions:
    """What one shard knows from the control topic.

    Args:
        store: of the shard.
        generation: of its state.

    Attributes:
        started: the last ``started`` that was read, None before the first.

    Raises:
        StateError: what the state keeps of it is not readable.
    """

    def __init__(self, store: Store, generation: int) -> None:
        self._meta = store.family("meta")
        self._generation = generation
        self._unsaved: bytes | None = None
        self._snapshots: list[dict[str, str]] = []
        self._erasures: list[Decided] = []
        self.started: Started | None = None
        kept = store.get("meta", META_STARTED)
        if kept is not None:
            try:
                self.started = _decode_started(kept) if isinstance(decode_decision(kept), Started) else None
            except RejectedEvent as error:
                raise StateError(
                    f"the state of this shard is damaged: what it keeps of the control topic is not readable ({error}). "
                    "Restore a checkpoint set, or start with an empty state directory; then the topics are read again "
                    "from the beginning."
                ) from error

    def take(self, value: bytes, offset: int = 0, time_ms: int = 0) -> None:
        """Takes a record; what it leaves is kept by the next ``save``.

        Args:
            value: of a record that was not taken before.
            offset: its place.
            time_ms: its Kafka time; 0 where there is none.

        Raises:
            RejectedEvent: ``bad_mail``: the bytes are not a control record.
            StateError: a newer version wrote it, or the state went on in another process.
        """
        decision = decode_decision(value)
        if decision.generation > self._generation:
            raise superseded(
                f"the control topic, at {getattr(decision, 'at', offset)},", decision.generation, self._generation
            )
        if isinstance(decision, SnapshotDecision):
            self._snapshots.append(decision.tables)
        elif isinstance(decision, Erasure):
            self._erasures.append(Decided(decision, offset, time_ms))
        else:
            self.started, self._unsaved = decision, value

    def snapshots(self) -> list[dict[str, str]]:
        """The versions of tables that were decided since this was asked last, in order."""
        taken, self._snapshots = self._snapshots, []
        return taken

    def erasures(self) -> list[Decided]:
        """What was decided about people who are to be forgotten since this was asked last, in order."""
        taken, self._erasures = self._erasures, []
        return taken

    def save(self, write: Write) -> None:
        """Puts what is not yet kept into a write, which moves the position too."""
        if self._unsaved is not None:
            write.put(META_STARTED, self._unsaved, self._meta)
            self._unsaved = None


def superseded(where: str, generation: int, own: int) -> StateError:
    """The error of a process whose state was taken over under a newer generation.

    Args:
        where: what told it, to begin a sentence with.
        generation: the newer one.
        own: of this process' state.
    """
    return StateError(
        f"{where} tells of generation {generation} of this state, this process has generation {own}: another process "
        "took the state over, began a state of its own on these topics, or this directory is an older copy. Do not start this "
        "one again beside it. If the other is stopped and this state is to go on, start it once with --take-over; to start "
        "anew, move the state directory away."
    )


def from_newer_version(what: str) -> StateError:
    """The error of a shard that met what only a newer version can read."""
    return StateError(
        f"{what} was written by a newer version of Opportune than this one, and may not be skipped: run that version or "
        "a later one. Nothing is lost; the record is read again then."
    )
