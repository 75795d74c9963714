"""The control topic: the one log of what is decided from outside, read whole by every shard.

Owns: the layout of its records, and what a shard knows from them. A record is one JSON object. ``version`` and ``kind``
are in every version of the layout; this version writes and reads two kinds::

    {"version": 1, "kind": "started", "generation": 1, "plan": text, "routing": text, "shards": 12, "at": instant}
    {"version": 1, "kind": "snapshot", "generation": 1, "tables": {name: version}, "at": instant}

``started``: a process runs the shards, in this generation of their state. Each process appends one when its shards are
open. A shard keeps the last one; one of a newer generation says that the state went on elsewhere (a restored checkpoint),
so that this process is one of the past and stops.
``snapshot``: these versions of warehouse tables come into force; what a shard does then is flows.refresh's.
Invariant: the value ``started`` of the meta family is written together with the position behind its record.
Not here: reading the topic (flows.hub), the mail of shards (flows.mail), what later decisions do (their own rooms).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from opportune.errors import RejectedEvent, StateError
from state.keys import META_STARTED
from state.outbox import OutboxMessage
from state.store import Batch as Write
from state.store import Store

CONTROL_VERSION = 1
KINDS = frozenset({"started", "snapshot"})
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


Decision: TypeAlias = Started | SnapshotDecision


class _Head(msgspec.Struct):
    """What every version of every record has."""

    version: int
    kind: str


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_started = msgspec.json.Decoder(Started).decode
_decode_snapshot = msgspec.json.Decoder(SnapshotDecision).decode


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
        if head.version > CONTROL_VERSION or (head.version == CONTROL_VERSION and head.kind not in KINDS):
            raise from_newer_version(f"a record of the control topic (kind {head.kind[:40]!r}, version {head.version})")
        if head.version < 1:
            raise RejectedEvent("bad_mail", f"no version of Opportune writes version {head.version}")
        return _decode_snapshot(value) if head.kind == "snapshot" else _decode_started(value)
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

    def take(self, value: bytes) -> None:
        """Takes a record; what it leaves is kept by the next ``save``.

        Args:
            value: of a record that was not taken before.

        Raises:
            RejectedEvent: ``bad_mail``: the bytes are not a control record.
            StateError: a newer version wrote it, or the state went on in another process.
        """
        decision = decode_decision(value)
        if decision.generation > self._generation:
            raise superseded(f"the control topic, at {decision.at},", decision.generation, self._generation)
        if isinstance(decision, SnapshotDecision):
            self._snapshots.append(decision.tables)
        else:
            self.started, self._unsaved = decision, value

    def snapshots(self) -> list[dict[str, str]]:
        """The versions of tables that were decided since this was asked last, in order."""
        taken, self._snapshots = self._snapshots, []
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
        "took the state over, or this directory is an older copy. Do not start this one again beside it. If no other "
        "process is to run, restore the newest checkpoint set; or, to start anew, delete the mailbox and control topics "
        "(or name others in topics.mailbox and topics.control) together with the state directory."
    )


def from_newer_version(what: str) -> StateError:
    """The error of a shard that met what only a newer version can read."""
    return StateError(
        f"{what} was written by a newer version of Opportune than this one, and may not be skipped: run that version or "
        "a later one. Nothing is lost; the record is read again then."
    )
