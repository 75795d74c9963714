"""Message ids that a profile used before it became part of another one.

Owns: which hashes an event is looked up under. Each profile mixes its own salt into message ids (opportune.people); a winner
keeps the salts of those that merged into it on the same shard, the last ABSORBED_MAX of them, since each costs a look-up
for each event.
Not here: used ids (state.seen), what is done with a repeat (flows.actor).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xxhash

from opportune.people import salt_of
from opportune.profile import Profile

ABSORBED_MAX = 32
hash_id = xxhash.xxh3_64_intdigest


def with_salt_of(loser: bytes, ours: Sequence[int], theirs: Sequence[int]) -> list[int]:
    """The salts of a winner, after a merge with a profile and those that it had absorbed."""
    return [*theirs, *ours, salt_of(loser)][-ABSORBED_MAX:]


def earlier(wanted: Mapping[bytes, Sequence[Any]], profiles: Mapping[bytes, Profile]) -> list[int]:
    """The hashes that the message ids of events have in the profiles which theirs have absorbed."""
    found: list[int] = []
    for profile_id, theirs in wanted.items():
        salts = profiles[profile_id].absorbed
        if salts:
            hashes = [
                hash_id(event.messageId.encode()) for event in theirs if event.messageId and event.handler is not None
            ]
            found += [hashed ^ salt for hashed in hashes for salt in salts]
    return found


def used_by_absorbed(hashed: int, profile: Profile, recalled: Mapping[int, int]) -> int | None:
    """When a profile that was absorbed used a message id, given its hash for the winner."""
    own = hashed ^ salt_of(profile.id)
    return max((recalled[own ^ salt] for salt in profile.absorbed if own ^ salt in recalled), default=None)
