"""Changed definitions over the state of a shard: how the profiles of former ones come to those of today.

Owns: ``succeed``, the step from one stage to the next at a start, and ``Succession``, a shard's work on it: a profile that is
kept for an earlier stage is renewed when it is read for whatever reason, and those whom nothing happens to in bounded slices.
So the flow goes on at once, and nobody is seen under mixed definitions.
Invariants: the new stage is written, with the plan's fingerprint, before anything is read under it: it has one place in the
order of each shard, behind all that was applied. A profile is renewed in the write that names its stage, as of the instant
that was kept with the stage: a pass that was killed goes on with who is left, and nothing is told twice.
Not here: what is the same in both (opportune.audiences.lineage), what a profile makes of it (opportune.audiences.renewal).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from opportune.audiences.lineage import Layout, Lineage, follow
from opportune.audiences.plan import TRAITS, Plan
from opportune.audiences.renewal import Renewal, has_state, renewals, renumbered
from opportune.compiled import Compiled
from opportune.decode import decode_traits
from opportune.profile import Change, Profile
from opportune.project import Project
from state.keys import PROFILE_BYTES, U16, pack_member
from state.lineage import keep_lineage, lineage_of, put_lineage
from state.positions import Reached
from state.store import Batch as Write
from state.store import Store

if TYPE_CHECKING:
    from flows.actor import Actor

SLICE = 100
"""So many are renewed in one go while events flow."""
SCANNED = 5_000
"""So many keys are looked at in one go for those who are left."""
unpack = msgspec.msgpack.Decoder(list[Any]).decode
decode_head = msgspec.msgpack.Decoder(Profile).decode


class Succeeded(NamedTuple):
    """What the shards of a process work with.

    Args:
        present: the present stage.
        gone: definitions by name of the audiences that are no more and that somebody may still be in.
        former: names of those in which nobody is any more.
    """

    present: Layout
    gone: dict[str, str]
    former: list[str]


def succeed(stores: Sequence[Store], plan: Plan) -> Succeeded:
    """Brings the states of all shards of a process to a plan.

    Args:
        stores: of all shards, checked (state.shard_identity); nothing was read for them yet.
        plan: of the present definitions.

    Returns:
        What to compile and to write changes with.

    Raises:
        StateError: a state cannot be read.
    """
    kept = [lineage_of(store) for store in stores]
    newest = newest_lineage(stores)
    present = next_layout(stores, newest, plan)
    for store, lineage in zip(stores, kept, strict=True):
        if lineage is None:
            keep_lineage(store, Lineage(layouts=[present]))
        elif lineage.present.stage < present.stage:
            missed = newest.layouts if newest is not None else []
            stage = lineage.present.stage
            layouts = [*lineage.layouts, *(one for one in missed if stage < one.stage < present.stage), present]
            at = Reached(store).time_ms
            keep_lineage(store, Lineage(layouts=layouts, at=at, done=False, former=lineage.former))
    gone: dict[str, str] = {}
    former: set[str] = set()
    for lineage in filter(None, map(lineage_of, stores)):
        gone |= lineage.gone()
        former.update(lineage.former)
    return Succeeded(present, dict(sorted(gone.items())), sorted(former))


def newest_lineage(stores: Sequence[Store]) -> Lineage | None:
    """Of the shards' lineages the one that is furthest; None where there is none. Raises ``StateError``."""
    known = [lineage for lineage in map(lineage_of, stores) if lineage is not None]
    return max(known, key=lambda lineage: lineage.present.stage, default=None)


def next_layout(stores: Sequence[Store], newest: Lineage | None, plan: Plan) -> Layout:
    """The stage that a plan means for the states of all shards: the present one, where it is kept for it."""
    if newest is not None and newest.present.plan == plan.fingerprint:
        return newest.present
    reached = [Reached(store) for store in stores]
    time_ms = min((each.time_ms for each in reached), default=0)
    latest_ms = max((max(each.latest_ms, each.time_ms) for each in reached), default=0)
    return follow(plan, None if newest is None else newest.present, latest_ms, time_ms)


def compiled_for(project: Project, stores: Sequence[Store], *, counting: bool = False) -> Compiled:
    """A project compiled for the states of all shards of a process, which are brought to it."""
    present, gone, former = succeed(stores, Plan(project))
    return Compiled(project, counting=counting, waiting=present.waiting, gone=list(gone.items()), former=former)


def compiled_as_kept(project: Project, stores: Iterable[Store]) -> Compiled:
    """A project compiled for looking at states that are kept for it, of all shards; nothing is written."""
    lineages = [lineage for lineage in map(lineage_of, stores) if lineage is not None]
    gone = dict(sorted(one for lineage in lineages for one in lineage.gone().items()))
    waiting = lineages[0].present.waiting if lineages else {}
    return Compiled(project, waiting=waiting, gone=list(gone.items()))


