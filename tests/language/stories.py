"""Stories: definitions, events over time, and the memberships that follow, as YAML files beside this one.

Owns: reading a story, writing its project directory, its events as records, and how a change is told:
``INSTANT WHO enters|exits AUDIENCE by CAUSE``. An instant without a date is on 2024-03-01, in UTC.
Keys of a story: ``story`` its name, ``says`` the sentence (or a list) of docs/sentences.md that it pins, by words,
``audiences``, optionally ``opportune``, ``models``, ``traits`` and ``tables`` (the files of the project) and ``rows`` (CSV
by table); ``events``, each with
``at`` its timestamp, ``who`` its userId (default ann), one of ``track``, ``page``, ``screen`` with a name or ``identify``,
``group``, ``alias``, and further fields as they are in the message, or ``raw``; ``until``; ``changes``, ``refused``,
``evaluated`` (how often an audience was evaluated).
Not here: who runs them (tests.language.test_stories), what ``says`` finds (tests.language.coverage).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from ruamel.yaml import YAML

from opportune.identity import profile_id
from tests.oracle.history import Change, Tables
from tests.oracle.instants import read_instant, write_instant
from tests.oracle.reading import read_project
from tests.oracle.tree import Definition

DAY = "2024-03-01"
HERE = Path(__file__).parent
NO_STORIES = ("pending.yml",)
CALLS = {"track": "event", "page": "name", "screen": "name", "identify": None, "group": None, "alias": None}


@dataclass
class Story:
    """One story as it is written."""

    file: str
    story: str
    says: str | list[str]
    audiences: list[dict[str, object]]
    events: list[dict[str, object]]
    changes: list[str]
    opportune: dict[str, object] = field(default_factory=dict)
    models: dict[str, object] = field(default_factory=dict)
    traits: list[dict[str, object]] = field(default_factory=list)
    tables: dict[str, dict[str, object]] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)
    until: str | None = None
    refused: dict[str, int] = field(default_factory=dict)
    evaluated: dict[str, int] = field(default_factory=dict)

    def files(self) -> dict[str, object]:
        """The project, by file."""
        files: dict[str, object] = {"opportune.yml": {"name": "story", **self.opportune}}
        files["audiences/all.yml"] = self.audiences
        if self.models:
            files["events.yml"] = self.models
        if self.traits:
            files["traits/all.yml"] = self.traits
        if self.tables:
            tables = {name: {"source": f"{name}.csv", "key": "user_id", **each} for name, each in self.tables.items()}
            files["warehouse.yml"] = {"tables": tables}
        return files

    def definition(self) -> Definition:
        """The project as the reference evaluator reads it."""
        return read_project(self.files())

    def write(self, directory: Path) -> None:
        """Writes the project; JSON is YAML too."""
        for name, content in self.files().items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
        for table, text in self.rows.items():
            (directory / f"{table}.csv").write_text(text, encoding="utf-8")

    def records(self) -> list[bytes]:
        """The events as raw records in order of arrival."""
        return [_record(event) for event in self.events]

    def until_ms(self) -> int | None:
        """Where time ends, in milliseconds since the epoch."""
        return None if self.until is None else _instant_ms(self.until)

    def warehouse(self) -> Tables:
        """The rows as the reference evaluator takes them, each value of the type that the story declares."""
        return {table: dict(_rows(text, self.tables[table])) for table, text in self.rows.items()}

    def tell(self, changes: list[Change]) -> list[str]:
        """The changes in the story's words, in order of instant, who and audience."""
        names = {
            profile_id("user_id", str(event.get("who", "ann"))).hex(): str(event.get("who", "ann"))
            for event in self.events
        }
        for event in self.events:
            if "anonymousId" in event:
                value = str(event["anonymousId"])
                names[profile_id("anonymous_id", value).hex()] = f"anonymous {value}"
        for text in self.rows.values():
            for line in text.splitlines()[1:]:
                key = line.split(",")[0]
                names.setdefault(profile_id("user_id", key).hex(), key)
        names |= {profile_id("user_id", name).hex(): name for name in ("ann", "bob", "cid", "dan", "eve")}
        told = sorted((change.at, names[change.profile], change.audience, change) for change in changes)
        return [
            f"{write_instant(at)} {who} {'enters' if change.change == 'entered' else 'exits'} {audience} by {change.cause}"
            for at, who, audience, change in told
        ]

    def expected(self) -> list[str]:
        """The changes as written, each with its full instant."""
        return [f"{write_instant(_instant_ms(line.split(' ')[0]))} {line.split(' ', 1)[1]}" for line in self.changes]


def stories() -> Iterator[Story]:
    """All stories of all files, in order."""
    for path in sorted(HERE.glob("*.yml")):
        if path.name not in NO_STORIES:
            for written in YAML(typ="safe", pure=True).load(path):
                yield Story(file=path.name, **written)


def _record(event: dict[str, object]) -> bytes:
    if "raw" in event:
        return str(event["raw"]).encode()
    message = {key: value for key, value in event.items() if key not in ("at", "who", *CALLS)}
    (call,) = [call for call in CALLS if call in event]
    message |= {"type": call, "userId": event.get("who", "ann")}
    name_field = CALLS[call]
    if name_field is not None:
        message[name_field] = event[call]
    if "at" in event:
        message["timestamp"] = write_instant(_instant_ms(str(event["at"])))
    return json.dumps(message).encode()


def _instant_ms(text: str) -> int:
    instant = read_instant(text if "-" in text else f"{DAY}T{text}")
    assert instant is not None, f"{text} is not an instant"
    return instant


def _rows(text: str, table: dict[str, object]) -> Iterator[tuple[str, dict[str, str | int | Decimal | bool | None]]]:
    columns = table["columns"]
    assert isinstance(columns, dict)
    header, *lines = (line.split(",") for line in text.splitlines())
    for key, *cells in lines:
        typed = zip(header[1:], cells, strict=True)
        yield key, {column: _cell(cell, columns[column]) for column, cell in typed}


def _cell(cell: str, kind: str) -> str | int | Decimal | bool | None:
    if cell == "":
        return None
    if kind == "number":
        return Decimal(cell)
    if kind == "boolean":
        return cell == "true"
    return _instant_ms(cell) if kind == "timestamp" else cell
