"""The profiles that a batch works on: read together, changed in memory, written together.

Owns: reading heads and feature groups with as few multi-gets as possible, packing what has changed, and who is at hand:
the persons of the last batches stay in memory, opened, since a few of them send most of the events; bounded by count and
by bytes. Whoever changes a profile in the store past the desk says so with ``evict``.
Invariants: a profile on the desk has every group that is asked for: what actions and dues surely need is read with the
heads, the rest one by one when an evaluation asks; what is not in the store is there as None. A profile at hand is what
the store has of it: whatever is changed is written by the batch that changed it; a batch that fails ends the process.
Not here: what happens to a profile (flows.actor), key layouts (state.keys).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from opportune.audiences.plan import TRAITS
from opportune.compiled import Compiled
from opportune.decode import Event, encode_traits
from opportune.profile import Profile
from state.keys import U16
from state.store import Batch, Store
from state.warehouse import WarehouseTable, rows_of

ARRIVAL = attrgetter("arrival")
SHAPES_MAX = 10_000
AT_HAND = 5_000
"""Beyond this many profiles of a shard, those that no event came for since as many others are let go."""
AT_HAND_BYTES = 8 << 20
"""The same, beyond so many bytes read and written of them since: opened, they take about five times the room."""
decode_head = msgspec.msgpack.Decoder(Profile).decode
encode = msgspec.msgpack.Encoder().encode


class Groups(dict[int, Any]):
    """The feature groups of a profile by number; one that was not read with the others is read when it is asked for."""

    __slots__ = ("owner",)
    owner: bytes


def groups_of(store: Store, suffixes: list[bytes]) -> type[Groups]:
    """The type of a desk's groups: they know where to read."""
    get = store.get

    class StoredGroups(Groups):
        __slots__ = ()

        def __missing__(self, group: int) -> bytes | None:
            value = self[group] = get("profiles", self.owner + suffixes[group])
            return value

    return StoredGroups


