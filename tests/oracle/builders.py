"""Short ways to write projects and messages in tests, without YAML.

Owns: defaults that do not matter to a test. Instants are milliseconds after ``DAY_0`` so that tests read as small numbers.
Not here: projects from files (opportune.audiences.loader), random ones (tests.model.strategies).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from decimal import Decimal
from pathlib import Path as Directory

from opportune.audiences.schema import (
    Audience,
    Comparison,
    Condition,
    EventCondition,
    EventModel,
    Operator,
    Path,
    Predicate,
    Scalar,
    Table,
    Where,
)
from opportune.project import Project
from opportune.settings import Settings
from tests.oracle.instants import write_instant

DAY_0 = 1_700_000_000_000
"""2023-11-14T22:13:20Z: instant 0 of the tests."""


def predicate(instants: bool = False, **comparisons: Scalar | list[Scalar] | tuple[Scalar, ...]) -> Predicate:
    """A predicate from keywords, for example ``predicate(gte=3)``; ``in_`` stands for ``in``."""
    made: list[Comparison] = []
    for name, operand in comparisons.items():
        op: Operator = "in" if name == "in_" else name  # type: ignore[assignment]  # checked by the evaluator
        made.append(Comparison(op, tuple(operand) if isinstance(operand, list) else operand))
    return Predicate(tuple(made), instants)


def where(path: str, tested: Predicate) -> Where:
    """An entry of ``where`` for a path as it is written in YAML."""
    keys = path.split(".")
    if keys[0] == "context" or keys[0] == "traits" or keys[0] == "properties":
        return Where(Path(keys[0], tuple(keys[1:])), tested)  # type: ignore[arg-type]  # one of the three, see above
    return Where(Path("properties", tuple(keys)), tested)


def happened(name: str, *tests: Where, times: Predicate | None = None, within_ms: int | None = None) -> EventCondition:
    """An event condition on a track call of this name."""
    model = EventModel(name, "track", name)
    return EventCondition(model, tests, times or predicate(gte=1), within_ms)


def project(
    audiences: Mapping[str, Condition],
    settings: Settings | None = None,
    tables: dict[str, Table] | None = None,
    *,
    start_empty: Collection[str] = (),
) -> Project:
    """A project of these audiences; those of ``start_empty`` say so."""
    made = tuple(Audience(name, audiences[name], start_empty=name in start_empty) for name in sorted(audiences))
    return Project("test", Directory(), settings or Settings(), {}, tables or {}, made)


def instant(at: int | str) -> str:
    """The text of an instant after DAY_0; a text stays as it is."""
    return at if isinstance(at, str) else write_instant(DAY_0 + at)


def track(name: str, at: int | None = None, person: object = "ann", **fields: object) -> bytes:
    """A track call with a timestamp; ``fields`` are further fields of the message, times among them as numbers."""
    return message("track", at, person, event=name, **fields)


def identify(at: int | None = None, person: object = "ann", **fields: object) -> bytes:
    """An identify call with a timestamp."""
    return message("identify", at, person, **fields)


def message(kind: str, at: int | None = None, person: object = "ann", **fields: object) -> bytes:
    """A message of a type; times (timestamp, originalTimestamp, receivedAt, sentAt) as numbers after DAY_0."""
    body: dict[str, object] = {"type": kind, "userId": person}
    if at is not None:
        body["timestamp"] = at
    body.update(fields)
    for name in ("timestamp", "originalTimestamp", "receivedAt", "sentAt"):
        given = body.get(name)
        if isinstance(given, int) and not isinstance(given, bool):
            body[name] = instant(given)
    return encode(body)


def encode(body: object) -> bytes:
    """JSON of a value; decimals keep their digits."""
    return _json(body).encode("utf-8", "surrogatepass")


def _json(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(str(key))}:{_json(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_json(each) for each in value) + "]"
    return json.dumps(value)
