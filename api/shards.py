"""The shards of a state directory, read on demand and never staler than asked.

Owns: which reader answers, when it catches up, how old an answer may be, and which warehouse tables it is joined with.
Invariants: a shard's time is learnt before its reader catches up, so an answer is true at that time; a shard that cannot
answer refuses, it never answers as if nobody were there. One thread: that of the event loop.
Not here: what a person is (state.people), routes (api.routes).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import msgspec

from api.freshness import ANY, AsFresh
from api.settings import ServeSettings
from api.settled import Settled
from opportune.audiences.lineage import Lineage
from opportune.clock import Clock, monotonic_ms
from opportune.compiled import Compiled
from opportune.errors import ReadRefused
from opportune.identity import profile_id, shard_of
from opportune.profile import ELSEWHERE
from state.in_force import META_WAREHOUSE, InForce
from state.keys import META_PLAN, META_STAGE
from state.lineage import lineage_of
from state.people import People, Person
from state.person import HOPS_MAX, onward
from state.reader import ShardReader, read_cache
from state.status import read_shard_times
from state.store import Reading
from state.warehouse import WarehouseTable

log = logging.getLogger(__name__)

Tables: TypeAlias = Mapping[str, WarehouseTable]
PAUSE_S = 0.02
KEEP_UP_S = 0.25


class Located(msgspec.Struct, frozen=True):
    """Where somebody is.

    Args:
        shard: of the profile.
        time_ms: the shard's log time.
        profile: the profile's id; of the identifier where there is no profile.
        head: of the profile, as it is stored; None where there is none.
        writes: by shard that was looked at, the last write that was seen.
        reader: of the shard; good until the next wait.
        people: of the shard, likewise.
    """

    shard: int
    time_ms: int
    profile: bytes
    head: bytes | None
    writes: dict[int, int]
    reader: ShardReader
    people: People


class Found(msgspec.Struct, frozen=True):
    """A look-up's answer: where, and the person, None where there is none."""

    at: Located
    person: Person | None

    @property
    def time_ms(self) -> int:
        """Log time up to which the answer has everything, exclusive."""
        person, time_ms = self.person, self.at.time_ms
        return min(time_ms, person.as_of_ms + 1) if person is not None and person.frozen else time_ms


