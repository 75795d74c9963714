"""Message ids that merged profiles have used: a copy that comes to the winner is a repeat there too.

Owns: under which hashes they are remembered, each profile's with its own salt.
Not here: what is remembered (state.seen), for how long (flows.actor).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xxhash

from opportune.people import salt_of
from opportune.profile import Profile

hash_id = xxhash.xxh3_64_intdigest


def earlier(wanted: Mapping[bytes, Sequence[Any]], profiles: Mapping[bytes, Profile]) -> list[int]:
    """The hashes that the message ids of events have in the profiles which theirs have absorbed."""
    return [
        hash_id(event.messageId.encode()) ^ salt
        for profile_id, theirs in wanted.items()
        if profiles[profile_id].absorbed
        for event in theirs
        if event.messageId and event.handler is not None
        for salt in profiles[profile_id].absorbed
    ]


def used_by_absorbed(hashed: int, profile: Profile, recalled: Mapping[int, int]) -> int | None:
    """When a profile that was absorbed used a message id, given its hash for the winner."""
    own = hashed ^ salt_of(profile.id)
    return max((recalled[own ^ salt] for salt in profile.absorbed if own ^ salt in recalled), default=None)
