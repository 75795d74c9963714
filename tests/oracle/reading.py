"""From the YAML of a project to the reference evaluator's tree, without the engine's readers.

Owns: what each key of LANGUAGE.md sections 2, 3 and 7 stands for. Definitions of tests are right: what is wrong in one
is a ``KeyError``, ``ValueError`` or ``AssertionError`` here, and an error with a position in ``opportune check``.
Not here: predicates (tests.oracle.reading_predicates), what the tree means (tests.oracle.evaluator).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path as Directory
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor

from tests.oracle.durations import distance_m, duration_ms
from tests.oracle.reading_predicates import path_of, read_predicate
from tests.oracle.tree import (
    Absent,
    Aggregate,
    All,
    AnyOf,
    Attribute,
    Condition,
    Definition,
    During,
    Event,
    Holds,
    Member,
    Model,
    Near,
    Neither,
    Path,
    Predicate,
    Sequence,
    Trait,
    Value,
    Where,
    Window,
)

Said: TypeAlias = Any
"""What stands in a YAML file: text, int, float, Decimal, bool, None, lists and mappings of them."""
FUNCTIONS = ("sum", "avg", "min", "max", "distinct", "first", "last")
CALENDAR = ("day", "week", "month")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
COMBINED: dict[str, type[All] | type[AnyOf] | type[Neither]] = {"all": All, "any": AnyOf, "none": Neither}


class _Core(SafeConstructor):
    """YAML 1.2's core: dates are texts, and numbers keep their digits."""


_Core.add_constructor("tag:yaml.org,2002:timestamp", lambda self, node: node.value)
_Core.add_constructor("tag:yaml.org,2002:float", lambda self, node: Decimal(node.value))


