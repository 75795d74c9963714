"""Conditions as sentences, for explain and for whoever reads a definition aloud.

Owns: the words. A sentence says what the condition asks, in the order in which a person would: subject, comparison, window.
Not here: whether it holds and why (opportune.audiences.explain).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from opportune.audiences.durations import duration_text
from opportune.audiences.schema import (
    AbsentCondition,
    AggregateCondition,
    AggregateValue,
    All,
    Any,
    AttributeCondition,
    AttributeValue,
    AudienceCondition,
    Comparison,
    Condition,
    DuringCondition,
    EventCondition,
    NearCondition,
    Path,
    Predicate,
    Scalar,
    SequenceCondition,
    Step,
    TraitCondition,
    TraitValue,
    Where,
    Window,
)
from opportune.audiences.steps import steps
from opportune.event import iso_text

WORDS = {
    "eq": "is",
    "ne": "is not",
    "gt": "is greater than",
    "gte": "is at least",
    "lt": "is less than",
    "lte": "is at most",
    "in": "is one of",
    "not_in": "is none of",
    "contains": "contains",
    "starts_with": "starts with",
    "ends_with": "ends with",
    "matches": "matches",
}
UNITS = {"day": "today", "week": "this week", "month": "this month", "session": "in this session", "ever": "ever"}
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTE_MS = 60_000
COUNTS = {"eq": "exactly", "gte": "at least", "gt": "more than", "lte": "at most", "lt": "fewer than", "ne": "not"}


def sentence(condition: Condition) -> str:
    """What a condition asks; of ``all``, ``any`` and ``none`` only how its parts are combined."""
    if isinstance(condition, EventCondition):
        return _event(condition)
    if isinstance(condition, TraitCondition):
        return f"the trait {'.'.join(condition.keys)} {predicate(condition.predicate)}"
    if isinstance(condition, AttributeCondition):
        return f"the attribute {condition.table}.{condition.column} {predicate(condition.predicate)}"
    if isinstance(condition, AudienceCondition):
        return f"a member of {condition.name}"
    if isinstance(condition, AggregateCondition):
        return f"{value_text(condition.value)} {predicate(condition.predicate)}"
    if isinstance(condition, SequenceCondition | AbsentCondition | NearCondition | DuringCondition):
        return _pattern(condition)
    if isinstance(condition, All):
        return "all of these"
    return "any of these" if isinstance(condition, Any) else "none of these"


def value_text(value: AggregateValue | TraitValue | AttributeValue) -> str:
    """A value of the person: ``the sum of total of Order Completed in the last 30 days``."""
    if isinstance(value, TraitValue):
        return f"the trait {'.'.join(value.keys)}"
    if isinstance(value, AttributeValue):
        return f"the attribute {value.table}.{value.column}"
    of = f" of {path_text(value.path)}" if value.path is not None else ""
    return f"the {value.function}{of} of {_events(value.model.name, value.where)} {window_text(value.window)}"


def window_text(asked: Window) -> str:
    """A window: ``in the last 30 days``, ``this week (Europe/Paris)``."""
    if asked.kind == "duration":
        return window(asked.ms)
    zone = f" ({_zone(asked.timezone)})" if asked.kind in ("day", "week", "month") else ""
    return f"{UNITS[asked.kind]}{zone}"


def _zone(timezone: str) -> str:
    return "in the person's zone" if timezone == "profile" else timezone


def _events(name: str, where: Sequence[Where]) -> str:
    return f"{name} where {where_text(where)}" if where else name


def _by(step: Step) -> str:
    return "" if step.by is None else f" of the same {path_text(step.by)}"


def _pattern(condition: SequenceCondition | AbsentCondition | NearCondition | DuringCondition) -> str:
    if isinstance(condition, NearCondition):
        place = f"{condition.lat:g}, {condition.lon:g}"
        fresh = duration_text(condition.fresh_ms)
        event = _events(condition.model.name, condition.where)
        return f"within {condition.radius_m:g} m of {place} by {event} in the last {fresh}"
    if isinstance(condition, DuringCondition):
        days = "every day" if len(condition.days) == len(DAYS) else ", ".join(DAYS[day] for day in condition.days)
        return f"{_clock(condition.from_ms)} to {_clock(condition.to_ms)}, {days} ({_zone(condition.timezone)})"
    if isinstance(condition, AbsentCondition):
        absent, after = condition.absent, condition.after
        return (
            f"no {_events(absent.model.name, absent.where)}{_by(absent)} for {duration_text(condition.for_ms)} after "
            f"{_events(after.model.name, after.where)} {window_text(condition.window)}"
        )
    steps_text = ", then ".join(_events(step.model.name, step.where) for step in condition.steps)
    more = "" if condition.gap_ms == 0 else f", {duration_text(condition.gap_ms)} or more apart"
    more += "" if condition.span_ms is None else f", all in less than {duration_text(condition.span_ms)}"
    return f"{steps_text}{_by(condition.steps[0])}{more}, {window_text(condition.window)}"


def _clock(of_day_ms: int) -> str:
    return f"{of_day_ms // MINUTE_MS // 60:02}:{of_day_ms // MINUTE_MS % 60:02}"


def window(within_ms: int | None) -> str:
    """How far back a condition looks."""
    return "ever" if within_ms is None else f"in the last {duration_text(within_ms)}"


def times(asked: Predicate) -> str:
    """How often: ``at least 3 times``, ``once or more``."""
    table = steps(asked)
    if table.starts == (0, 1) and table.truths == (False, True):
        return "at least once"
    if table.starts == (0, 1) and table.truths == (True, False):
        return "never"
    parts = [_count(comparison) for comparison in asked.comparisons]
    return f"{' and '.join(parts)} time{'' if parts == ['exactly 1'] else 's'}"


def predicate(asked: Predicate) -> str:
    """What a predicate asks of a value: ``is at least 100 and is less than 500``."""
    return " and ".join(_comparison(comparison, instants=asked.instants) for comparison in asked.comparisons)


def literal(value: object, *, instants: bool = False) -> str:
    """A value as people read it; texts in quotes where they could be taken for something else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and instants:
        return iso_text(value)
    if isinstance(value, int | Decimal):
        digits = format(value, "f") if isinstance(value, Decimal) else str(value)
        return digits.rstrip("0").rstrip(".") if "." in digits else digits
    if isinstance(value, str):
        plain = value.replace(" ", "").replace("-", "").replace("_", "").isalpha()
        return value if plain and value not in ("true", "false", "null") else f'"{value}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(literal(each, instants=instants) for each in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {literal(each)}" for key, each in value.items()) + "}"
    return "nothing"


