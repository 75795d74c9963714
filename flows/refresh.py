"""Putting warehouse tables in force in one shard: profiles for rows, and new memberships of people who sit still.

Owns: which snapshots hold in a shard, and the way from one to the next. A decision on the control topic names the next
one; from there on every profile is read with its new row. The two are compared part by part, and those whose row differs,
by whichever of their identifiers, are **pending**: each is switched once, in slices between batches, or before the first
event, timer or mail that meets it, for which somebody whose part was not compared yet is compared alone. Switching means:
what is due before the decision's instant fires with the old row, then attributes are evaluated with the new one.
Invariants: a profile is evaluated with rows of one version, never with a mix; the instant is kept with the decision, so a
pass that was killed is done again with the same instant and ends the same: a profile that was switched changes nothing at
the second time. One decision at a time: what comes meanwhile waits, the newest of each table.
Not here: reading sources (state.warehouse), when a refresh begins (flows.refresher), opening snapshots (flows.snapshots), what is
kept of it (flows.in_force).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from flows.changes import AttributeCause
from flows.in_force import in_force, versions_of
from opportune.attributes import switch
from opportune.audiences.plan import ATTRIBUTES
from opportune.profile import FORGOTTEN, FROZEN, MOVED, Change, Profile
from state.in_force import META_WAREHOUSE, InForce
from state.keys import PROFILE_BYTES
from state.outbox import OutboxMessage
from state.store import Batch as Write
from state.warehouse import Comparison, WarehouseTable, comparison_of, rows_of

if TYPE_CHECKING:
    from flows.actor import Actor

log = logging.getLogger(__name__)

SLICE = 2_000
"""So many profiles are written at once before the flow runs."""
SLICE_LIVE = 250
"""So many are switched in one go while events flow."""


class Snapshots(Protocol):
    """Where shards get the tables of versions.

    Attributes:
        shards: how many shards there are.
    """

    shards: int

    def open(self, versions: Mapping[str, str]) -> Mapping[str, WarehouseTable] | None:
        """The tables of these versions, by name; None where one of them is not there any more."""
        ...


class Refresh:
    """What is in force in a shard, and what is still to be switched.

    Args:
        actor: the shard.
        tables: what its profiles are read with: those of the versions in force.
        snapshots: opens others; None: nothing else will be decided.

    Attributes:
        state: as it is kept.
        pending: the ids of profiles that are known to differ and still to be switched.
        left: the parts of comparisons that are still to be made.
        met: the ids of profiles that were switched or found equal meanwhile.
        missed: decisions that named a snapshot that was not there any more.
    """

    def __init__(self, actor: Actor, tables: Mapping[str, WarehouseTable], snapshots: Snapshots | None) -> None:
        self.actor = actor
        self.tables = tables
        self.ranks = actor.compiled.project.identity.ranks()
        self.snapshots = snapshots
        self.state = in_force(actor.store)
        self.before: Mapping[str, WarehouseTable] = {}
        self.pending: set[bytes] = set()
        self.left: deque[tuple[Comparison, int]] = deque()
        self.met: set[bytes] = set()
        self.cause = AttributeCause({})
        self.unsaved = False
        self.missed = 0
        if not self.state.done and self.state.before and self.state.versions == versions_of(tables):
            self._resume()

    @property
    def known(self) -> bool:
        """Whether the shard knows who is concerned by its tables: everybody was looked at, or what was before is there."""
        return self.state.versions == versions_of(self.tables) and (self.state.done or self.passing)

    @property
    def passing(self) -> bool:
        """Whether somebody is, or may be, still to be switched."""
        return bool(self.pending or self.left)

    @property
    def busy(self) -> bool:
        """Whether there is something to do without an event."""
        return bool(self.pending or self.left or self.state.waiting)

    def decide(self, versions: Mapping[str, str], at_ms: int) -> None:
        """Takes a decision of the control topic.

        Args:
            versions: of snapshots, by table; those that are not above what holds or waits change nothing.
            at_ms: the shard's time, from which on they hold.
        """
        state = self.state
        newer = {
            name: version
            for name, version in versions.items()
            if name in self.tables and version > max(state.versions.get(name, ""), state.waiting.get(name, ""))
        }
        if newer:
            state.waiting = state.waiting | newer
            self.unsaved = True
            # Where mail of this batch has changed somebody, the next batch begins: what is on the desk is not written yet.
            if all(profile.dirty is None for profile in self.actor.desk.touched):
                self.turn(at_ms)

    def turn(self, at_ms: int) -> None:
        """Begins with what waits, where nothing is pending; nothing of the shard may be on the desk."""
        state = self.state
        if self.passing or not state.waiting or not state.done:
            return
        wanted = state.versions | state.waiting
        tables = self.snapshots.open(wanted) if self.snapshots is not None else None
        self.unsaved = True
        if tables is None:
            self.missed += 1
            log.warning("shard %d: snapshots %s are gone; a later one will come", self.actor.shard, state.waiting)
            state.waiting = {}
            return
        self.state = InForce(wanted, max(at_ms, state.at, 1), done=False, before=state.versions)
        self.before, self.tables = self.tables, tables
        self.actor.desk.use(tables)
        self._compare()

    def meet(self, ids: Collection[bytes], out: list[Change]) -> None:
        """Switches those of these profiles, all of them on the desk, whose row differs and who were not switched yet."""
        if not self.pending and not self.left:
            return
        profiles = self.actor.desk.profiles
        for profile in [profiles[profile_id] for profile_id in ids]:
            if profile.fate & FORGOTTEN or profile.rowless:
                self.actor.graph.forgetting.look_at_rows(profile)
        hits = self.pending.intersection(ids)
        if self.left:
            hits |= self._differing([profile_id for profile_id in ids if profile_id not in self.met])
            self.met.update(ids)
        if hits:
            self.switch([profiles[profile_id] for profile_id in dict.fromkeys(ids) if profile_id in hits], out)
            self.pending -= hits
        self._end_if_done()

    def load(self, ids: list[bytes], out: list[Change]) -> None:
        """Puts profiles on the desk, as of the snapshots in force."""
        self.actor.desk.load(ids)
        self.meet(ids, out)

    def _differing(self, ids: Sequence[bytes]) -> set[bytes]:
        """Those of some profiles on the desk whose row before was another one."""
        profiles = [self.actor.desk.profiles[profile_id] for profile_id in ids]
        before = rows_of(self.actor.desk.used(self.before), profiles)
        return {profile.id for profile, row in zip(profiles, before, strict=True) if row != profile.row}

    def slice(self, out: list[Change]) -> None:
        """Compares a part, or switches some of those who are pending."""
        if self.left and len(self.pending) < SLICE_LIVE:
            self._compare_part()
            self.actor.on_point("in_comparison")
            return
        ids = list(islice(self.pending, SLICE_LIVE))
        if ids:
            self.actor.desk.load(ids)
            self.meet(ids, out)
            self.actor.on_point("in_refresh")

    def save(self, write: Write) -> None:
        """Puts what is not yet kept into a write."""
        if self.unsaved:
            write.put(META_WAREHOUSE, msgspec.json.encode(self.state), self.actor.meta)
            self.unsaved = False

    def switch(self, profiles: Sequence[Profile], out: list[Change]) -> None:
        """Brings profiles that are on the desk, with their new rows, from their old rows to the new ones."""
        desk, at_ms = self.actor.desk, self.state.at
        old = rows_of(desk.used(self.before), profiles) if self.before else [profile.row for profile in profiles]
        known = [profile for profile in profiles if is_somebody(profile)]
        desk.open_due(known, at_ms)
        desk.open((profile, desk.reads(ATTRIBUTES)) for profile in known)
        names = self._names([profile.id for profile in profiles if not profile.now])
        for profile, row in zip(profiles, old, strict=True):
            if not is_somebody(profile):
                # A row that went before anybody saw it makes no profile.
                if profile.id in names and not profile.fate:
                    self._find(profile, names[profile.id], out)
                continue
            new, profile.row = profile.row, row
            self._turn_to(profile, new, max(at_ms, profile.now), self.cause, out)

    def rename(self, profile: Profile, identifiers: list[str], text: str, out: list[Change]) -> None:
        """A profile on the desk has other identifiers from here on, by one that came or went: rows come and go with it."""
        before, profile.identifiers = profile.identifiers, identifiers
        if text.startswith(self.actor.desk.row_names):
            self.actor.graph.attached.follow(profile.id, before, identifiers)
            self.belong(profile, out)

    def belong(self, profile: Profile, out: list[Change], *, whatever: bool = False) -> None:
        """Gives a profile on the desk the row that is its own.

        Args:
            profile: with the row that it had.
            out: takes the changes.
            whatever: evaluate also where the row is the same, since a frozen one may have missed a snapshot.
        """
        (row,) = rows_of(self.actor.desk.tables, [profile])
        if row == profile.row and not whatever:
            return
        if not self.actor.desk.tables or not is_somebody(profile):
            profile.row = row
            return
        self._turn_to(profile, row, max(profile.now, self.actor.time_ms), AttributeCause({}), out)

    def _turn_to(self, profile: Profile, row: Any, now: int, cause: AttributeCause, out: list[Change]) -> None:
        """A profile gets another row, at an instant."""
        switch(profile, row, now, out, evaluate=self.actor.evaluate, by=cause, touch=self.actor.desk.touch)

    def _find(self, profile: Profile, name: str, out: list[Change]) -> None:
        """Makes the profile of a row."""
        self.actor.desk.touch(profile)
        profile.identifiers = [name]
        profile.rank = self.ranks.get(name.partition(":")[0], 0)
        profile.now = self.state.at
        self.actor.counts["profiles"] += 1
        self.actor.compiled.program.found(profile, self.state.at, out, self.cause)

    def _names(self, ids: list[bytes]) -> dict[bytes, str]:
        """The identifiers of the keys of rows, for ids that have one in some table."""
        names: dict[bytes, str] = {}
        for name, table in self.tables.items() if ids else ():
            places, found = table.index.find(ids)
            namespace = self.actor.compiled.project.tables[name].namespace
            there = range(len(ids)) if found is None else found.nonzero()[0].tolist()
            for at, key in zip(there, table.keys_at(places if found is None else places[found]), strict=True):
                names[ids[at]] = f"{namespace}:{key}"
        return names

    def _resume(self) -> None:
        """Goes on with a pass that was not done when the process ended."""
        before = self.snapshots.open(self.state.before) if self.snapshots is not None else None
        if before is not None:
            self.before = before
            self._compare()

    def _compare(self) -> None:
        """Begins to find who is pending."""
        assert self.snapshots is not None
        state, shard = self.state, self.actor.shard
        self.cause = AttributeCause(
            {name: version for name, version in state.versions.items() if state.before.get(name) != version}
        )
        for name, new in self.tables.items():
            old = self.before[name]
            if old is not new:
                comparison = comparison_of(old, new, self.snapshots.shards)
                # Its own rows first: they are most of those that concern it.
                own = comparison.own(shard)
                others = [part for part in range(comparison.parts) if part not in own]
                self.left.extend((comparison, part) for part in (*own, *others))
        self._end_if_done()

    def _compare_part(self) -> None:
        """Finds who is pending in the next part, and in some behind it that cost little: others have compared them."""
        attached, shard, looked = self.actor.graph.attached, self.actor.shard, 0
        while self.left and looked < SLICE_LIVE:
            comparison, part = self.left.popleft()
            own = part in comparison.own(shard)
            if not own and not attached.any:
                continue
            looked += 0 if comparison.is_made(part) else SLICE_LIVE
            found = comparison.ids(part)
            concerned = set(attached.holders(found))
            if own:
                concerned.update(found)
            self.pending |= concerned.difference(self.met)
            looked += len(found)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if not self.passing:
            self.met = set()
            self._end()

    def _end(self) -> None:
        self.state.done, self.state.before = True, {}
        self.before = {}
        self.unsaved = True

    def use(self, tables: Mapping[str, WarehouseTable]) -> None:
        """Takes other tables without a decision, where nothing is pending; ``put_in_force`` has to follow."""
        assert not self.passing, "somebody is still to be switched"
        self.tables = tables
        self.actor.desk.use(tables)

    def all(self, shards: int, at_ms: int) -> Iterator[list[OutboxMessage]]:
        """Looks at everybody: all rows, and all profiles without one; see ``put_in_force``."""
        actor, versions = self.actor, versions_of(self.tables)
        if self.known:
            return
        if self.state.versions == versions:
            at_ms = self.state.at
        self.before, self.pending, self.met = {}, set(), set()
        self.left.clear()
        self.state = InForce(versions, at_ms, done=False, waiting=self.state.waiting)
        self.cause = AttributeCause(versions)
        self._keep()
        self.actor.desk.forget()
        for table in self.tables.values():
            rows = table.rows(actor.shard, shards)
            while part := list(islice(rows, SLICE)):
                yield self._some([profile_id for profile_id, _, _ in part])
        heads = (key for key, _ in actor.store.scan("profiles") if len(key) == PROFILE_BYTES)
        while ids := list(islice(heads, SLICE)):
            gone = _without_rows(self.tables, ids)
            if gone:
                yield self._some(gone)
        self._end()
        self._keep()

    def _some(self, ids: list[bytes]) -> list[OutboxMessage]:
        """One slice, one write."""
        desk, out, write = self.actor.desk, list[Change](), self.actor.store.batch()
        desk.clear()
        self.switch(desk.load(ids), out)
        return self.actor.commit(out, write, [])

    def _keep(self) -> None:
        """Writes what is in force by itself."""
        write = self.actor.store.batch()
        self.unsaved = True
        self.save(write)
        self.actor.store.write(write)


def is_somebody(profile: Profile) -> bool:
    """Whether attributes can change anything here: there is a profile, and it is not on its way into another one."""
    return bool(profile.now) and not profile.fate & (FROZEN | MOVED)


def put_in_force(
    actor: Actor, tables: Mapping[str, WarehouseTable], shards: int, at_ms: int
) -> Iterator[list[OutboxMessage]]:
    """Evaluates everybody whom tables concern, where the shard does not know the tables before them.

    Args:
        actor: the shard, which was made with these tables.
        tables: all tables of the project, by name.
        shards: how many shards there are.
        at_ms: the instant at which they come into force, for those who are not further on already.

    Yields:
        What each slice sends.
    """
    assert actor.refresh.tables is tables or versions_of(actor.refresh.tables) == versions_of(tables)
    return actor.refresh.all(shards, at_ms)


def _without_rows(tables: Mapping[str, WarehouseTable], ids: list[bytes]) -> list[bytes]:
    """Those who have no row in any table; the others were looked at with their rows."""
    rows = [table.lookup(ids) for table in tables.values()]
    return [profile_id for profile_id, *theirs in zip(ids, *rows, strict=True) if all(row is None for row in theirs)]
