"""From changes of a batch to what is sent and indexed: the net of each instant, versions, records.

Owns: that nothing flaps within one instant of a person, the order of changes at one instant (by audience name), and
versions. Invariant: for a person and an audience, entered and exited alternate in what is sent.
Not here: the shape of a record (opportune.membership), sending (flows.sinks).
"""

from __future__ import annotations

from typing import Any

from msgspec.json import Encoder

from flows.cloud_events import cloud_event_headers
from opportune.clock import Clock
from opportune.compiled import Compiled
from opportune.event import iso_text
from opportune.identity import slot_of
from opportune.membership import MembershipChange, next_version
from opportune.profile import Change
from state.outbox import OutboxMessage


def net(changes: list[Change]) -> list[Change]:
    """The changes that remain when those of one instant, person and audience that undo each other are left out.

    Args:
        changes: in order of happening for each person.

    Returns:
        In order of instant, profile and audience.
    """
    kept: dict[tuple[bytes, int, int], Change] = {}
    for change in changes:
        key = (change[0].id, change[3], change[1])
        if kept.pop(key, None) is None:
            kept[key] = change
    return sorted(kept.values(), key=lambda change: (change[3], change[0].id, change[1]))


class ChangeWriter:
    """Gives changes their versions and makes records of them.

    Args:
        compiled: the project.
        topic: the memberships topic.
        partitions: of the memberships topic.
        clock: for ``emitted_at``.
    """

    def __init__(self, compiled: Compiled, topic: str, partitions: int, clock: Clock) -> None:
        self.names = compiled.names
        self.definitions = compiled.plan.definitions
        self.topic = topic
        self.partitions = partitions
        self.clock = clock
        self.encode = Encoder().encode

    def describe(self, change: Change, emitted_at: str) -> MembershipChange:
        """A change with the next version of its profile."""
        profile, audience, entered, at_ms, by = change
        version = profile.version = next_version(profile.version, at_ms)
        profile_id = profile.id.hex()
        identifiers: dict[str, list[str]] = {}
        for identifier in profile.identifiers:
            namespace, _, value = identifier.partition(":")
            identifiers.setdefault(namespace, []).append(value)
        return MembershipChange(
            id=f"{profile_id}/{version}",
            audience=self.names[audience],
            change="entered" if entered else "exited",
            profile_id=profile_id,
            identifiers=identifiers,
            at=iso_text(at_ms),
            emitted_at=emitted_at,
            cause="time" if by is None else by if isinstance(by, str) else "event",  # type: ignore[arg-type]  # a Cause
            version=version,
            definition_version=self.definitions[audience],
            event_id=event_id(by),
        )

    def emitted_at(self) -> str:
        """Now, as the records of one batch say it."""
        return iso_text(self.clock())

    def message(self, change: MembershipChange) -> OutboxMessage:
        """The record of a change."""
        return OutboxMessage(
            self.topic,
            slot_of(bytes.fromhex(change.profile_id[:4])) * self.partitions >> 16,
            f"{change.profile_id}/{change.audience}".encode(),
            self.encode(change),
            cloud_event_headers(change),
        )


def event_id(by: Any) -> str | None:
    """The message id of the event that did it, if an event did and had one."""
    if by is None or isinstance(by, str):
        return None
    return by.messageId or None
