"""A condition as a sentence, for people who look at the demo.

Owns: the wording. Not here: why a particular person is in or out (opportune.audiences), what a condition means
(docs/language.md).
"""

from __future__ import annotations

from collections.abc import Callable

from opportune.audiences.schema import (
    AggregateValue,
    All,
    Any,
    AttributeCondition,
    AttributeValue,
    AudienceCondition,
    Comparison,
    Condition,
    EventCondition,
    Not,
    Predicate,
    Scalar,
    TraitCondition,
    TraitValue,
)
from opportune.audiences.sentences import sentence, value_text
from opportune.event import iso_text

_SYMBOLS = {"eq": "=", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_UNITS = ((86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second"), (1, "millisecond"))


def words(condition: Condition) -> str:
    """The condition as one line of text."""
    if isinstance(condition, EventCondition):
        where = ", ".join(f"{'.'.join(entry.path.keys)} {_predicate(entry.predicate)}" for entry in condition.where)
        window = "" if condition.within_ms is None else f" in {duration(condition.within_ms)}"
        return f"{_times(condition.times)}{condition.model.name}{f' ({where})' if where else ''}{window}"
    if isinstance(condition, TraitCondition):
        return f"{'.'.join(condition.keys)} {_predicate(condition.predicate)}"
    if isinstance(condition, AttributeCondition):
        return f"{condition.column} {_predicate(condition.predicate)}"
    if isinstance(condition, AudienceCondition):
        return f"in {condition.name}"
    if not isinstance(condition, All | Any | Not):
        return sentence(condition)
    parts = [_nested(part, condition) for part in condition.conditions]
    if isinstance(condition, Not):
        return "not " + " nor ".join(parts)
    return (" and " if isinstance(condition, All) else " or ").join(parts)


def duration(length_ms: int) -> str:
    """A duration in the greatest unit that divides it: ``10 minutes``."""
    size, name = next(unit for unit in _UNITS if length_ms % unit[0] == 0)
    count = length_ms // size
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def _nested(condition: Condition, outer: All | Any | Not) -> str:
    """A part of a condition, in parentheses where it would read differently without them."""
    text = words(condition)
    combined = isinstance(condition, All | Any | Not) and len(condition.conditions) > 1
    same = isinstance(condition, All | Any) and type(condition) is type(outer)
    return f"({text})" if combined and not same else text


def _times(times: Predicate) -> str:
    """``>= 1`` goes without saying."""
    if times.comparisons == (Comparison("gte", 1),):
        return ""
    return f"{_predicate(times)} x "


def _predicate(predicate: Predicate) -> str:
    show = _instant if predicate.instants else _scalar
    return " and ".join(_comparison(comparison, show) for comparison in predicate.comparisons)


def _comparison(comparison: Comparison, show: Callable[[Scalar], str]) -> str:
    operand = comparison.operand
    if comparison.op == "exists":
        return "is set" if operand else "is not set"
    if isinstance(operand, tuple):
        name = {"in": "one of", "not_in": "none of"}.get(comparison.op, comparison.op)
        return f"{name} {', '.join(show(value) for value in operand)}"
    name = _SYMBOLS.get(comparison.op, comparison.op.replace("_", " "))
    other = comparison.value_of_person
    if other is not None:
        return f"{name} {value_text(other)}"
    assert not isinstance(operand, TraitValue | AttributeValue | AggregateValue), "these are values of the person"
    return f"{name} {show(operand)}"


def _scalar(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _instant(value: Scalar) -> str:
    """Milliseconds since the epoch as a date, with the time of day where it is not midnight."""
    assert isinstance(value, int), "the loader has made instants of these operands"
    return iso_text(value).removesuffix("T00:00:00.000Z")
