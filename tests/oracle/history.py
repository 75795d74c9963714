"""All membership changes of a log: the reference evaluator's two clocks (LANGUAGE.md sections 1 and 4).

Owns: at which now each record is applied, what is refused, dropped or clamped, and the changes that follow, computed
for each person from the full log at every instant at which anything can change.
``live``: every record has an arrival, a person's now is the greater of it and the person's last now. ``replay``: no
arrivals, now is the greatest effective time seen so far over the whole input.
Not here: the value of a condition (tests.oracle.evaluator).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from opportune.identity import ProfileId, profile_id
from opportune.project import Project
from tests.oracle.evaluator import Definitions, Occurrence, Row, World, instants_of_time
from tests.oracle.loaded import definition_of
from tests.oracle.messages import Message, Refused, read_message
from tests.oracle.tree import Definition

VERSIONS_A_MS = 1024
Tables: TypeAlias = Mapping[str, Mapping[str, Row]]
"""Rows by table and by the text of the key, all of them in force from before the first event."""


class Record(NamedTuple):
    """One record of the log.

    Args:
        arrival_ms: its arrival (None in a replay), in milliseconds since the epoch.
        raw: its bytes.
        batch: what was handed over together; a live run that is cut within an instant has two nets of that instant.
    """

    arrival_ms: int | None
    raw: bytes
    batch: int = 0


class Change(NamedTuple):
    """One membership change; ``profile`` is hexadecimal, ``change`` is entered or exited."""

    at: int
    profile: str
    audience: str
    change: str
    cause: str
    version: int


class Refresh(NamedTuple):
    """Tables that come into force at an instant, in milliseconds; those that are not named stay as they are."""

    at_ms: int
    tables: Tables


class Enforced(NamedTuple):
    """A row of a person, or None, in force from an instant on (None: from before the first event)."""

    at_ms: int | None
    table: str
    row: Row | None


@dataclass
class Person:
    """What is known of one profile: the event that founded it (None: rows did), its rows, the events applied to it."""

    founded_ms: int | None
    rows: list[Enforced] = field(default_factory=list)
    events: list[Occurrence] = field(default_factory=list)
    last_now_ms: int | None = None
    used: dict[str, int] = field(default_factory=dict)


@dataclass
class Outcome:
    """What came of a log: the changes in order of (at, profile, audience), and what was counted.

    ``late_for_person``: of those refused as too late, the ones that touch nothing and are late only by the person's last
    now, not by their arrival.
    """

    changes: list[Change] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    clamped: int = 0
    late_for_person: int = 0
    beyond_until: int = 0
    profiles: int = 0
    members: dict[str, frozenset[str]] = field(default_factory=dict)


def live(
    project: Project | Definition,
    records: Iterable[Record],
    end_ms: int,
    tables: Tables | None = None,
    rows_ms: int | None = None,
) -> Outcome:
    """The changes of a log that arrives over time.

    Args:
        project: the definitions, loaded by the engine or read by the reference evaluator.
        records: in the order in which they are applied; arrivals in milliseconds since the epoch.
        end_ms: time goes on to here, exclusive.
        tables: warehouse rows.
        rows_ms: the instant of what they alone cause; None: the first arrival that is not refused.
    """
    log = Log(project, tables or {}, first_ms=rows_ms)
    for record in records:
        assert record.arrival_ms is not None, "a live record has an arrival"
        log.take(record)
    return log.finish(end_ms - 1)


def replay(
    project: Project | Definition,
    raws: Iterable[bytes],
    until_ms: int | None = None,
    tables: Tables | None = None,
    wall_ms: int | None = None,
    refreshes: Iterable[Refresh] = (),
) -> Outcome:
    """The changes of files of events, which have no arrivals.

    Args:
        project: the definitions, loaded by the engine or read by the reference evaluator.
        raws: the records in arrival order.
        until_ms: time goes on to here, inclusive; None: to the last event's time.
        tables: warehouse rows; what they alone cause is at the first event's time, without events at the end of time.
        wall_ms: the clock, where time ends if there are neither events nor ``until_ms``; None: then nothing changes.
        refreshes: tables that come into force later, in order of instant.
    """
    log = Log(project, tables or {}, until_ms)
    log.refreshes = list(refreshes)
    for raw in raws:
        log.take(Record(None, raw))
    ends = (until_ms, log.watermark_ms, wall_ms)
    return log.finish(next((end_ms for end_ms in ends if end_ms is not None), None))


class Log:
    """The log so far: who exists, what was applied to whom and when."""

    def __init__(
        self,
        project: Project | Definition,
        tables: Tables,
        until_ms: int | None = None,
        first_ms: int | None = None,
        made: type[Definitions] = Definitions,
    ) -> None:
        self.definition = project if isinstance(project, Definition) else definition_of(project)
        self.definitions = made(self.definition)
        self.until_ms = until_ms
        self.watermark_ms: int | None = None
        self.first_ms = first_ms
        self.outcome = Outcome()
        self.people: dict[ProfileId, Person] = {}
        self.refreshes: list[Refresh] = []
        self.come_into_force(Refresh(None, tables))  # type: ignore[arg-type]  # before the first event

    def come_into_force(self, refresh: Refresh) -> None:
        """Gives everybody the rows of these tables; who has none any more loses theirs."""
        for table, rows in refresh.tables.items():
            keys = {profile_id(self.definition.namespaces[table], key): row for key, row in rows.items()}
            having = {profile for profile, person in self.people.items() if any(r.table == table for r in person.rows)}
            for profile in sorted(having | keys.keys()):
                person = self.people.setdefault(profile, Person(None))
                person.rows.append(Enforced(refresh.at_ms, table, keys.get(profile)))

    def refresh_until(self, now_ms: int) -> None:
        """What is due by now comes into force, before the events of now."""
        while self.refreshes and self.refreshes[0].at_ms <= now_ms:
            if self.first_ms is None:
                self.first_ms = self.refreshes[0].at_ms
            self.come_into_force(self.refreshes.pop(0))

    def take(self, record: Record) -> None:
        """Reads one record and applies it, or counts why not."""
        try:
            message = read_message(record.raw, self.definition.event_bytes_max)
            self.apply(message, record.arrival_ms, record.batch)
        except Refused as reason:
            self.outcome.refused[str(reason)] += 1

    def apply(self, message: Message, arrival_ms: int | None, batch: int) -> None:
        """Applies a message at its now. Raises ``Refused``."""
        person = self.people.get(message.profile)
        time_ms, clamped = self.effective_time(message, arrival_ms)
        if self.until_ms is not None and time_ms > self.until_ms:
            self.outcome.beyond_until += 1
            return
        now_ms = self.now_of(person, time_ms, arrival_ms)
        if time_ms < now_ms - self.definition.lateness_ms:
            by_arrival = arrival_ms is not None and time_ms >= arrival_ms - self.definition.lateness_ms
            self.outcome.late_for_person += by_arrival and not self.definitions.is_in_plan(message)
            raise Refused("too_late")
        if person is not None and self.is_duplicate(person, message, now_ms):
            self.outcome.duplicates += 1
            return
        self.outcome.clamped += clamped
        if arrival_ms is None:
            self.watermark_ms = now_ms
            self.refresh_until(now_ms)
            person = self.people.get(message.profile)
        if self.first_ms is None:
            self.first_ms = now_ms
        if person is None:
            person = self.people[message.profile] = Person(founded_ms=now_ms)
        elif not self.definitions.is_in_plan(message):
            return
        person.last_now_ms = now_ms
        matched = self.definitions.matched(message)
        traits = {name: value for name, value in message.traits().items() if name in self.definitions.traits}
        if message.message_id is not None and (matched or traits or self.definitions.sessions):
            person.used[message.message_id] = now_ms
        person.events.append(Occurrence(now_ms, batch, time_ms, matched, traits))

    def effective_time(self, message: Message, arrival_ms: int | None) -> tuple[int, bool]:
        """The effective time of a message, and whether it was clamped. Raises ``Refused`` where there is none."""
        time_ms = message.time()
        if time_ms is None:
            time_ms = self.watermark_ms if arrival_ms is None else arrival_ms
        if time_ms is None:
            raise Refused("bad_time")
        bounds = [bound for bound in (message.times.get("receivedAt"), arrival_ms) if bound is not None]
        least = min([time_ms, *bounds])
        return least, least < time_ms

    def now_of(self, person: Person | None, time_ms: int, arrival_ms: int | None) -> int:
        """The instant at which an event is looked at."""
        if arrival_ms is None:
            return time_ms if self.watermark_ms is None else max(self.watermark_ms, time_ms)
        if person is None or person.last_now_ms is None:
            return arrival_ms
        return max(person.last_now_ms, arrival_ms)

    def is_duplicate(self, person: Person, message: Message, now_ms: int) -> bool:
        """Whether the person has used this message id less than the period before now."""
        if message.message_id not in person.used:
            return False
        return now_ms - person.used[message.message_id] < self.definition.dedupe_ms

    def finish(self, last_ms: int | None) -> Outcome:
        """All changes up to ``last_ms``, inclusive."""
        if last_ms is not None:
            self.refresh_until(last_ms)
        rows_ms = last_ms if self.first_ms is None else self.first_ms
        for profile, person in self.people.items():
            if last_ms is not None and rows_ms is not None:
                changes = list(_changes(self.definitions, profile, person, rows_ms, last_ms))
                self.outcome.changes += changes
        self.outcome.changes.sort()
        self.outcome.profiles = len(self.people)
        self.outcome.members = _members(self.outcome.changes)
        return self.outcome


def _changes(
    definitions: Definitions, profile: ProfileId, person: Person, rows_ms: int, last_ms: int
) -> Iterator[Change]:
    """The changes of one person, from the full log, at every instant at which anything can change."""
    events, rows = (
        [*person.events],
        [each._replace(at_ms=rows_ms) if each.at_ms is None else each for each in person.rows],
    )
    event_instants = {(event.now_ms, event.batch) for event in events}
    refreshed = {each.at_ms for each in rows if each.at_ms is not None}
    start_ms = min(refreshed) if person.founded_ms is None else person.founded_ms
    by_time = {at for at in instants_of_time(definitions, events, _all(rows), start_ms, last_ms) if at > start_ms}
    by_time = (by_time | refreshed) - {at for at, _ in event_instants}
    world = World(definitions, {})
    members: frozenset[str] = frozenset()
    version = 0
    for at, batch in sorted({*event_instants, *((at, -1) for at in by_time)}):
        if at > last_ms:
            break
        before = members
        if world.enforce([each for each in rows if each.at_ms == at]) or (at == start_ms and person.founded_ms is None):
            members = world.members(at)
        alone = members ^ before
        while events and (events[0].now_ms, events[0].batch) <= (at, batch):
            world.arrive(events.pop(0))
        after = world.members(at)
        for audience in sorted(after ^ before):
            by_rows = audience in alone and audience not in after ^ members
            cause = "attribute" if by_rows else "event" if batch >= 0 else "time"
            version = max(version + 1, at * VERSIONS_A_MS)
            yield Change(at, profile.hex(), audience, "entered" if audience in after else "exited", cause, version)
        members = after


def _all(rows: list[Enforced]) -> dict[str, Row]:
    """All rows that a person ever had."""
    return {f"{number} {each.table}": each.row for number, each in enumerate(rows) if each.row is not None}


def _members(changes: Iterable[Change]) -> dict[str, frozenset[str]]:
    """Who is in each audience after the changes, by audience."""
    members: dict[str, set[str]] = {}
    for change in changes:
        who = members.setdefault(change.audience, set())
        if change.change == "entered":
            who.add(change.profile)
        else:
            who.discard(change.profile)
    return {audience: frozenset(who) for audience, who in members.items()}
