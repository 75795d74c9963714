"""Snapshots as events on the time line of the reference evaluator.

Owns: ``live``, which takes records and snapshots in the order in which a run meets them. A snapshot decided at an instant
replaces the rows of its tables: for each person from that instant on, or from the person's last now where that is later.
Invariant: everything is computed anew from the full log; nothing is taken over from the engine.
Not here: the value of a condition (tests.oracle.evaluator), what a record means (tests.oracle.history).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from opportune.identity import ProfileId, profile_id
from opportune.project import Project
from tests.oracle.evaluator import Row, World, instants_of_time
from tests.oracle.history import Enforced, Log, Person, Record, Tables

Net = tuple[int, str, str, str]
"""An instant, a profile, an audience, entered or exited: what is left of everything at that instant."""


class Decided(NamedTuple):
    """A snapshot of some tables, decided at an instant."""

    at_ms: int
    tables: Tables


def live(project: Project, steps: Iterable[Record | Decided], end_ms: int, tables: Tables, rows_ms: int) -> list[Net]:
    """The net of every instant up to ``end_ms``, exclusive; arguments as ``tests.oracle.live``."""
    log = Log(project, tables, first_ms=rows_ms)
    now = dict(tables)
    for step in steps:
        if isinstance(step, Record):
            log.take(step)
            continue
        for name, table in step.tables.items():
            _decide(log, name, profile_rows(project, name, table), profile_rows(project, name, now[name]), step.at_ms)
        now.update(step.tables)
    nets: list[Net] = []
    for profile, person in log.people.items():
        nets += _nets(log, profile, person, rows_ms, end_ms - 1)
    return sorted(nets)


def profile_rows(project: Project, name: str, table: Mapping[str, Row]) -> dict[ProfileId, Row]:
    """The rows of a table by profile."""
    return {profile_id(project.tables[name].namespace, key): row for key, row in table.items()}


def _decide(log: Log, name: str, after: dict[ProfileId, Row], before: dict[ProfileId, Row], at_ms: int) -> None:
    """Gives those whose row differs the new one, from the instant on or where they have come to."""
    for profile in {*after, *before}:
        if after.get(profile) == before.get(profile):
            continue
        person = log.people.get(profile)
        if person is None:
            # Found by the row; nothing was there before.
            person = log.people[profile] = Person(None)
            person.last_now_ms = at_ms
        person.rows.append(Enforced(max(at_ms, person.last_now_ms or 0), name, after.get(profile)))


def _nets(log: Log, profile: ProfileId, person: Person, rows_ms: int, last_ms: int) -> Iterator[Net]:
    """The net of each instant: everything of it has arrived, rows and events."""
    events = [*person.events]
    rows = [each._replace(at_ms=rows_ms) if each.at_ms is None else each for each in person.rows]
    instants = {event.now_ms for event in events} | {each.at_ms for each in rows if each.at_ms is not None}
    if person.founded_ms is not None:
        instants.add(person.founded_ms)
    start_ms = min(instants)
    by_number = {f"{number} {each.table}": each.row for number, each in enumerate(rows) if each.row is not None}
    instants |= {at for at in instants_of_time(log.definitions, events, by_number, start_ms, last_ms) if at > start_ms}
    world = World(log.definitions, {})
    members: frozenset[str] = frozenset()
    for at in sorted(instants):
        if at > last_ms:
            break
        world.enforce([each for each in rows if each.at_ms == at])
        while events and events[0].now_ms <= at:
            world.arrive(events.pop(0))
        after = world.members(at)
        for audience in sorted(after ^ members):
            yield at, profile.hex(), audience, "entered" if audience in after else "exited"
        members = after
