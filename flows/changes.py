"""From changes of a batch to what is sent and indexed: the net of each instant, versions, records.

Owns: that nothing flaps within one instant of a person, the order of changes at one instant (by audience name), and
versions. Invariant: for a person and an audience, entered and exited alternate in what is sent.
Not here: the shape of a record (opportune.membership), sending (flows.sinks).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec.json import Encoder

from flows.cloud_events import membership_headers, source_of
from opportune.audiences.approximations import Approximate
from opportune.clock import Clock
from opportune.compiled import Compiled
from opportune.event import iso_text
from opportune.identity import slot_of
from opportune.membership import next_version
from opportune.profile import Change
from state.outbox import OutboxMessage
from state.warehouse import VERSION_DIGITS

encode = Encoder().encode
WORDS = ("exited", "entered")
"""By whether a change is an entry."""


class Merged(NamedTuple):
    """What did it: a merge. ``field`` of the change names the other profile: ``merged_into`` or ``merged_from``."""

    field: str
    profile: bytes


def net(changes: list[Change]) -> list[Change]:
    """The changes that remain when those of one instant, person and audience that undo each other are left out.

    Args:
        changes: in order of happening for each person.

    Returns:
        In order of instant, profile and audience.
    """
    kept: dict[tuple[int, bytes, int], Change] = {}
    for change in changes:
        key = (change[3], change[0].id, change[1])
        if kept.pop(key, None) is None:
            kept[key] = change
    return [kept[key] for key in sorted(kept)]


class AttributeCause:
    """What did a change: a snapshot. ``json``: what the record of the change says of it."""

    __slots__ = ("json",)

    def __init__(self, versions: Mapping[str, str]) -> None:
        told = {name: version for name, version in versions.items() if len(version) == VERSION_DIGITS}
        self.json = b',"snapshot":' + encode(told) if told else b""


class ChangeWriter:
    """Gives changes their versions and makes records of them.

    The JSON is put together from parts that are made once an audience: a change costs a few string operations.
    It is that of ``MembershipChange``, field for field.

    Args:
        compiled: the project.
        topic: the memberships topic.
        partitions: of the memberships topic.
        clock: for ``emitted_at``.
    """

    def __init__(self, compiled: Compiled, topic: str, partitions: int, clock: Clock) -> None:
        self.topic = topic
        self.partitions = partitions
        self.clock = clock
        # Audiences that are gone have the numbers after those of the plan: people exit them.
        known = [*zip(compiled.names, compiled.plan.definitions, strict=True), *compiled.gone]
        self.keys = [b"/" + name.encode() for name, _ in known]
        self.every_key = list(dict.fromkeys([*self.keys, *(b"/" + name.encode() for name in compiled.former)]))
        self.parts: list[tuple[tuple[bytes, bytes], tuple[bytes, bytes]]] = []
        for name, definition in known:
            tail = b',"definition_version":' + encode(definition)
            heads = [b',"audience":%s,"change":%s,"profile_id":"' % (encode(name), encode(word)) for word in WORDS]
            self.parts.append(((heads[0], tail), (heads[1], tail)))
        source = source_of(compiled.project.name)
        self.headers = [membership_headers(word, source) for word in WORDS]
        self.instant = (0, b"")
        self.event_type: type[Any] = compiled.event_type.type

    def emitted_at(self) -> bytes:
        """Now, as the records of one batch say it."""
        return iso_text(self.clock()).encode()

    def tombstones(self, profile: bytes) -> list[OutboxMessage]:
        """A record for each key that a profile can have in the topic: after it, compaction keeps nothing of the key."""
        name, partition = profile.hex().encode(), slot_of(profile) * self.partitions >> 16
        return [OutboxMessage(self.topic, partition, name + key, None, []) for key in self.every_key]

    def message(self, change: Change, emitted_at: bytes) -> OutboxMessage:
        """The record of a change, with the next version of its profile."""
        profile, audience, entered, at_ms, by = change
        version = profile.version = next_version(profile.version, at_ms)
        profile_id = profile.id.hex().encode()
        head, tail = self.parts[audience][entered]
        change_id = b"%s/%d" % (profile_id, version)
        if at_ms != self.instant[0]:
            self.instant = (at_ms, iso_text(at_ms).encode())
        at = self.instant[1]
        approximate = b""
        if by.__class__ is Approximate:
            by, approximate = by.by, b',"approximate":true'
        cause, event_id = (b"time", b"") if by is None else cause_of(by)
        value = b'{"id":"%b"%b%b","identifiers":%b,"at":"%b","emitted_at":"%b","cause":"%b","version":%d%b%b%b}' % (
            change_id,
            head,
            profile_id,
            encode(identifiers_of(profile.identifiers)),
            at,
            emitted_at,
            cause,
            version,
            tail,
            event_id,
            approximate,
        )
        return OutboxMessage(
            self.topic,
            slot_of(profile.id) * self.partitions >> 16,
            profile_id + self.keys[audience],
            value,
            self.headers[entered](change_id, at, profile_id),
        )


def identifiers_of(identifiers: list[str]) -> dict[str, list[str]]:
    """``namespace:value`` texts as values by namespace."""
    by_namespace: dict[str, list[str]] = {}
    for identifier in identifiers:
        namespace, _, value = identifier.partition(":")
        by_namespace.setdefault(namespace, []).append(value)
    return by_namespace


def unwrapped(by: Any) -> Any:
    """What did a change, whether or not all that counted is kept one by one."""
    return by.by if by.__class__ is Approximate else by


def cause_of(by: Any) -> tuple[bytes, bytes]:
    """The cause of a change, and the JSON of what it is known by: a message id, the other profile, a snapshot's version."""
    if by is None:
        return b"time", b""
    if isinstance(by, Merged):
        other = encode(by.profile.hex() if by.field == "merged_into" else [by.profile.hex()])
        return b"merged", b',"%s":%s' % (by.field.encode(), other)
    if isinstance(by, str):
        return by.encode(), b""
    if isinstance(by, AttributeCause):
        return b"attribute", by.json
    return b"event", b',"event_id":' + encode(by.messageId) if by.messageId else b""
