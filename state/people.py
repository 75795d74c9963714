"""People as they are now, read from a shard's state beside the job.

Owns: a profile as of its shard's log time: what is stored, with what time alone has changed since evaluated by the same
compiled plan; and what time has changed of whom while timers wait.
Invariants: nothing is written; an answer is what the reference says at ``as_of_ms``, never a mixture of two instants.
Not here: reading bytes (state.reader), the members of an audience (state.members), freshness (api.shards), the flow's own desk of profiles (flows.desk).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from opportune.audiences.explain import PersonState
from opportune.audiences.lineage import Lineage, follow
from opportune.audiences.plan import TRAITS
from opportune.audiences.renewal import has_state, renewals, renumbered
from opportune.compiled import Compiled
from opportune.decode import decode_traits
from opportune.errors import ReadRefused
from opportune.event import iso_text
from opportune.profile import FROZEN, NEVER, Change, Profile, advance
from state.keys import (
    PROFILE_BYTES,
    U16,
    U64,
    decode_membership,
    decode_timer,
    pack_member,
)
from state.outlook import Outlook
from state.passing import Passing
from state.person import person_state
from state.store import Reading
from state.warehouse import WarehouseTable, rows_of

decode_head = msgspec.msgpack.Decoder(Profile).decode
decode_group = msgspec.msgpack.Decoder(list[Any]).decode
OVERDUE_MAX = 50_000
SLICE = 500


class Membership(msgspec.Struct, frozen=True):
    """Since when (milliseconds) a person is in an audience, and until when if nothing happens; None: time will not end it."""

    audience: str
    since_ms: int
    until_ms: int | None = None


class Person(msgspec.Struct, frozen=True):
    """A profile at an instant.

    Args:
        id: 16 bytes.
        as_of_ms: the instant, log time.
        identifiers: ``namespace:value`` texts.
        memberships: in order of audience, without those of ``warming``.
        warming: audiences that have not seen enough yet, with the instant up to which they have not (``NEVER``: no time ends it).
        traits: those that some condition reads.
        attributes: the warehouse columns that some condition reads, by ``table.column``; timestamps as ISO 8601.
        version: of the last membership change that the job has made.
        frozen: the profile is on its way into another one; what came since ``as_of_ms`` waits for it there.
        approximate: the audiences that a feature beyond its exact bound takes part in, whether the person is in or not.
    """

    id: bytes
    as_of_ms: int
    identifiers: list[str]
    memberships: list[Membership]
    traits: dict[str, Any]
    attributes: dict[str, Any]
    version: int = 0
    frozen: bool = False
    approximate: list[str] = []
    warming: dict[str, int] = {}


class _Groups(dict[int, Any]):
    """Feature groups, read when an evaluation asks."""

    def __init__(self, reader: Reading, owner: bytes) -> None:
        super().__init__()
        self._reader = reader
        self._owner = owner

    def __missing__(self, group: int) -> bytes | None:
        value = self[group] = self._reader.get("profiles", self._owner + U16(group))
        return value


class People:
    """Reads the people of a shard.

    Args:
        compiled: the project.
        tables: the warehouse tables that are in force in the shard, by name.
        lineage: for which definitions the shard's state is kept; None: for these only.
        before: the tables before those, and since when they are no longer in force (milliseconds of log time), while
            somebody may still be joined with them; None: everybody was switched.
    """

    def __init__(
        self,
        compiled: Compiled,
        tables: Mapping[str, WarehouseTable],
        lineage: Lineage | None = None,
        before: tuple[Mapping[str, WarehouseTable], int] | None = None,
    ) -> None:
        self.lineage = lineage or Lineage(layouts=[follow(compiled.plan, None, 0, 0)])
        self.stage = self.lineage.present.stage
        self.ways = renewals(self.lineage.layouts, compiled.plan, self.lineage.gone())
        self.compiled = compiled
        self.names = compiled.names
        self.in_force = tables
        self.tables = [tables[name] for name in sorted(compiled.plan.columns)]
        self.passing = None if before is None else Passing(compiled, before[1], before[0], tables)
        self._outlook = Outlook(compiled.plan, compiled.program.evaluate)

    def find(
        self,
        reader: Reading,
        profile_id: bytes,
        time_ms: int,
        until_of: Container[str] | None = None,
        head: bytes | None = None,
        only: int | None = None,
    ) -> Person | None:
        """A person as of the shard's time, or of their own last event where that is later, or where they are frozen.

        Args:
            reader: of the shard, caught up after ``time_ms`` was learnt.
            profile_id: 16 bytes.
            time_ms: the shard's log time.
            until_of: the names of the audiences whose end is wanted; None: of all.
            head: of the profile, where it was read already.
            only: the number of the one audience that is asked for; then nothing else is read but that membership.

        Returns:
            None where there is no such profile.
        """
        if head is None:
            head = reader.get("profiles", profile_id)
        profile = Profile(stage=self.stage) if head is None else decode_head(head)
        if not profile.now and self.passing is None:
            return None
        changed, index = self._now(reader, profile_id, profile, time_ms)
        if not profile.now:
            return None
        frozen = bool(profile.fate & FROZEN)
        as_of_ms = profile.now if frozen else max(time_ms - 1, profile.now)
        warming = self.warming(as_of_ms)
        asked = profile.members if only is None else profile.members & {only}
        stored = sorted(number for number in asked if self.is_known(number, warming))
        values = reader.get_many("members", [pack_member(index.get(number, number), profile_id) for number in stored])
        since_ms: dict[int, int] = {}
        for number, value in zip(stored, values, strict=True):
            since = changed.get(number)
            if since is None:
                if value is None:
                    raise ReadRefused("a profile and the index of its memberships are of two instants: ask again")
                since = decode_membership(value)[0]
            since_ms[number] = since
        traits, attributes, approximate = ({}, {}, []) if only is not None else self._beside(reader, profile)
        wanted = [number for number in stored if until_of is None or self.names[number] in until_of]
        ends = self._outlook.ends(profile, wanted) if profile.due != NEVER and wanted else {}
        memberships = [Membership(self.names[number], at, ends.get(number)) for number, at in since_ms.items()]
        memberships.sort(key=lambda one: one.audience)
        who, version = profile.identifiers, profile.version
        return Person(profile_id, as_of_ms, who, memberships, traits, attributes, version, frozen, approximate, warming)

    def warming(self, as_of_ms: int) -> dict[str, int]:
        """The audiences that have not seen enough at an instant, with the one up to which they have not."""
        return {name: until_ms for name, until_ms in self.lineage.present.waiting.items() if until_ms > as_of_ms}

    def is_known(self, number: int, warming: Container[str]) -> bool:
        """Whether a number is that of an audience of the project that is not warming."""
        return number < len(self.names) and self.names[number] not in warming

    def _beside(self, reader: Reading, profile: Profile) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        """Traits, attributes, and the audiences that are approximate."""
        raw = profile.groups[TRAITS]
        # An evaluation leaves them decoded.
        decoded = raw if isinstance(raw, dict) else decode_traits(raw) if raw else {}
        traits = {name: trait[1] for name, trait in decoded.items() if trait[1] is not None}
        return traits, self._attributes(profile), self._approximate(reader, profile)

    def state(self, reader: Reading, profile_id: bytes) -> PersonState | None:
        """All that is kept of a person, opened: for explanations and computed traits."""
        return person_state(self.compiled.plan, reader, profile_id, self.in_force, self.lineage)

    def _approximate(self, reader: Reading, profile: Profile) -> list[str]:
        approximations, groups = self.compiled.approximations, profile.groups
        if not approximations.groups:
            return []
        unread = [number for number in approximations.groups if groups.get(number).__class__ is not list]
        if profile.stage != self.stage and self.ways[profile.stage].moved:
            # It was renewed here: what it has no group of is nowhere, whatever the store has under that number.
            unread = []
        values = reader.get_many("profiles", [profile.id + U16(number) for number in unread])
        opened = {number: decode_group(value) for number, value in zip(unread, values, strict=True) if value}
        return [name for number, name in enumerate(self.names) if approximations.of(number, {**groups, **opened})]

    def corrected(self, reader: Reading, time_ms: int) -> dict[int, dict[bytes, int | None]]:
        """What time has changed in a shard and no timer has fired yet.

        Returns:
            By audience number and profile id, since when it is a member; None: it no longer is.

        Raises:
            ReadRefused: the job is too far behind with its timers, or with people whom changed definitions or warehouse
                tables concern, to correct what is stored.
        """
        if self.passing is not None:
            raise ReadRefused("warehouse tables are being put in force: ask again")
        if not self.lineage.done:
            raise ReadRefused("changed definitions are being put in force: ask again")
        overdue = self._overdue(reader, time_ms)
        corrected: dict[int, dict[bytes, int | None]] = {}
        for at in range(0, len(overdue), SLICE):
            part = overdue[at : at + SLICE]
            for profile_id, head in zip(part, reader.get_many("profiles", part), strict=True):
                if head is not None:
                    profile = decode_head(head)
                    changed, _ = self._now(reader, profile_id, profile, time_ms)
                    for audience, since_ms in changed.items():
                        inside = audience in profile.members
                        corrected.setdefault(audience, {})[profile_id] = since_ms if inside else None
        return corrected

    def _overdue(self, reader: Reading, time_ms: int) -> list[bytes]:
        keys = [key for key, _ in islice(reader.scan("timers", b"", U64(max(time_ms, 0))), OVERDUE_MAX + 1)]
        if len(keys) > OVERDUE_MAX:
            raise ReadRefused("the job is working off more timers than can be looked at here: ask again")
        return list(dict.fromkeys(decode_timer(key)[1] for key in keys))

    def _now(
        self, reader: Reading, profile_id: bytes, profile: Profile, time_ms: int
    ) -> tuple[dict[int, int], dict[int, int]]:
        """Brings a decoded head to an instant.

        Returns:
            The instants of what has changed since it was stored, by audience number; and the numbers under which its
            memberships are stored, where those are others.
        """
        assert len(profile_id) == PROFILE_BYTES, "a profile id is 16 bytes"
        profile.id = profile_id
        profile.groups = _Groups(reader, profile_id)
        profile.dirty = set()
        (profile.row,) = rows_of(self.tables, [profile])
        out: list[Change] = []
        evaluate = self.compiled.program.evaluate
        index: dict[int, int] = {}
        if not profile.now:
            if self.passing is None or not self.passing.find(profile, out):
                return {}, index
        elif profile.stage != self.stage and has_state(profile):
            if self.passing is not None:
                raise ReadRefused("definitions and warehouse tables are being put in force at once: ask again")
            # The job has not come to this person since the definitions changed.
            way = self.ways[profile.stage]
            index = {number: old for old, number in enumerate(way.numbers)}
            if way.moved:
                profile.groups.update(enumerate(way.groups(lambda group: opened(reader, profile_id, group))))
            renumbered(profile, way)
            way.evaluate(profile, max(self.lineage.at, profile.now), evaluate, out)
        elif self.passing is not None:
            self.passing.bring(profile, out)
        # One that is on its way into another profile stays as it was: its events and its time go on there.
        if profile.due < time_ms and not profile.fate & FROZEN:
            advance(profile, time_ms, out, evaluate)
        return {audience: at for _, audience, _, at, _ in out}, index

    def _attributes(self, profile: Profile) -> dict[str, Any]:
        rows: Sequence[Any] = [profile.row] if len(self.tables) == 1 else profile.row or ()
        return {
            f"{table.name}.{column}": iso_text(value)
            if table.types[column] == "timestamp" and value is not None
            else value
            for table, row in zip(self.tables, rows, strict=True)
            if row is not None
            for column, value in zip(table.columns, row, strict=True)
        }


def opened(reader: Reading, profile_id: bytes, group: int) -> Any:
    """A stored feature group, opened; None where there is none."""
    value = reader.get("profiles", profile_id + U16(group))
    return None if value is None else decode_traits(value) if group == TRAITS else decode_group(value)
