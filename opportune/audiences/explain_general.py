"""Why aggregates, patterns, positions and hours hold or not, and comparisons with other values of the person.

Owns: ``value`` and ``explain`` of these conditions, over what their features keep: each feature says its value at an instant
and until when at least that stays (``look`` of opportune.features); here that is put together and said.
Invariant: as in opportune.audiences.explain; the engine's generated code asks the same features the same things.
Not here: counts, traits and attributes compared with constants, combinations (opportune.audiences.explain).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any as Anything

from msgspec import UNSET

from opportune.audiences import explain_events
from opportune.audiences import predicate as predicates
from opportune.audiences.explained import Explained, Value
from opportune.audiences.operands import operands_of, referring
from opportune.audiences.plan_report import error_of
from opportune.audiences.schema import (
    AbsentCondition,
    AggregateCondition,
    AggregateValue,
    AttributeCondition,
    AttributeValue,
    DuringCondition,
    NearCondition,
    SequenceCondition,
    TraitCondition,
    TraitValue,
)
from opportune.audiences.sentences import literal, predicate, sentence, value_text
from opportune.audiences.sources import PROFILE, SESSION, Source, subject
from opportune.audiences.sources import Value as PersonValue
from opportune.event import iso_text
from opportune.features.calendar import Hours, clock_of, zone_name
from opportune.features.values import InstantValue
from opportune.profile import NEVER

if TYPE_CHECKING:
    from opportune.audiences.explain import Explainer

Compared = AggregateCondition | TraitCondition | AttributeCondition
Pattern = SequenceCondition | AbsentCondition | NearCondition


def compared_value(explainer: Explainer, condition: Compared, now_ms: int) -> Value:
    """Of a value of the person that a predicate compares with constants or with other values."""
    value, until_ms = of_person(explainer, subject(condition), now_ms)
    operands = []
    for operand in operands_of(condition.predicate):
        other, until_other_ms = of_person(explainer, operand, now_ms)
        operands.append(other)
        until_ms = min(until_ms, until_other_ms)
    if operands:
        instants = isinstance(condition, AttributeCondition) and condition.predicate.instants
        return Value(referring(condition.predicate, instants=instants)(value, tuple(operands)), until_ms)
    return Value(predicates.function(condition.predicate, parsed=True)(value), until_ms)


def compared(explainer: Explainer, condition: Compared, now_ms: int) -> Explained:
    """What a compared value is, what it is compared with, and what it would have to be."""
    value = of_person(explainer, subject(condition), now_ms)[0]
    kind = {AggregateCondition: "event", TraitCondition: "trait", AttributeCondition: "attribute"}[type(condition)]
    found = Explained(sentence(condition), compared_value(explainer, condition, now_ms).holds, kind)
    found.value = None if value is UNSET else value
    found.saw = _literal(value)
    asked = subject(condition)
    if isinstance(asked, AggregateValue):
        kind, cell = _kept(explainer, asked)
        around = _around(explainer, asked.window.kind, asked.window.timezone, now_ms)[0]
        instants = explain_events.instants_of(kind, cell, now_ms, around)
        found.instants = [iso_text(instant) for instant in instants[-explain_events.INSTANTS_SHOWN :]]
        found.saw += explain_events.aggregate_text(kind, instants, now_ms)
    _approximate(explainer, found, subject(condition))
    for operand in operands_of(condition.predicate):
        found.saw += f"; {value_text(operand)}: {_literal(of_person(explainer, operand, now_ms)[0])}"
        _approximate(explainer, found, operand)
    if not found.holds:
        found.missing = f"a value that {predicate(condition.predicate)}"
    return found


def _approximate(explainer: Explainer, found: Explained, source: PersonValue | Pattern) -> None:
    """Says so where a feature has more events of the person than are kept as they are."""
    if isinstance(source, TraitValue | AttributeValue | NearCondition):
        return
    kind, cell = _kept(explainer, source)
    if kind.approximate(cell):
        found.approximate = True
        found.saw += f" (approximate: {error_of(kind)})"


def of_person(explainer: Explainer, value: PersonValue, now_ms: int) -> tuple[Anything, int]:
    """A value of the person, UNSET where it is missing, and until when at least it stays."""
    person = explainer.person
    if isinstance(value, AggregateValue):
        around, until_ms = _around(explainer, value.window.kind, value.window.timezone, now_ms)
        seen, seen_until_ms = _look(explainer, value, around, now_ms)
        return seen, min(until_ms, seen_until_ms)
    if isinstance(value, TraitValue):
        trait = person.traits.get(value.keys[0], (0, None))[1]
        trait = predicates.walk(trait, value.keys[1:]) if value.keys[1:] else trait
        return UNSET if trait is None else trait, NEVER
    return _cell(explainer, value), NEVER


def _cell(explainer: Explainer, value: AttributeValue) -> Anything:
    row = explainer.person.rows.get(value.table)
    cell = None if row is None else row[explainer.plan.columns[value.table].index(value.column)]
    if cell is None:
        return UNSET
    return InstantValue(cell) if value.instants else cell


def _around(explainer: Explainer, kind: str, timezone: str, now_ms: int) -> tuple[Anything, int]:
    """What a window needs beside its entries: the zone of a calendar window, the sessions of a session's."""
    if kind == SESSION:
        return _kept(explainer, SESSION)[1], NEVER
    return _zone(explainer, timezone, now_ms) if kind in ("day", "week", "month") else (None, NEVER)


