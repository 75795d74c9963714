"""Values and predicates of the reference evaluator (LANGUAGE.md section 3).

Owns: numbers as decimals of nine places, what a path reaches, what one comparison and a whole predicate say.
A value is one of str, bool, Decimal, Fraction (an average), Instant, or an object or what else JSON has; what a path
reaches is a list of values: none of them is "missing", more than one comes from lists.
Operands that are values of the person are constants by now (tests.oracle.evaluator puts them in).
Not here: where values come from (tests.oracle.messages, tests.oracle.evaluator).
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import NamedTuple, TypeAlias

import re2

from opportune.audiences import schema
from tests.oracle import tree
from tests.oracle.instants import read_instant

Predicate: TypeAlias = tree.Predicate | schema.Predicate
"""The tests of the engine's predicates ask about the engine's nodes, which have the same fields."""
Comparison: TypeAlias = tree.Comparison | schema.Comparison

PLACES = 9
FOR_EVERY_ELEMENT = ("ne", "not_in")


class Instant(NamedTuple):
    """A value of the type "instant": milliseconds since the epoch."""

    ms: int


class Reached(NamedTuple):
    """A value, and whether it is an element of a list at the end of its path."""

    value: object
    element: bool


def number(value: int | Decimal) -> Decimal:
    """The number as the language sees it: nine decimal places, half even."""
    exact = Decimal(value)
    if int(exact.as_tuple().exponent) >= -PLACES:
        return exact
    if exact.adjusted() < -PLACES - 2:
        return Decimal(0)
    context = Context(prec=max(1, exact.adjusted() + PLACES + 2), rounding=ROUND_HALF_EVEN)
    return exact.quantize(Decimal(1).scaleb(-PLACES), context=context)


def reach(node: object, keys: tuple[str, ...]) -> Iterator[Reached]:
    """All values at a path: through objects by key; through a list, and at a list at the end, each element."""
    if isinstance(node, list):
        for item in node:
            for reached in reach(item, keys):
                yield Reached(reached.value, element=not keys or reached.element)
    elif keys:
        if isinstance(node, dict) and keys[0] in node:
            yield from reach(node[keys[0]], keys[1:])
    elif node is not None:
        yield Reached(node, element=False)


def holds(predicate: Predicate, reached: list[Reached]) -> bool:
    """Whether a predicate holds for what a path reached."""
    comparisons = predicate.comparisons
    exists = [c for c in comparisons if c.op == "exists"]
    if any(c.operand is not bool(reached) for c in exists):
        return False
    if not reached:
        return len(exists) == len(comparisons)
    if predicate.instants:
        reached = [Reached(_instant(r.value), r.element) for r in reached]
    every = [c for c in comparisons if c.op in FOR_EVERY_ELEMENT]
    one = [c for c in comparisons if c.op not in FOR_EVERY_ELEMENT and c.op != "exists"]
    return all(compare(r, c, predicate.instants) for c in every for r in reached) and (
        not one or any(all(compare(r, c, predicate.instants) for c in one) for r in reached)
    )


def compare(reached: Reached, comparison: Comparison, instants: bool) -> bool:
    """Whether one comparison holds for one present value; within one type, except that ne and not_in hold across."""
    value, op, operand = reached.value, comparison.op, comparison.operand
    if op in ("in", "not_in"):
        assert isinstance(operand, tuple)
        among = any(_equal(value, _typed(each, instants)) for each in operand)
        return among if op == "in" else not among
    typed = _typed(operand, instants and op in ("eq", "ne", "gt", "gte", "lt", "lte"))
    if op in ("eq", "ne"):
        return _equal(value, typed) == (op == "eq")
    if op == "contains" and reached.element:
        return _equal(value, typed)
    if op in ("gt", "gte", "lt", "lte"):
        value, typed = _alike(value, typed)
        return _kind(value) == _kind(typed) and _ordered(value, op, typed)
    return isinstance(value, str) and isinstance(typed, str) and _text(value, op, typed)


def _text(value: str, op: str, operand: str) -> bool:
    if op == "contains":
        return operand in value
    if op == "starts_with":
        return value[: len(operand)] == operand
    if op == "ends_with":
        return len(value) >= len(operand) and value[len(value) - len(operand) :] == operand
    assert op == "matches"
    return re2.search(operand, value) is not None


def _typed(operand: object, instants: bool) -> object:
    if isinstance(operand, int | Decimal) and not isinstance(operand, bool):
        return Instant(int(operand)) if instants else number(operand)
    return operand


def as_instant(value: object) -> object:
    """The instant that a value names, or the value where it names none."""
    return _instant(value)


def _instant(value: object) -> object:
    instant = read_instant(value)
    return value if instant is None else Instant(instant)


def key(value: object) -> tuple[str, object] | None:
    """What two scalars have in common iff they are the same value; None: it is no scalar."""
    kind = _kind(value)
    return None if kind == "thing" else (kind, value)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, Decimal | Fraction):
        return "number"
    if isinstance(value, str):
        return "string"
    return "instant" if isinstance(value, Instant) else "thing"


def _equal(value: object, other: object) -> bool:
    value, other = _alike(value, other)
    return _kind(value) == _kind(other) != "thing" and value == other


def _alike(value: object, other: object) -> tuple[object, object]:
    """Both as instants where one is; an average beside an exact number."""
    if isinstance(value, Instant) != isinstance(other, Instant):
        return _instant(value), _instant(other)
    if isinstance(value, Fraction) and isinstance(other, Decimal):
        return value, Fraction(other)
    if isinstance(value, Decimal) and isinstance(other, Fraction):
        return Fraction(value), other
    return value, other


def _ordered(value: object, op: str, operand: object) -> bool:
    if isinstance(value, Instant) and isinstance(operand, Instant):
        return _sign(op, (value.ms > operand.ms) - (value.ms < operand.ms))
    if isinstance(value, Decimal) and isinstance(operand, Decimal):
        return _sign(op, (value > operand) - (value < operand))
    if isinstance(value, Fraction) and isinstance(operand, Fraction):
        return _sign(op, (value > operand) - (value < operand))
    if isinstance(value, str) and isinstance(operand, str):
        return _sign(op, (value > operand) - (value < operand))
    return False


def _sign(op: str, sign: int) -> bool:
    return {"gt": sign > 0, "gte": sign >= 0, "lt": sign < 0, "lte": sign <= 0}[op]
