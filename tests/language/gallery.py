"""Stories of an example project, as the reference evaluator plays them.

Owns: reading stories/*.yml (docs/testing-audiences.md) without the engine, as far as the gallery uses them: rows with an event, a
screen or an identify call, rows that only look, warehouse rows before the first event; what each row expects, and what
of it does not hold.
Invariant: a key that is not known here is an error, never passed over.
Not here: who runs them (tests.language.test_gallery).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from opportune.identity import profile_id
from tests.oracle.builders import encode
from tests.oracle.durations import duration_ms
from tests.oracle.history import Change, Tables
from tests.oracle.instants import read_instant, write_instant
from tests.oracle.reading import documents

START = "2026-03-02T00:00:00Z"
EXPECTATIONS = ("in", "out", "entered", "exited", "members")
CALLS = {"event": "event", "screen": "name", "identify": None}


@dataclass(frozen=True)
class Expected:
    """What must be true of an audience when an instant is over; people by the name that the story calls them."""

    now_ms: int
    kind: str
    audience: str
    people: tuple[str, ...]


@dataclass(frozen=True)
class Played:
    """One story: its records in order of arrival, what it expects, and where it ends."""

    name: str
    records: tuple[bytes, ...]
    expected: tuple[Expected, ...]
    end_ms: int
    rows: dict[str, list[dict[str, Any]]]

    def tables(self, names: list[str]) -> Tables:
        """The rows by table and key; tables that the story does not name are empty."""
        return {table: {row["user_id"]: _row(row) for row in self.rows.get(table, [])} for table in names}

    def failures(self, changes: list[Change]) -> list[str]:
        """What does not hold of these changes."""
        return [f"{write_instant(each.now_ms)} {each}" for each in self.expected if not _is_met(each, changes)]


def stories(project: Path) -> Iterator[Played]:
    """The stories of a project."""
    for path in sorted((project / "stories").glob("*.yml")):
        for document in documents(path):
            for said in document if isinstance(document, list) else [document]:
                yield _played(said)


def _played(said: dict[str, Any]) -> Played:
    assert set(said) <= {"story", "description", "person", "warehouse", "timeline"}, f"unknown keys in {said['story']}"
    now_ms = read_instant(START)
    assert now_ms is not None
    records, expected = [], []
    for row in said["timeline"]:
        assert set(row) <= {"at", "person", "properties", *CALLS, *EXPECTATIONS}, f"unknown keys in {row}"
        now_ms = _at(str(row.get("at", "+0")), now_ms)
        person = row.get("person", said.get("person"))
        calls = [call for call in CALLS if call in row]
        if calls:
            records.append(_record(row, calls[0], person, now_ms))
        for kind in EXPECTATIONS:
            expected += [Expected(now_ms, kind, *each) for each in _expectations(row.get(kind, {}), person)]
    return Played(said["story"], tuple(records), tuple(expected), now_ms, said.get("warehouse", {}))


def _at(text: str, now_ms: int) -> int:
    if text.startswith("+"):
        return now_ms + (0 if text == "+0" else duration_ms(text[1:]))
    at_ms = read_instant(f"{write_instant(now_ms)[:10]}T{text}" if re.match(r"\d\d:", text) else text)
    assert at_ms is not None, f"{text} is no instant"
    assert at_ms >= now_ms, f"{text} is over"
    return at_ms


def _record(row: dict[str, Any], call: str, person: str, now_ms: int) -> bytes:
    kind = "track" if call == "event" else call
    body: dict[str, Any] = {"type": kind, "userId": person, "timestamp": write_instant(now_ms)}
    name_field = CALLS[call]
    if name_field is None:
        body["traits"] = row[call]
    else:
        body[name_field] = row[call]
    return encode(body | {"properties": row.get("properties", {})})


def _expectations(said: Any, person: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    if not isinstance(said, dict):
        said = dict.fromkeys([said] if isinstance(said, str) else said, person)
    for audience, people in said.items():
        yield audience, (people,) if isinstance(people, str) else tuple(people)


def _is_met(expected: Expected, changes: list[Change]) -> bool:
    asked = {profile_id("user_id", person).hex() for person in expected.people}
    of_audience = [each for each in changes if each.audience == expected.audience]
    if expected.kind in ("entered", "exited"):
        now = {each.profile for each in of_audience if each.at == expected.now_ms and each.change == expected.kind}
        return asked <= now
    inside: set[str] = set()
    for change in of_audience:
        if change.at <= expected.now_ms:
            (inside.add if change.change == "entered" else inside.discard)(change.profile)
    if expected.kind == "members":
        return inside == asked
    return asked <= inside if expected.kind == "in" else not asked & inside


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        column: Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for column, value in row.items()
        if column != "user_id"
    }