def _zone(explainer: Explainer, timezone: str, now_ms: int) -> tuple[str, int]:
    if timezone != PROFILE:
        return timezone, NEVER
    zone, until_ms = explainer.plan.settings.timezone, NEVER
    for value in reversed(explainer.plan.sources.zone):
        named, stays_ms = of_person(explainer, value, now_ms)
        zone, until_ms = zone_name(named, zone), min(until_ms, stays_ms)
    return zone, until_ms


def _kept(explainer: Explainer, source: Source) -> tuple[Anything, list[Anything]]:
    """The kind of a feature and what is kept of it."""
    group, feature = explainer.plan.feature(source)
    features = explainer.person.groups.get(group.number)
    return feature.kind, [] if features is None else features[feature.number]


def _look(explainer: Explainer, source: Source, around: Anything, now_ms: int) -> tuple[Anything, int]:
    kind, cell = _kept(explainer, source)
    value, until_ms = kind.look(cell, now_ms, around)
    return value, until_ms


def pattern_value(explainer: Explainer, condition: Pattern, now_ms: int) -> Value:
    """Of a sequence, an absence, a place."""
    around, until_ms = None, NEVER
    if not isinstance(condition, NearCondition):
        around, until_ms = _around(explainer, condition.window.kind, condition.window.timezone, now_ms)
    holds, holds_until_ms = _look(explainer, condition, around, now_ms)
    return Value(bool(holds), min(until_ms, holds_until_ms))


def pattern(explainer: Explainer, condition: Pattern, now_ms: int) -> Explained:
    """What was seen of a sequence, an absence, a place."""
    holds = pattern_value(explainer, condition, now_ms).holds
    kind = {SequenceCondition: "sequence", AbsentCondition: "absent", NearCondition: "near"}[type(condition)]
    found = Explained(sentence(condition), holds, kind)
    if isinstance(condition, NearCondition):
        cell = _kept(explainer, condition)[1]
        found.saw = f"the newest position is of {iso_text(cell[2])}" if cell else "no position"
    else:
        keeping, cell = _kept(explainer, condition)
        around = _around(explainer, condition.window.kind, condition.window.timezone, now_ms)[0]
        if isinstance(condition, SequenceCondition):
            found.saw = explain_events.sequence_text(keeping, condition, cell, now_ms, around)
        else:
            found.saw = explain_events.absence_text(keeping, condition, cell, now_ms, around)
    _approximate(explainer, found, condition)
    if not holds:
        found.missing = {"sequence": "the steps, in order", "absent": "that it goes on like this"}.get(
            kind, "a fresh position inside of the circle"
        )
    return found


def during_value(explainer: Explainer, condition: DuringCondition, now_ms: int) -> Value:
    """Of hours of the wall clock."""
    zone, until_ms = _zone(explainer, condition.timezone, now_ms)
    holds, holds_until_ms = Hours(frozenset(condition.days), condition.from_ms, condition.to_ms).look(now_ms, zone)
    return Value(holds, min(until_ms, holds_until_ms))


def during(explainer: Explainer, condition: DuringCondition, now_ms: int) -> Explained:
    """What the wall clock shows."""
    zone = _zone(explainer, condition.timezone, now_ms)[0]
    clock = clock_of(now_ms, zone)
    found = Explained(sentence(condition), during_value(explainer, condition, now_ms).holds, "during")
    found.saw = f"{clock:%a %H:%M:%S} in {zone}"
    if not found.holds:
        found.missing = "another time of the week"
    return found


def _literal(value: Anything) -> str:
    return "nothing" if value is UNSET else literal(value, instants=isinstance(value, InstantValue))