def path_text(path: Path) -> str:
    """A path as a definition writes it."""
    keys = ".".join(path.keys)
    return keys if path.root == "properties" else f"{path.root}.{keys}"


def _event(condition: EventCondition) -> str:
    words = [condition.model.name]
    if condition.where:
        words.append(f"where {where_text(condition.where)}")
    return f"{' '.join(words)}, {times(condition.times)} {window(condition.within_ms)}"


def where_text(where: Sequence[Where]) -> str:
    """What an event must satisfy: ``total is at least 100 and coupon is there``."""
    return " and ".join(f"{path_text(each.path)} {predicate(each.predicate)}" for each in where)


def _count(comparison: Comparison) -> str:
    operand = comparison.operand
    if isinstance(operand, tuple):
        listed = " or ".join(literal(each) for each in operand)
        return listed if comparison.op == "in" else f"not {listed}"
    return f"{COUNTS.get(comparison.op, WORDS.get(comparison.op, comparison.op))} {literal(operand)}"


def _comparison(comparison: Comparison, *, instants: bool) -> str:
    if comparison.op == "exists":
        return "is there" if comparison.operand else "is not there"
    operand = comparison.operand
    if isinstance(operand, tuple):
        listed: Sequence[Scalar] = operand
        return f"{WORDS[comparison.op]} {', '.join(literal(each, instants=instants) for each in listed)}"
    if comparison.value_of_person is not None:
        return f"{WORDS[comparison.op]} {value_text(comparison.value_of_person)}"
    return f"{WORDS[comparison.op]} {literal(operand, instants=instants)}"
