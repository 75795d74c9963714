"""Timers of one shard: who has to be looked at, and when, if nothing happens.

Owns: the ``timers`` family (state.keys: ``due_ms | profile_id``) and where its sweep has come to.
Invariants: a profile has at most one timer, and it is not later than the profile's due; so a timer may fire early and
find nothing to do. It is written in the batch that computed it.
Timers are lazy: one that became too early stays where it is; that is cheaper than moving it with every event.
Not here: firing (flows.actor, opportune.profile).
"""

from __future__ import annotations

from opportune.profile import NEVER, Profile
from state.keys import U64, decode_timer, pack_timer
from state.store import Batch, Store


class Timers:
    """The timers of a shard.

    Args:
        store: the shard's state.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.family = store.family("timers")
        self.swept = b""
        self.next_due = 0

    def due(self, until_ms: int, limit: int) -> list[bytes]:
        """Takes timers that are due, earliest first.

        Args:
            until_ms: exclusive.
            limit: how many at most; ``next_due`` stays below ``until_ms`` where there are more.

        Returns:
            Keys of the family; the caller removes them in the write that holds what came of them.
        """
        if self.next_due >= until_ms:
            return []
        taken: list[bytes] = []
        end = U64(until_ms)
        self.next_due = NEVER
        for key, _ in self.store.scan("timers", self.swept):
            if key >= end or len(taken) == limit:
                self.next_due = decode_timer(key)[0]
                self.swept = key
                break
            taken.append(key)
        else:
            self.swept = end
        return taken

    def remove(self, keys: list[bytes], write: Batch) -> None:
        """Removes timers that were taken."""
        for key in keys:
            write.delete(key, self.family)

    def arm(self, profile: Profile, write: Batch) -> None:
        """Sets the profile's timer where it has none that is early enough."""
        due = profile.due
        if due == NEVER or (profile.timer and profile.timer <= due):
            return
        if profile.timer:
            write.delete(pack_timer(profile.timer, profile.id), self.family)
        key = pack_timer(due, profile.id)
        write.put(key, b"", self.family)
        profile.timer = due
        self.next_due = min(self.next_due, due)
        self.swept = min(self.swept, key)
