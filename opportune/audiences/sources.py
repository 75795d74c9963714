"""What a condition reads: the values of a person that it depends on.

Owns: from a condition without parts to its sources. A source is what can change it: the events of a count, of an aggregate or
of a pattern; a trait; a column; the sessions; the clock.
Not here: what is kept of a source (opportune.audiences.plan), how it is read (opportune.audiences.conditions).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from opportune.audiences.operands import operands_of
from opportune.audiences.schema import (
    AbsentCondition,
    AggregateCondition,
    AggregateValue,
    AttributeCondition,
    AttributeValue,
    AudienceCondition,
    Condition,
    DuringCondition,
    EventCondition,
    NearCondition,
    SequenceCondition,
    TraitCondition,
    TraitValue,
)
from opportune.project import Project

SESSION: Literal["session"] = "session"
"""The sessions of a person: events of any kind."""
CLOCK: Literal["clock"] = "clock"
"""The wall clock, without any event."""
PROFILE = "profile"
"""The zone that a value of the person names."""

Pattern: TypeAlias = SequenceCondition | AbsentCondition
Source: TypeAlias = (
    EventCondition
    | AggregateValue
    | NearCondition
    | Pattern
    | TraitValue
    | AttributeValue
    | Literal["session", "clock"]
)
Value: TypeAlias = AggregateValue | TraitValue | AttributeValue


class Sources:
    """The sources of a project's conditions.

    Args:
        project: a valid project.

    Attributes:
        zone: the values that may name a person's zone, the first that does holds.
    """

    def __init__(self, project: Project) -> None:
        computed = {trait.name: trait.value for trait in project.computed}
        trait = computed.get("timezone", TraitValue(("timezone",)))
        column = project.timezone_column
        self.zone: tuple[Value, ...] = (trait,) if column is None else (trait, column)

    def of(self, leaf: Condition) -> Iterator[Source]:
        """The sources of a condition without parts."""
        if isinstance(leaf, EventCondition | NearCondition):
            yield leaf
        elif isinstance(leaf, AggregateCondition | TraitCondition | AttributeCondition):
            yield from self.of_value(subject(leaf))
            for operand in operands_of(leaf.predicate):
                yield from self.of_value(operand)
        elif isinstance(leaf, SequenceCondition | AbsentCondition):
            yield leaf
            yield from self._of_window(leaf.window.kind, leaf.window.timezone)
        elif isinstance(leaf, DuringCondition):
            yield CLOCK
            yield from self._of_window("during", leaf.timezone)
        else:
            assert isinstance(leaf, AudienceCondition), leaf

    def of_value(self, value: Value) -> Iterator[Source]:
        """The sources of a value of the person."""
        yield value
        if isinstance(value, AggregateValue):
            yield from self._of_window(value.window.kind, value.window.timezone)

    def _of_window(self, kind: str, timezone: str) -> Iterator[Source]:
        if kind == SESSION:
            yield SESSION
        elif timezone == PROFILE:
            for value in self.zone:
                yield from self.of_value(value)


def subject(leaf: AggregateCondition | TraitCondition | AttributeCondition) -> Value:
    """The value that a predicate is about."""
    if isinstance(leaf, AggregateCondition):
        return leaf.value
    if isinstance(leaf, TraitCondition):
        return TraitValue(leaf.keys)
    return AttributeValue(leaf.table, leaf.column, leaf.predicate.instants)


def general(leaf: Condition) -> bool:
    """Whether a condition without parts is more than a count, a value compared with constants, or an audience."""
    if isinstance(leaf, TraitCondition | AttributeCondition):
        return bool(operands_of(leaf.predicate))
    return not isinstance(leaf, EventCondition | AudienceCondition)