class Desk:
    """The profiles of one batch.

    Args:
        compiled: the project.
        store: the shard's state.
        tables: the warehouse tables in force, by name.

    Attributes:
        profiles: by profile id.
        touched: those to write, in order of first touch.
        row_names: how identifiers begin that may have a row in a table that conditions read.
        stage: the present one (flows.succession).
        renew: takes profiles that were read and are kept for another one.
    """

    def __init__(self, compiled: Compiled, store: Store, tables: Mapping[str, WarehouseTable]) -> None:
        self.store = store
        self.family = store.family("profiles")
        self.timers_family = store.family("timers")
        self.handlers = compiled.plan.handlers
        self.suffixes = [U16(group.number) for group in compiled.plan.groups]
        self.groups = groups_of(store, self.suffixes)
        self.columns = compiled.plan.columns
        self.tables = self.used(tables)
        self.row_names = tuple(sorted({f"{table.namespace}:" for table in self.tables}))
        self.profiles: dict[bytes, Profile] = {}
        self.touched: list[Profile] = []
        self.at_hand: dict[bytes, Profile] = {}
        self.before: dict[bytes, Profile] = {}
        self.moved_bytes = 0
        self.shapes: dict[frozenset[Any], tuple[int, ...]] = {}
        self.stage = 0
        self.renew: Callable[[Sequence[Profile]], None] = lambda _: None

    def use(self, tables: Mapping[str, WarehouseTable]) -> None:
        """From now on profiles are read with the rows of these tables."""
        self.tables = self.used(tables)
        self.forget()

    def used(self, tables: Mapping[str, WarehouseTable]) -> list[WarehouseTable]:
        """Those that conditions read, in the order of a profile's row."""
        return [tables[name] for name in sorted(self.columns)]

    def clear(self) -> None:
        """Everything on the desk is put away; who is at hand stays so."""
        self.profiles = {}
        self.touched = []
        if len(self.at_hand) > AT_HAND or self.moved_bytes > AT_HAND_BYTES:
            self.before = self.at_hand
            self.at_hand = {}
            self.moved_bytes = 0

    def evict(self, profile_id: bytes) -> None:
        """A profile is no longer what the store has of it, or is gone: the next batch reads it anew."""
        self.at_hand.pop(profile_id, None)
        self.before.pop(profile_id, None)

    def forget(self) -> None:
        """Nobody is at hand any more: what the store or the tables say has changed elsewhere."""
        self.profiles, self.touched, self.at_hand, self.before, self.moved_bytes = {}, [], {}, {}, 0

    def load_for(self, events: Sequence[Event]) -> dict[bytes, list[Event]]:
        """Reads the profiles of events, with the groups that their actions need.

        Returns:
            The events by profile id, each person's in order of arrival.
        """
        wanted: dict[bytes, list[Event]] = {}
        mixed: list[list[Event]] = []
        for event in events:
            profile_id = event.person.id
            theirs = wanted.get(profile_id)
            if theirs is None:
                wanted[profile_id] = [event]
                continue
            if event.arrival < theirs[-1].arrival:
                mixed.append(theirs)
            theirs.append(event)
        for theirs in mixed:
            theirs.sort(key=ARRIVAL)
        self._take(wanted)
        return wanted

    def _take(self, wanted: Mapping[bytes, list[Event]]) -> None:
        """Puts persons with the groups that their events need on the desk: from those at hand, else from the store."""
        at_hand, before, profiles = self.at_hand, self.before, self.profiles
        ids: list[bytes] = []
        reads: list[tuple[int, ...]] = []
        lacking: list[tuple[Profile, int]] = []
        for profile_id, theirs in wanted.items():
            needed = self._needed(theirs)
            profile = at_hand.get(profile_id)
            if profile is None:
                # On the desk without being at hand: somebody whom the mail of this batch concerned.
                profile = before.get(profile_id) or profiles.get(profile_id)
                if profile is None:
                    ids.append(profile_id)
                    reads.append(needed)
                    continue
                at_hand[profile_id] = profile
            profiles[profile_id] = profile
            groups = profile.groups
            lacking += [(profile, group) for group in needed if group not in groups]
        if lacking:
            self._fill(lacking)
        if ids:
            self._read(ids, reads)
            if len(ids) <= AT_HAND:
                for profile_id in ids:
                    at_hand[profile_id] = profiles[profile_id]

    def _needed(self, theirs: list[Event]) -> tuple[int, ...]:
        """The groups that the actions of one person's events need."""
        action = theirs[0].handler
        if len(theirs) == 1:
            return () if action is None else action.reads
        actions = {event.handler for event in theirs}
        if len(actions) == 1:
            return () if action is None else action.reads
        key = frozenset(actions)
        groups = self.shapes.get(key)
        if groups is None:
            if len(self.shapes) >= SHAPES_MAX:
                self.shapes.clear()
            groups = self.shapes[key] = tuple({group for action in actions if action for group in action.reads})
        return groups

    def load(self, ids: Iterable[bytes]) -> list[Profile]:
        """Reads the heads of profiles that are not on the desk yet; returns those."""
        at_hand, before, profiles = self.at_hand, self.before, self.profiles
        wanted = [profile_id for profile_id in dict.fromkeys(ids) if profile_id not in profiles]
        missing: list[bytes] = []
        for profile_id in wanted:
            profile = at_hand.get(profile_id) or before.get(profile_id)
            if profile is None:
                missing.append(profile_id)
            else:
                profiles[profile_id] = profile
        self._read(missing, [()] * len(missing))
        return [profiles[profile_id] for profile_id in wanted]

    def _read(self, ids: list[bytes], reads: Sequence[tuple[int, ...]]) -> None:
        if not ids:
            return
        suffixes = self.suffixes
        keys: list[bytes] = []
        for profile_id, groups in zip(ids, reads, strict=True):
            keys.append(profile_id)
            keys += [profile_id + suffixes[group] for group in groups]
        found = self.store.get_many("profiles", keys)
        self.moved_bytes += sum(map(len, filter(None, found)))
        values = iter(found)
        profiles, stage = self.profiles, self.stage
        earlier: list[Profile] = []
        for profile_id, groups in zip(ids, reads, strict=True):
            head = next(values)
            if head is None:
                profile = Profile(stage=stage)
            else:
                profile = decode_head(head)
                if profile.stage != stage:
                    earlier.append(profile)
            profile.id = profile_id
            theirs = profile.groups = self.groups(zip(groups, values, strict=False)) if groups else self.groups()
            theirs.owner = profile_id
            profiles[profile_id] = profile
        if self.tables:
            self._join(ids)
        if earlier:
            self.renew(earlier)

    def _join(self, ids: list[bytes]) -> None:
        """The warehouse rows of profiles, by the identifiers that they have, looked up together."""
        profiles = [self.profiles[profile_id] for profile_id in ids]
        for profile, row in zip(profiles, rows_of(self.tables, profiles), strict=True):
            profile.row = row

    def join(self, profile: Profile) -> None:
        """The warehouse rows of one profile, as of its identifiers."""
        (profile.row,) = rows_of(self.tables, [profile])

    def open_due(self, profiles: Iterable[Profile], until_ms: int) -> None:
        """Reads the groups that firing needs, for profiles of which something is due up to an instant, inclusive."""
        self.open(
            (
                profile,
                {group for number, due in profile.dues.items() if due <= until_ms for group in self.reads(number)},
            )
            for profile in profiles
            if profile.due <= until_ms
        )

    def reads(self, handler: int) -> tuple[int, ...]:
        """The groups that a handler's evaluation reads."""
        return self.handlers[handler].reads

    def open(self, wanted: Iterable[tuple[Profile, Iterable[int]]]) -> None:
        """Reads groups of profiles that are on the desk."""
        lacking = [(profile, group) for profile, groups in wanted for group in groups if group not in profile.groups]
        if lacking:
            self._fill(lacking)

    def _fill(self, lacking: list[tuple[Profile, int]]) -> None:
        keys = [profile.id + self.suffixes[group] for profile, group in lacking]
        for (profile, group), value in zip(lacking, self.store.get_many("profiles", keys), strict=True):
            profile.groups[group] = value
            if value is not None:
                self.moved_bytes += len(value)

    def touch(self, profile: Profile) -> None:
        """The profile will be written."""
        if profile.dirty is None:
            profile.dirty = set()
            self.touched.append(profile)

    def store_touched(self, write: Batch) -> None:
        """Puts what has changed into a write."""
        self.put(self.touched, write)

    def put(self, profiles: Iterable[Profile], write: Batch) -> None:
        """Puts profiles into a write: their heads, and what is dirty of them."""
        put, family, suffixes = write.put, self.family, self.suffixes
        written = 0
        for profile in profiles:
            profile_id, groups, row = profile.id, profile.groups, profile.row
            for group in profile.dirty:
                value = groups[group]
                packed = encode_traits(value) if group == TRAITS else encode(value)
                put(profile_id + suffixes[group], packed, family)
                written += len(packed)
            profile.id = profile.row = profile.groups = profile.dirty = None
            put(profile_id, encode(profile), family)
            profile.id, profile.row, profile.groups = profile_id, row, groups
        self.moved_bytes += written