class Shards:
    """All shards of a project.

    Args:
        compiled: the project.
        directory: of its state.
        open_tables: the warehouse tables of these versions, by name; None where one of them is not there.
        settings: limits.
        clock: wall clock, milliseconds.
    """

    def __init__(
        self,
        compiled: Compiled,
        directory: Path,
        open_tables: Callable[[Mapping[str, str]], Tables | None],
        settings: ServeSettings,
        clock: Clock,
    ) -> None:
        self.compiled = compiled
        self.waiting: Mapping[str, int] = {}
        self.count = compiled.project.settings.state.shards
        self.settings = settings
        self.clock = clock
        self.directory = directory
        self._open_tables = open_tables
        self._made: dict[int, tuple[InForce, People]] = {}
        self._people: dict[int, tuple[InForce, People]] = {}
        self._lineages: dict[int, tuple[bytes | None, Lineage | None]] = {}
        self._readers: dict[int, ShardReader] = {}
        self._cache = read_cache()
        self._caught_ms: dict[int, int] = {}
        self._times: dict[int, int] = {}
        self._settled = Settled(self.count, self._now)

    def close(self) -> None:
        """Lets all shards go."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()

    async def find(
        self,
        namespace: str,
        value: str,
        wanted: AsFresh = ANY,
        until_of: Container[str] | None = (),
        only: int | None = None,
    ) -> Found:
        """Looks somebody up, by any of their identifiers.

        Args:
            namespace: of the identifier.
            value: trimmed.
            wanted: how fresh the answer has to be; waited for within a bound.
            until_of: the audiences whose end by time is wanted; None: all.
            only: the number of the one audience that is asked for, where nothing else is.

        Raises:
            ReadRefused: the shard cannot answer, or not as fresh as asked.
        """
        waited_until = monotonic_ms() + self.settings.wait_ms
        while True:
            at = await self.locate(namespace, value, wanted)
            person = at.people.find(at.reader, at.profile, at.time_ms, until_of, at.head, only)
            found = Found(at, person)
            young = wanted.age_ms_max is None or self.clock() - found.time_ms <= wanted.age_ms_max
            # Of who is frozen an earlier answer may have told what time has done since.
            waits = bool(wanted.writes or wanted.events)
            seen = person is None or (person.version >= wanted.version and not (person.frozen and waits))
            if young and seen:
                return found
            if person is not None and person.frozen:
                # Events that wait for the end of a merge go on from there.
                self._settled.forget()
            if monotonic_ms() >= waited_until:
                raise ReadRefused(self._not_yet(found, young=young))
            await asyncio.sleep(PAUSE_S)

    async def locate(self, namespace: str, value: str, wanted: AsFresh = ANY) -> Located:
        """Finds the profile that an identifier belongs to. Arguments and errors as of ``find``."""
        if wanted.events:
            await self._settled.wait(wanted.events, self.settings.wait_ms)
        for shard in wanted.writes:
            await self.fresh(shard, wanted)
        person_id: bytes = profile_id(namespace, value)
        pointing = ELSEWHERE
        writes: dict[int, int] = {}
        for _ in range(HOPS_MAX):
            shard = shard_of(person_id, self.count)
            if wanted.version and shard not in writes:
                # A change is written before it is sent: whoever has it finds it by looking now.
                self._caught_ms.pop(shard, None)
            reader, time_ms = await self.fresh(shard, wanted)
            writes[shard] = reader.sequence
            head = reader.get("profiles", person_id)
            following = None if head is None else onward(person_id, head, pointing)
            if following is None:
                return Located(shard, time_ms, person_id, head, writes, reader, self._people[shard][1])
            person_id, pointing = following, 0
            # What this shard says of the next one is written there already; an older look could miss it.
            self._caught_ms.pop(shard_of(person_id, self.count), None)
        raise ReadRefused("the profile is being merged: ask again")

    async def fresh(self, shard: int, wanted: AsFresh = ANY) -> tuple[ShardReader, int]:
        """A reader of a shard that has caught up, and the shard's log time. Raises ``ReadRefused``."""
        if wanted is ANY:
            return self._caught_up(shard, None), self._times.get(shard, 0)
        waited_until = monotonic_ms() + self.settings.wait_ms
        age_ms_max, write = wanted.age_ms_max, wanted.writes.get(shard, 0)
        while True:
            reader = self._caught_up(shard, age_ms_max)
            time_ms = self._times.get(shard, 0)
            young = age_ms_max is None or self.clock() - time_ms <= age_ms_max
            if young and (not write or reader.sequence >= write):
                return reader, time_ms
            if monotonic_ms() >= waited_until:
                raise ReadRefused(self._late(time_ms, young=young))
            if young:
                self._caught_ms.pop(shard, None)
            await asyncio.sleep(PAUSE_S)

    def _not_yet(self, found: Found, *, young: bool) -> str:
        if young:
            return "the job has not made that change where it is seen here, or the profile is being merged"
        return self._late(found.time_ms, young=False)

    def _late(self, time_ms: int, *, young: bool) -> str:
        if young:
            return "the job has not written here what the position says"
        return f"the job is {self.clock() - time_ms} ms behind, more than min_freshness_ms allows"

    async def in_force(self, shard: int) -> Mapping[str, str]:
        """The versions of the warehouse tables that are in force in a shard. Raises ``ReadRefused``."""
        await self.fresh(shard)
        return self._people[shard][0].versions

    async def keep_up(self) -> None:
        """Catches up now and then though nobody asks, for ever: whoever asks next waits for little, and no log is missed."""
        while True:
            await asyncio.sleep(KEEP_UP_S)
            for shard in list(self._readers):
                # Whoever asks is told.
                with suppress(ReadRefused):
                    self._caught_up(shard, None)
                await asyncio.sleep(0)

    def check(self) -> None:
        """Raises ``ReadRefused`` where some shard cannot answer."""
        for shard in range(self.count):
            self._caught_up(shard, None)

    def _caught_up(self, shard: int, age_ms_max: int | None) -> ShardReader:
        now = monotonic_ms()
        budget = self.settings.staleness_ms if age_ms_max is None else min(self.settings.staleness_ms, age_ms_max)
        if shard in self._readers and now - self._caught_ms.get(shard, now - budget) < budget:
            return self._readers[shard]
        times = read_shard_times(self.directory)
        reader = self._readers.get(shard)
        try:
            if reader is None:
                directory = self.directory / "shards" / f"{shard:04d}"
                reader = self._readers[shard] = ShardReader(directory, self._cache)
                self._settled.forget()
            reader.catch_up()
            self.people_of(shard, reader)
            # A list may be opened over a later state before this reader sees it: its people are not those of this one.
            self._people[shard] = self._made[shard]
        except ReadRefused:
            # What is there now may be another database under the old name: the next request opens it anew.
            self._times.pop(shard, None)
            dropped = self._readers.pop(shard, None)
            if dropped is not None:
                dropped.close()
            raise
        # A job that starts anew tells its time from the beginning; what was in the state stays in it.
        self._times[shard] = max(times.get(shard, 0), self._times.get(shard, 0))
        self._caught_ms[shard] = monotonic_ms()
        return reader

    def _now(self, shard: int) -> ShardReader:
        """A reader that has caught up in this moment. Raises ``ReadRefused``."""
        self._caught_ms.pop(shard, None)
        return self._caught_up(shard, None)

    def _lineage_of(self, shard: int, reader: Reading) -> Lineage | None:
        """For which definitions a shard's state is kept; what was made for others of its stages is let go."""
        value = reader.get("meta", META_STAGE)
        known = self._lineages.get(shard)
        if known is not None and known[0] == value:
            return known[1]
        lineage = lineage_of(reader)
        self._lineages[shard] = value, lineage
        self._made.pop(shard, None)
        waiting = {} if lineage is None else lineage.present.waiting
        if waiting != self.waiting:
            self.waiting = waiting
            self.compiled = Compiled(self.compiled.project, waiting=waiting)
        return lineage

    def people_of(self, shard: int, reader: Reading) -> People:
        """The people of a shard, joined with the tables that are in force in it. Raises ``ReadRefused``."""
        if reader.get("meta", META_PLAN) != self.compiled.plan.fingerprint.encode():
            raise ReadRefused("the state is of other definitions than this service has loaded: start it again")
        lineage = self._lineage_of(shard, reader)
        in_force = InForce()
        if self.compiled.project.tables:
            value = reader.get("meta", META_WAREHOUSE)
            if value is None:
                raise ReadRefused("the warehouse tables are not in force yet")
            in_force = msgspec.json.decode(value, type=InForce)
            # What was decided meanwhile does not concern anybody yet.
            in_force.waiting = {}
        known = self._made.get(shard)
        if known is not None and known[0] == in_force:
            return known[1]
        if not in_force.done and not in_force.before:
            raise ReadRefused("the warehouse tables are being put in force for everybody: ask again")
        tables = self._open(in_force.versions)
        before = None if in_force.done else (self._open(in_force.before), in_force.at)
        people = People(self.compiled, tables, lineage, before)
        self._made[shard] = in_force, people
        return people

    def _open(self, versions: Mapping[str, str]) -> Tables:
        tables = self._open_tables(versions) if versions else {}
        if tables is None:
            raise ReadRefused("a snapshot of the warehouse that is in force is not there, or of another definition")
        return tables