def documents(path: Directory) -> list[Said]:
    """The documents of a YAML file."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Core
    return list(yaml.load_all(path))


def read_directory(directory: Directory) -> Definition:
    """The project in a directory."""
    files = {}
    for path in sorted(each for each in directory.rglob("*.yml") if "stories" not in each.parts):
        texts = documents(path)
        files[str(path.relative_to(directory))] = texts if len(texts) > 1 else texts[0]
    return read_project(files)


def read_project(files: Mapping[str, Said]) -> Definition:
    """The project of these files, by path from its directory."""
    settings = files.get("opportune.yml", {})
    tables = files.get("warehouse.yml", {}).get("tables", {})
    reader = Reader(settings.get("timezone", "UTC"), tables)
    for name, said in files.get("events.yml", {}).items():
        reader.declare(name, said)
    computed = {said["name"]: reader.computed(said) for said in _each(files, "traits/")}
    audiences = {said["name"]: reader.condition(said["when"]) for said in _each(files, "audiences/")}
    return Definition(
        audiences=audiences,
        computed=computed,
        namespaces={name: table.get("namespace", "user_id") for name, table in tables.items()},
        timezone_column=reader.timezone_column(),
        timezone=reader.timezone,
        session_gap_ms=duration_ms(settings.get("session", {}).get("gap", "30 minutes")),
        lateness_ms=duration_ms(settings.get("clock", {}).get("lateness", "24 hours")),
        dedupe_ms=duration_ms(settings.get("dedupe", {}).get("period", "24 hours")),
        event_bytes_max=settings.get("event_bytes_max", 1 << 20),
    )


def _each(files: Mapping[str, Said], room: str) -> list[Said]:
    """The entries of all files of a room: one a file, a list of them, or several documents."""
    found: list[Said] = []
    for path in sorted(files):
        if path.startswith(room) and files[path] is not None:
            for said in files[path] if isinstance(files[path], list) else [files[path]]:
                found += said if isinstance(said, list) else [said]
    return found


@dataclass
class Reader:
    """Reads conditions against models and tables.

    Args:
        timezone: the project's zone.
        tables: what warehouse.yml says under ``tables``.
    """

    timezone: str
    tables: Mapping[str, Said]
    models: dict[str, Model] = field(default_factory=dict)
    properties: dict[str, dict[str, Path]] = field(default_factory=dict)

    def declare(self, name: str, said: Said) -> None:
        """An event model."""
        declared = {}
        for each, kind in (said.get("properties") or {}).items():
            path, type_ = (kind["path"], kind["type"]) if isinstance(kind, dict) else (each, kind)
            declared[each] = path_of(path, type_ == "timestamp")
        self.properties[name] = declared
        kind = said.get("type", "track")
        raw_name = said.get("name", name if kind == "track" else None)
        self.models[name] = Model(kind, raw_name, self.where(name, said.get("where", {})))

    def condition(self, said: Said) -> Condition:
        """A condition, or a list of them, or several combinations in one mapping."""
        if isinstance(said, list):
            return All(tuple(self.condition(each) for each in said))
        combined = [COMBINED[key](tuple(map(self.condition, said[key]))) for key in COMBINED if key in said]
        if combined:
            assert len(combined) == len(said), f"{said} has more than combinations"
            return combined[0] if len(combined) == 1 else All(tuple(combined))
        for key in ("sequence", "absent", "near", "during", "audience"):
            if key in said:
                return getattr(self, f"_{key}")(said)  # type: ignore[no-any-return]  # one of the methods below
        value = self.value(said)
        if isinstance(value, Aggregate) and value.function == "count":
            return Holds(value, self.predicate(said.get("times", ">= 1"), instants=False))
        instants = isinstance(value, Attribute) and value.instants
        if isinstance(value, Aggregate) and value.path is not None and value.function in ("first", "last"):
            instants = value.path.instants
        return Holds(value, self.predicate(said["is"], instants))

    def computed(self, said: Said) -> Aggregate:
        """A computed trait."""
        return self.aggregate({key: value for key, value in said.items() if key not in ("name", "count")})

    def value(self, said: Said) -> Value:
        """The value of the person that a condition or an operand is about."""
        if "trait" in said:
            return Trait(tuple(said["trait"].split(".")))
        return self.attribute(said["attribute"]) if "attribute" in said else self.aggregate(said)

    def attribute(self, name: str) -> Attribute:
        """``table.column``, or ``column`` where only one table has it."""
        table, _, column = name.rpartition(".")
        if not table:
            (table,) = [each for each, said in self.tables.items() if column in said.get("columns", {})]
        return Attribute(table, column, self.tables[table]["columns"][column] == "timestamp")

    def timezone_column(self) -> Attribute | None:
        """The column ``timezone``, if one table alone has it."""
        having = [name for name, said in self.tables.items() if "timezone" in said.get("columns", {})]
        return Attribute(having[0], "timezone") if len(having) == 1 else None

    def aggregate(self, said: Said) -> Aggregate:
        """An aggregate; without a function it is a count."""
        known = ("event", "where", "times", "is", "within", "timezone", *FUNCTIONS)
        assert set(said) <= set(known), f"{said} has a key that events do not have"
        functions = [each for each in FUNCTIONS if each in said]
        assert len(functions) <= 1, f"{said} has several functions"
        path = self.path(said["event"], said[functions[0]]) if functions else None
        return Aggregate(self.event(said), functions[0] if functions else "count", path, self.window(said))

    def event(self, said: Said) -> Event:
        """The events of a name, with its ``where``."""
        name = said["event"]
        model = self.models.get(name) or Model("track", name)
        return Event(model, self.where(name, said.get("where", {})))

    def where(self, name: str, said: Said) -> tuple[Where, ...]:
        """What must hold of an event of a name."""
        entries = []
        for text, predicate in said.items():
            path = self.path(name, text)
            entries.append(Where(path, self.predicate(predicate, path.instants)))
        return tuple(entries)

    def path(self, name: str, text: str) -> Path:
        """A property of an event: a declared one, else a path; a path that is declared has that type."""
        declared = self.properties.get(name, {})
        if text in declared:
            return declared[text]
        path = path_of(text)
        return next((each for each in declared.values() if (each.root, each.keys) == (path.root, path.keys)), path)

    def predicate(self, said: Said, instants: bool) -> Predicate:
        """A predicate whose operands may be values of the person."""
        return read_predicate(said, instants, self.value)

    def window(self, said: Said) -> Window:
        """``within``, with its zone."""
        text = said.get("within", "ever")
        if text in CALENDAR:
            return Window(text, 0, said.get("timezone", self.timezone))
        assert "timezone" not in said, f"{said} has a zone beside a window that has none"
        return Window(text) if text in ("ever", "session") else Window("duration", duration_ms(text))

    def _by(self, said: Said, names: list[str]) -> tuple[Path, ...]:
        return tuple(self.path(name, said["by"]) for name in names) if "by" in said else ()

    def _sequence(self, said: Said) -> Sequence:
        steps, window = said["sequence"], self.window(said)
        assert "by" not in said or window.kind == "duration", "by needs a within that is a duration"
        span, gap = (duration_ms(said[key]) if key in said else None for key in ("span", "gap"))
        by = self._by(said, [step["event"] for step in steps])
        return Sequence(tuple(map(self.event, steps)), by, window, span, gap)

    def _absent(self, said: Said) -> Absent:
        missing, after, window = said["absent"], said["after"], self.window(said)
        assert "by" not in said or window.kind == "duration", "by needs a within that is a duration"
        for_ms = duration_ms(said["for"])
        assert window.kind != "duration" or window.ms > for_ms, "within is longer than for"
        by = self._by(said, [missing["event"], after["event"]])
        return Absent(self.event(missing), self.event(after), for_ms, by, window)

    def _near(self, said: Said) -> Near:
        place, radius_m = said["near"], distance_m(said["radius"])
        leave_m = distance_m(said["leave"]) if "leave" in said else 1.25 * radius_m
        return Near(
            self.event(said), float(place["lat"]), float(place["lon"]), radius_m, leave_m, duration_ms(said["fresh"])
        )

    def _during(self, said: Said) -> During:
        hours = said["during"]
        days = frozenset(DAYS.index(day) for day in hours.get("days", DAYS))
        from_ms, to_ms = _clock_ms(hours.get("from", "00:00")), _clock_ms(hours.get("to", "24:00"))
        assert from_ms != to_ms, "from and to are equal"
        return During(days, from_ms, to_ms, hours.get("timezone", self.timezone))

    def _audience(self, said: Said) -> Member:
        return Member(said["audience"])


def _clock_ms(text: str) -> int:
    hours, minutes = text.split(":")
    return (int(hours) * 60 + int(minutes)) * 60_000
