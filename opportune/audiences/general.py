"""Conditions that are more than a count or a constant: aggregates, patterns, positions, hours, operands of the person.

Owns: ``General``, which writes for such a condition the lines that set its value and a lower bound of its next change, as
``Emitter`` does for the others: what a feature says of itself now (``look3_1``), and what is made of it.
Not here: what features keep (opportune.features), combinations and counts (opportune.audiences.conditions).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from opportune.audiences import predicate as predicates
from opportune.audiences.operands import operands_of, referring
from opportune.audiences.plan import TRAITS
from opportune.audiences.schema import (
    AbsentCondition,
    AggregateCondition,
    AggregateValue,
    AttributeCondition,
    AttributeValue,
    Condition,
    DuringCondition,
    NearCondition,
    SequenceCondition,
    TraitCondition,
    TraitValue,
)
from opportune.audiences.sources import PROFILE, SESSION, Source, Value, subject
from opportune.features.calendar import Hours

if TYPE_CHECKING:
    from opportune.audiences.conditions import Emitter


def decided(leaf: Condition) -> bool:
    """Whether the value of a condition without parts is fixed for a person of whom nothing was seen, whatever the rows say."""
    if isinstance(leaf, AggregateCondition):
        return not operands_of(leaf.predicate)
    return isinstance(leaf, SequenceCondition | AbsentCondition | NearCondition)


def of_nothing(leaf: Condition) -> bool:
    """The value of such a condition for a person of whom nothing was seen."""
    if not isinstance(leaf, AggregateCondition):
        return False
    value = 0 if leaf.value.function in ("count", "sum", "distinct") else UNSET
    return predicates.function(leaf.predicate, parsed=True)(value)


class General:
    """Writes general conditions.

    Args:
        emitter: what the lines belong to.
    """

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self.plan = emitter.plan
        self.names = emitter.names

    def emit(self, condition: Condition, v: str, x: str, indent: str) -> None:
        """Writes the lines that set ``v`` and ``x``."""
        if isinstance(condition, AggregateCondition | TraitCondition | AttributeCondition):
            self._compared(condition, v, x, indent)
        elif isinstance(condition, DuringCondition):
            zone, dues = self._zone(condition.timezone, indent)
            key = (condition.days, condition.from_ms, condition.to_ms)
            hours = self.names.name("h", key, lambda: Hours(frozenset(key[0]), key[1], key[2]).look)
            self._line(f"{indent}{v}, {x} = {hours}(now, {zone})")
            self._earliest(x, dues, indent)
        else:
            assert isinstance(condition, SequenceCondition | AbsentCondition | NearCondition), condition
            window = None if isinstance(condition, NearCondition) else condition.window
            around, dues = ("None", []) if window is None else self._around(window.kind, window.timezone, indent)
            self._look(condition, around, v, x, indent)
            self._earliest(x, dues, indent)

    def _compared(
        self, condition: AggregateCondition | TraitCondition | AttributeCondition, v: str, x: str, indent: str
    ) -> None:
        """A value compared with constants, or with other values."""
        value, dues = self._value(subject(condition), indent)
        operands = []
        for operand in operands_of(condition.predicate):
            other, more = self._value(operand, indent)
            operands.append(other)
            dues += more
        predicate = condition.predicate
        if operands:
            instants = isinstance(condition, AttributeCondition) and predicate.instants
            name = self.names.name("q", (predicate, instants), lambda: referring(predicate, instants=instants))
            self._line(f"{indent}{v} = {name}({value}, ({', '.join(operands)},))")
        else:
            name = self.names.name("p", (predicate, True), lambda: predicates.function(predicate, parsed=True))
            self._line(f"{indent}{v} = {name}({value})")
        self._line(f"{indent}{x} = {dues[0] if dues else 'NEVER'}")
        self._earliest(x, dues[1:], indent)

    def _value(self, value: Value, indent: str) -> tuple[str, list[str]]:
        """A variable or expression for a value of the person, and those for when it can change by itself."""
        if isinstance(value, AggregateValue):
            around, dues = self._around(value.window.kind, value.window.timezone, indent)
            a, y = self._fresh("a"), self._fresh("y")
            self._look(value, around, a, y, indent)
            return a, [y, *dues]
        a = self._fresh("a")
        if isinstance(value, TraitValue):
            self.emitter.open(TRAITS, indent)
            trait = f"T.get({value.keys[0]!r}, no_trait)[1]"
            self._line(f"{indent}{a} = {f'walk({trait}, {value.keys[1:]!r})' if value.keys[1:] else trait}")
            self._line(f"{indent}if {a} is None: {a} = UNSET")
        else:
            self._line(f"{indent}{a} = {self._column(value)}")
        return a, []

    def _column(self, value: AttributeValue) -> str:
        tables = sorted(self.plan.columns)
        row = "row" if len(tables) == 1 else f"row[{tables.index(value.table)}]"
        cell = f"{row}[{self.plan.columns[value.table].index(value.column)}]"
        there = f"row is not None and {row} is not None and {cell} is not None"
        return f"({'InstantValue(' + cell + ')' if value.instants else cell}) if {there} else UNSET"

    def _around(self, kind: str, timezone: str, indent: str) -> tuple[str, list[str]]:
        """What a window needs beside the entries: the zone of a calendar window, the sessions of a session's."""
        if kind == SESSION:
            group, number = self.plan.place(SESSION) or (0, 0)
            self.emitter.open(group, indent)
            return f"F{group}[{number}]", []
        return self._zone(timezone, indent) if kind in ("day", "week", "month") else ("None", [])

    def _zone(self, timezone: str, indent: str) -> tuple[str, list[str]]:
        if timezone != PROFILE:
            return repr(timezone), []
        zone = repr(self.plan.settings.timezone)
        dues: list[str] = []
        for value in reversed(self.plan.sources.zone):
            named, more = self._value(value, indent)
            zone = f"zone_name({named}, {zone})"
            dues += more
        return zone, dues

    def _look(self, source: Source, around: str, v: str, x: str, indent: str) -> None:
        place = self.plan.place(source)
        assert place is not None, source
        group, number = place
        self.emitter.open(group, indent)
        self._line(f"{indent}{v}, {x} = look{group}_{number}(F{group}[{number}], now, {around})")

    def _earliest(self, x: str, dues: list[str], indent: str) -> None:
        for due in dues:
            self._line(f"{indent}if {due} < {x}: {x} = {due}")

    def _line(self, line: str) -> None:
        self.emitter.lines.append(line)

    def _fresh(self, prefix: str) -> str:
        self.emitter.fresh += 1
        return f"{prefix}{self.emitter.fresh}_"
