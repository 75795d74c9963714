"""Snapshots as events on the time line of the reference evaluator.

Owns: ``live``, which takes records and snapshots in the order in which a run meets them. A snapshot decided at an instant
replaces the rows of its tables: for each person from that instant on, or from the person's last now where that is later.
Invariant: everything is computed anew from the full log; nothing is taken over from the engine.
Not here: the value of a condition (tests.oracle.evaluator), what a record means (tests.oracle.history).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from opportune.identity import ProfileId, profile_id
from opportune.project import Project
from tests.oracle.evaluator import Row, World, instants_of_time
from tests.oracle.history import Person, Record, Tables, _Log

Net = tuple[int, str, str, str]
"""An instant, a profile, an audience, entered or exited: what is left of everything at that instant."""


class Decided(NamedTuple):
    """A snapshot of some tables, decided at an instant."""

    at_ms: int
    tables: Tables


class Switch(NamedTuple):
    """A person's rows from an instant on, behind the first ``events`` of the person's events."""

    at_ms: int
    events: int
    rows: dict[str, Row]


def live(project: Project, steps: Iterable[Record | Decided], end_ms: int, tables: Tables, rows_ms: int) -> list[Net]:
    """The net of every instant up to ``end_ms``, exclusive; arguments as ``tests.oracle.live``."""
    log = _Log(project, tables, first_ms=rows_ms)
    switches: dict[ProfileId, list[Switch]] = {}
    for step in steps:
        if isinstance(step, Record):
            log.take(step)
        else:
            tables = {**tables, **step.tables}
            _decide(log, project, step.at_ms, tables, switches)
    nets: list[Net] = []
    for profile, person in log.people.items():
        nets += _nets(log, profile, person, switches.get(profile, []), rows_ms, end_ms - 1)
    return sorted(nets)


def _decide(log: _Log, project: Project, at_ms: int, tables: Tables, switches: dict[ProfileId, list[Switch]]) -> None:
    rows: dict[ProfileId, dict[str, Row]] = {}
    for name, table in tables.items():
        for key, row in table.items():
            rows.setdefault(profile_id(project.tables[name].namespace, key), {})[name] = row
    for profile in {*rows, *log.people}:
        person = log.people.get(profile)
        if person is None:
            # Found by the row; nothing was there before.
            person = log.people[profile] = Person(founded_ms=at_ms)
            person.last_now_ms = at_ms
        theirs = switches.setdefault(profile, [])
        before = theirs[-1].rows if theirs else _rows_of(person)
        if before == rows.get(profile, {}):
            continue
        now_ms = max(at_ms, person.last_now_ms or 0)
        theirs.append(Switch(now_ms, len(person.events), rows.get(profile, {})))


def _nets(
    log: _Log, profile: ProfileId, person: Person, switches: list[Switch], rows_ms: int, last_ms: int
) -> Iterator[Net]:
    events, switches = [*person.events], [*switches]
    start_ms = rows_ms if person.founded_ms is None else person.founded_ms
    instants = {event.now_ms for event in events} | {switch.at_ms for switch in switches} | {start_ms}
    rows = _rows_of(person)
    instants |= {at for at in instants_of_time(log.definitions, events, rows, start_ms, last_ms) if at > start_ms}
    world = World(log.definitions, rows)
    members: frozenset[str] = frozenset()
    arrived = 0
    for at in sorted(instants):
        if at > last_ms:
            break
        while arrived < len(events) and events[arrived].now_ms <= at:
            world.arrive(events[arrived])
            arrived += 1
        while switches and switches[0].at_ms <= at:
            world = World(log.definitions, switches.pop(0).rows)
            for event in events[:arrived]:
                world.arrive(event)
        after = world.members(at)
        for audience in sorted(after ^ members):
            yield at, profile.hex(), audience, "entered" if audience in after else "exited"
        members = after


def _rows_of(person: Person) -> dict[str, Row]:
    """The rows that a person has before the first switch, by table."""
    return {each.table: each.row for each in person.rows if each.row is not None}
