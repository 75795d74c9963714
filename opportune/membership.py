"""A membership change: what the memberships topic carries.

Owns: the value, its JSON form (opportune/schemas/membership_change.json describes it for consumers) and its id.
The id is the profile's id and the version, so a re-run of the same log gives the same ids.
Not here: when a change happens (opportune.audiences), how it is sent (flows.sinks).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Cause: TypeAlias = Literal["event", "time", "attribute", "merged", "deleted", "definition"]
VERSIONS_A_MS = 1024
"""``version = max(previous + 1, at_ms * 1024)``: it rises for ever, also through merges, erasure and restores."""


class MembershipChange(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One entry into an audience, or exit from it.

    Args:
        id: idempotency key, the same after a re-run of the same log.
        audience: the audience's name.
        change: ``entered`` or ``exited``.
        profile_id: 32 hexadecimal digits.
        identifiers: the profile's identifiers, values by namespace.
        at: the instant at which it became true, log time, ISO 8601 in UTC with milliseconds.
        emitted_at: when the engine made this record, ISO 8601.
        cause: what made it true.
        version: rises with every change of the profile; a subscriber drops what is not above the last one seen.
        definition_version: fingerprint of the audience's definition.
        event_id: message id of the event that caused it, where one did and had an id.
        snapshot: with cause ``attribute``: the versions of the warehouse snapshots that did it, by table.
        merged_into: the winner's profile id, with cause ``merged``.
        merged_from: the losers' profile ids, with cause ``merged``.
        approximate: whether a feature beyond its exact bound took part.
    """

    id: str
    audience: str
    change: Literal["entered", "exited"]
    profile_id: str
    identifiers: dict[str, list[str]]
    at: str
    emitted_at: str
    cause: Cause
    version: int
    definition_version: str
    event_id: str | None = None
    snapshot: dict[str, str] = {}
    merged_into: str | None = None
    merged_from: list[str] = []
    approximate: bool = False


def next_version(previous: int, at_ms: int) -> int:
    """The version of a profile's next change."""
    return max(previous + 1, at_ms * VERSIONS_A_MS)
