"""Whether a measured job got it right: its changes against the reference evaluator's, for a sample of people.

Owns: the choice of people (seeded, not the very busiest: the evaluator's work grows with the square of a person's
events), their part of the log, and the comparison up to shortly before the log's end, where a job that was stopped
has not fired every timer.
Not here: the evaluator (tests.oracle).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import numpy as np
from confluent_kafka import Message
from pyarrow import parquet

from bench.arrivals import Change, instant_ms
from bench.events import Numbers, Traffic, person_name
from bench.kafka import STEP, read_all
from opportune.audiences.loader import load_project
from opportune.identity import profile_id
from tests.oracle import Record, live

PEOPLE: Final = 150
EVENTS_MAX: Final = 150
TAIL_MS: Final = 120_000

Found: TypeAlias = set[tuple[str, str, str, int]]
"""Profile, audience, entered or exited, and at; 0 for what the warehouse alone caused, which has no time of its own."""


@dataclass(frozen=True)
class Comparison:
    """What a comparison found: people and changes looked at, and the changes that only one side has."""

    people: int
    changes: int
    missing: list[tuple[str, str, str, int]]
    surplus: list[tuple[str, str, str, int]]

    def __str__(self) -> str:
        if not self.missing and not self.surplus:
            return f"{self.changes:,} changes of {self.people} people equal the reference evaluator's"
        first = (self.missing or self.surplus)[0]
        return f"DIFFERS from the reference evaluator: {len(self.missing)} missing, {len(self.surplus)} too many, e.g. {first}"


def compare(
    project: Path, traffic: Traffic, times_ms: Numbers, bootstrap: str, memberships: str, seed: int = 3
) -> Comparison:
    """Compares a finished job with the reference evaluator.

    Args:
        project: its directory.
        traffic: what was in its topic.
        times_ms: the time of each event.
        bootstrap: address of the broker.
        memberships: topic of its changes.
        seed: of the choice of people.
    """
    logs = _logs(traffic, times_ms, seed)
    until = int(times_ms[-1]) - TAIL_MS
    expected = _expected(project, logs, until)
    profiles = {profile_id("user_id", person_name(person)).hex() for person in logs}
    found = _found(bootstrap, memberships, profiles, until)
    return Comparison(len(logs), len(expected), sorted(expected - found), sorted(found - expected))


def _logs(traffic: Traffic, times_ms: Numbers, seed: int) -> dict[int, list[Record]]:
    """The records of a sample of people, by person; the very first event's person is among them."""
    first = int(traffic.build(0, times_ms[:1]).people[0])
    random = np.random.default_rng(seed)
    picked = {first, *random.choice(traffic.people, PEOPLE * 10, replace=False).tolist()}
    logs: dict[int, list[Record]] = {person: [] for person in picked}
    for start in range(0, len(times_ms), STEP):
        events = traffic.build(start, times_ms[start : start + STEP])
        for i in np.flatnonzero(np.isin(events.people, list(picked))).tolist():
            logs[int(events.people[i])].append(Record(int(events.times_ms[i]), events.values[i]))
    kept = [person for person, log in logs.items() if 1 < len(log) <= EVENTS_MAX and person != first]
    kept.sort(key=lambda person: -len(logs[person]))
    return {person: logs[person] for person in ([first] if len(logs[first]) <= EVENTS_MAX else []) + kept[:PEOPLE]}


def _expected(project: Path, logs: dict[int, list[Record]], until: int) -> Found:
    table = parquet.read_table(project / "people.parquet").to_pydict()
    wanted = {person_name(person) for person in logs}
    columns = [column for column in table if column != "user_id"]
    rows = {
        name: {column: table[column][i] for column in columns}
        for i, name in enumerate(table["user_id"])
        if name in wanted
    }
    records = sorted((record for log in logs.values() for record in log), key=lambda r: r.arrival_ms or 0)
    outcome = live(load_project(project), records, until + 1, {"people": rows})
    return {(c.profile, c.audience, c.change, 0 if c.cause == "attribute" else c.at) for c in outcome.changes}


def _found(bootstrap: str, memberships: str, profiles: set[str], until: int) -> Found:
    raw: list[tuple[str, bytes]] = []

    def each(message: Message) -> None:
        profile = (message.key() or b"")[:32].decode()
        value = message.value()
        if profile in profiles and value is not None:
            raw.append((profile, value))

    read_all(bootstrap, memberships, each)
    changes: Sequence[tuple[str, Change]] = [(p, msgspec.json.decode(v, type=Change)) for p, v in raw]
    found = {(p, c.audience, c.change, 0 if c.cause == "attribute" else instant_ms(c.at)) for p, c in changes}
    return {change for change in found if change[3] <= until}
