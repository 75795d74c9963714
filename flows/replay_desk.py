"""The profiles of a replay: they stay open in memory, and go to the store when there are too many of them.

Owns: who stays, and writing who goes. A replay of a few ten thousand people packs and unpacks nobody.
Invariants: what the store lacks is at hand; memory has a bound, whatever the number of people and the size of their state:
``KEPT_MAX`` profiles and ``KEPT_BYTES`` packed, twice over, are open; all others are packed.
Not here: what a batch does with profiles (flows.desk), which is all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from flows.desk import AT_HAND, Desk
from opportune.compiled import Compiled
from opportune.decode import Event
from opportune.profile import Profile
from state.store import Batch, Store
from state.warehouse import WarehouseTable

KEPT_MAX = 50_000
KEPT_BYTES = 16 << 20
WEIGHED = 64
"""So many profiles are packed to know what the others weigh."""
WEIGH_EVERY = 100_000
"""After so many changed profiles they may have grown."""
GROUPS_MAX = 32
"""Beyond so many groups it costs more to note of a new profile that it has none than to look."""


class KeptDesk(Desk):
    """As ``Desk``; whoever reads profiles from the store itself calls ``settle`` before."""

    def __init__(self, compiled: Compiled, store: Store, tables: Mapping[str, WarehouseTable]) -> None:
        super().__init__(compiled, store, tables)
        self.unwritten: dict[bytes, set[int]] = {}
        self.nothing = dict.fromkeys(range(len(self.suffixes))) if len(self.suffixes) <= GROUPS_MAX else {}
        self.kept_max = AT_HAND
        self.changed = 0
        self.weight = 1

    def clear(self) -> None:
        """Everything on the desk is put away; of those at hand who was not seen for long goes to the store."""
        self.profiles, self.touched = {}, []
        if len(self.at_hand) > self.kept_max or self.changed > WEIGH_EVERY:
            self._weigh()

    def store_touched(self, _: Batch) -> None:
        """Notes what has changed; it is written later."""
        unwritten = self.unwritten
        self.changed += len(self.touched)
        for profile in self.touched:
            known = unwritten.get(profile.id)
            if known is None:
                unwritten[profile.id] = profile.dirty
            else:
                known |= profile.dirty
            profile.dirty = None

    def open(self, wanted: Iterable[tuple[Profile, Iterable[int]]]) -> None:
        """See ``Desk.open``: to read one by one what is asked for costs less here."""

    def open_due(self, profiles: Iterable[Profile], until_ms: int) -> None:
        """See ``Desk.open_due`` and ``open``."""

    def evict(self, profile_id: bytes) -> None:
        """See ``Desk.evict``: whoever says so has written the profile."""
        self.unwritten.pop(profile_id, None)
        super().evict(profile_id)

    def forget(self) -> None:
        """See ``Desk.forget``."""
        self.settle()
        super().forget()

    def settle(self) -> None:
        """The store has everybody."""
        self._write([profile for kept in (self.before, self.at_hand) for profile in kept.values()])

    def _write(self, profiles: Sequence[Profile]) -> int:
        """Packs those of some profiles that the store lacks; returns how many those were."""
        write, unwritten = self.store.batch(), self.unwritten
        changed: list[Profile] = []
        for profile in profiles:
            dirty = unwritten.pop(profile.id, None)
            if dirty is not None:
                # Whoever was merged into somebody else has left what they had.
                profile.dirty = dirty.intersection(profile.groups)
                changed.append(profile)
        self.put(changed, write)
        self.store.write(write)
        return len(changed)

    def _weigh(self) -> None:
        """Lets those go who were not seen for long, if all who stay are too many or too heavy."""
        self.changed = 0
        kept = list(self.at_hand.values())
        if not kept:
            return
        sample = kept[:: -(-len(kept) // WEIGHED)]
        before = self.moved_bytes
        if written := self._write(sample):
            self.weight = max((self.moved_bytes - before) // written, 1)
        allowed = min(max(KEPT_BYTES // self.weight, 1), KEPT_MAX)
        if len(kept) <= allowed:
            self.kept_max = min(allowed, max(2 * self.kept_max, AT_HAND))
            return
        self.kept_max = allowed
        self._write([profile for profile in self.before.values() if profile.id not in self.at_hand])
        self.before, self.at_hand = self.at_hand, {}

    def _take(self, wanted: Mapping[bytes, list[Event]]) -> None:
        at_hand, before, profiles = self.at_hand, self.before, self.profiles
        missing: list[bytes] = []
        for profile_id in wanted:
            profile = at_hand.get(profile_id)
            if profile is None:
                profile = before.get(profile_id)
                if profile is None:
                    missing.append(profile_id)
                    continue
                at_hand[profile_id] = profile
            profiles[profile_id] = profile
        self._read(missing, [()] * len(missing))

    def _read(self, ids: list[bytes], reads: Sequence[tuple[int, ...]]) -> None:
        if not ids:
            return
        at_hand, profiles, nothing = self.at_hand, self.profiles, self.nothing
        known: list[bytes] = []
        theirs: list[tuple[int, ...]] = []
        fresh: list[bytes] = []
        stored = self.store.get_many("profiles", ids)
        for profile_id, head, groups in zip(ids, stored, reads, strict=True):
            if head is not None:
                known.append(profile_id)
                theirs.append(groups)
                continue
            profile = profiles[profile_id] = at_hand[profile_id] = Profile(stage=self.stage, id=profile_id)
            profile.groups = self.groups(nothing)
            profile.groups.owner = profile_id
            fresh.append(profile_id)
        if self.tables and fresh:
            self._join(fresh)
        super()._read(known, theirs)
        for profile_id in known:
            at_hand[profile_id] = profiles[profile_id]
