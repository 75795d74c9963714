"""Which changes are news: per profile, those above the last version seen.

Owns: the memory of versions, the newest million of profiles or so. What a crash of the job sends again comes soon after it
was sent first, so it finds its version here; a change of a profile that is not remembered passes, and its reader has the
version to judge by. While the topic's past is read, versions are compared by key, as ``flows.subscriber`` does: a compacted
topic keeps the newest record of each key and not their order among each other.
Not here: reading the topic (api.changes.source).
"""

from __future__ import annotations

from opportune.membership import MembershipChange

REMEMBERED_MAX = 500_000
"""Profiles of one generation; there are two."""


class Repeats:
    """Remembers versions; belongs to one thread.

    Args:
        remembered_max: profiles of one generation of memory.

    Attributes:
        dropped: changes that were no news.
    """

    def __init__(self, remembered_max: int = REMEMBERED_MAX) -> None:
        self.dropped = 0
        self._max = remembered_max
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}
        self._keys: dict[tuple[str, str], int] | None = {}

    def loaded(self) -> None:
        """The past has been read: from now on versions are compared by profile."""
        self._keys = None

    def is_news(self, change: MembershipChange) -> bool:
        """Whether a change has not been seen; remembers it."""
        profile, version = change.profile_id, change.version
        last = self._young.get(profile, 0) or self._old.get(profile, 0)
        if self._keys is None:
            seen = last
        else:
            key = (profile, change.audience)
            seen = self._keys.get(key, 0)
            self._keys[key] = max(seen, version)
        if version <= seen:
            self.dropped += 1
            return False
        if len(self._young) >= self._max:
            self._old, self._young = self._young, {}
        self._young[profile] = max(last, version)
        return True