class Succession:
    """What a shard has to do with stages.

    Args:
        actor: the shard.

    Attributes:
        stage: the present one.
        lineage: as it is kept; None where the state is kept for one plan only (a replay).
        saved: whether the write that is being made ends the pass of a stage.
    """

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.lineage = lineage_of(actor.store)
        self.stage = 0 if self.lineage is None else self.lineage.present.stage
        self.at_ms = 0 if self.lineage is None else self.lineage.at
        self.unsaved = self.saved = False
        layouts = [] if self.lineage is None else self.lineage.layouts
        self.ways = renewals(layouts, actor.compiled.plan, [name for name, _ in actor.compiled.gone])
        self.scanned = b""
        self.changes: list[Change] = []
        self.deleted: list[tuple[bytes, Any]] = []
        self.indexed: list[tuple[bytes, bytes]] = []
        actor.desk.stage, actor.desk.renew = self.stage, self.renew

    @property
    def busy(self) -> bool:
        """Whether somebody may be kept for an earlier stage."""
        return self.lineage is not None and not self.lineage.done

    def renew(self, profiles: Sequence[Profile]) -> None:
        """Brings profiles that were just read, with their rows, to the present stage."""
        for way, theirs in self._by_way(profiles):
            if way.moved:
                self._move(way, theirs)
            self._renumber(way, theirs)
            for profile in theirs:
                self.actor.desk.touch(profile)
                at_ms = max(self.at_ms, profile.now)
                way.evaluate(profile, at_ms, self.actor.evaluate, self.changes)

    def _by_way(self, profiles: Sequence[Profile]) -> list[tuple[Renewal, list[Profile]]]:
        theirs: dict[int, list[Profile]] = {}
        for profile in profiles:
            stage, profile.stage = profile.stage, self.stage
            if has_state(profile):
                theirs.setdefault(stage, []).append(profile)
        return [(self.ways[stage], some) for stage, some in theirs.items()]

    def _move(self, way: Renewal, profiles: Sequence[Profile]) -> None:
        """Moves features to where they lie now."""
        store, family = self.actor.store, self.actor.desk.family
        keys = [profile.id + U16(group) for profile in profiles for group in way.old_groups]
        values = iter(store.get_many("profiles", keys))
        for profile in profiles:
            there = {group: value for group in way.old_groups if (value := next(values)) is not None}
            self.deleted += [(profile.id + U16(group), family) for group in there]
            opened: dict[int, Any] = {
                group: decode_traits(value) if group == TRAITS else unpack(value) for group, value in there.items()
            }
            self.actor.desk.touch(profile)
            for group, value in enumerate(way.groups(opened.get)):
                profile.groups[group] = value
                if value is not None:
                    profile.dirty.add(group)

    def _renumber(self, way: Renewal, profiles: Sequence[Profile]) -> None:
        """Gives memberships, and the index of them, the numbers of today."""
        if way.kept_audiences:
            return
        members = self.actor.members
        olds = [(profile.id, number) for profile in profiles for number in sorted(profile.members)]
        values = self.actor.store.get_many("members", [pack_member(number, owner) for owner, number in olds])
        self.deleted += [(pack_member(number, owner), members) for owner, number in olds]
        self.indexed += [
            (pack_member(way.numbers[number], owner), value)
            for (owner, number), value in zip(olds, values, strict=True)
            if value is not None
        ]
        for profile in profiles:
            renumbered(profile, way)

    def slice(self) -> None:
        """Renews some of those who are left; ends the stage's pass when there is nobody."""
        if not self.busy:
            return
        assert self.lineage is not None
        ids: list[bytes] = []
        last = b""
        for last, value in islice(self.actor.store.scan("profiles", self.scanned), SCANNED):
            if len(last) == PROFILE_BYTES:
                head = decode_head(value)
                if head.stage != self.stage and has_state(head):
                    ids.append(last)
                    if len(ids) == SLICE:
                        break
        self.scanned = last + b"\x00"
        if ids:
            self.actor.desk.load(ids)
            self.actor.on_point("in_succession")
        elif not last:
            self.lineage = self.lineage.ended()
            self.unsaved = True

    def save(self, write: Write) -> list[Change]:
        """Puts what becomes of keys of former stages into a write, before anything that the present one writes.

        Returns:
            The changes of the profiles that were renewed since this was asked last.
        """
        for key, family in self.deleted:
            write.delete(key, family)
        for key, value in self.indexed:
            write.put(key, value, self.actor.members)
        self.deleted, self.indexed = [], []
        self.saved, self.unsaved = self.unsaved, False
        if self.saved and self.lineage is not None:
            put_lineage(write, self.lineage, self.actor.meta)
        taken, self.changes = self.changes, []
        return taken
