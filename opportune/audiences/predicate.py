"""Predicates made executable: a function for any value, and a short expression for the usual one.

Owns: what a comparison means for a value of any type, for a list, and for nothing (LANGUAGE.md section 3).
Invariant: ``inline`` and ``function`` agree on every value.
Not here: reading predicates from YAML (opportune.audiences.loader), where the value comes from (opportune.decode).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

import re2
from msgspec import UNSET

from opportune.audiences.schema import (
    AggregateValue,
    AttributeValue,
    Comparison,
    Predicate,
    Scalar,
    TraitValue,
)
from opportune.event import instant_ms

Test: TypeAlias = Callable[[Any], bool]
NUMBERS = frozenset({int, Decimal})
SCALARS = frozenset({str, int, Decimal, bool})
SYMBOLS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class Elements(list[Any]):
    """The values that a path through a list leads to; one of them that is a list itself was at the end of the path."""


def walk(value: Any, keys: tuple[str, ...]) -> Any:
    """The value at the end of a path.

    Args:
        value: where the path starts: a decoded JSON value, or UNSET.
        keys: the keys still to go.

    Returns:
        The value; ``Elements`` where the path went through a list; UNSET where there is nothing.
    """
    for position, key in enumerate(keys):
        if isinstance(value, dict):
            value = value.get(key, UNSET)
        elif isinstance(value, list):
            found = Elements()
            for element in value:
                reached = walk(element, keys[position:])
                found += reached if isinstance(reached, Elements) else [reached]
            return found
        else:
            return UNSET
    return value


def seen(value: Any) -> list[tuple[Any, bool]]:
    """The scalars and objects that a predicate looks at, and of each whether it is an element of a list at the end."""
    if isinstance(value, Elements):
        return [one for reached in value for one in seen(reached)]
    if isinstance(value, list):
        return [(one, True) for one in flat(value)]
    return [] if value is None or value is UNSET else [(value, False)]


def flat(value: Any) -> list[Any]:
    """The scalars and objects in a value: lists are opened to any depth, null and UNSET are nothing."""
    if isinstance(value, list):
        return [leaf for element in value for leaf in flat(element)]
    return [] if value is None or value is UNSET else [value]


def kind(value: Any) -> str:
    """The type within which a value is compared."""
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | Decimal) else "object"


def equal(left: Any, right: Any) -> bool:
    """Equality within one type: 1 and 1.0 are equal, 1 and true are not."""
    return kind(left) == kind(right) != "object" and bool(left == right)


def compare(comparison: Comparison) -> Callable[[Any, bool], bool]:
    """A comparison as a function of one scalar and whether it is an element of a list at the end of a path."""
    op, operand = comparison.op, comparison.operand
    if op == "exists":
        return lambda value, element: bool(operand)
    if op in ("in", "not_in"):
        assert isinstance(operand, tuple)
        return lambda value, element: any(equal(value, one) for one in operand) == (op == "in")
    assert not isinstance(operand, tuple | TraitValue | AttributeValue | AggregateValue)
    if op in ("eq", "ne"):
        return lambda value, element: equal(value, operand) == (op == "eq")
    if op in SYMBOLS:
        return _ordered(op, operand)
    return _text(op, operand)


def _ordered(op: str, operand: Scalar) -> Callable[[Any, bool], bool]:
    wanted = kind(operand)
    if wanted == "boolean":
        return lambda value, element: False
    order: dict[str, Callable[[Any], bool]] = {
        "gt": lambda value: value > operand,
        "gte": lambda value: value >= operand,
        "lt": lambda value: value < operand,
        "lte": lambda value: value <= operand,
    }
    holds = order[op]
    return lambda value, element: kind(value) == wanted and holds(value)


def _text(op: str, operand: Scalar) -> Callable[[Any, bool], bool]:
    if op == "contains":
        return lambda value, element: (
            equal(value, operand)
            if element
            else isinstance(value, str) and isinstance(operand, str) and operand in value
        )
    if not isinstance(operand, str):
        return lambda value, element: False
    if op == "starts_with":
        return lambda value, element: isinstance(value, str) and value.startswith(operand)
    if op == "ends_with":
        return lambda value, element: isinstance(value, str) and value.endswith(operand)
    search = re2.compile(operand).search
    return lambda value, element: isinstance(value, str) and search(value) is not None


def function(predicate: Predicate, *, parsed: bool = False) -> Test:
    """The predicate as a function of any value.

    Args:
        predicate: what to test.
        parsed: instants come as milliseconds already (columns of a table), not as ISO text.

    Returns:
        A function of a decoded JSON value, ``Elements`` or UNSET.
    """
    read = predicate.instants and not parsed
    negative = [compare(c) for c in predicate.comparisons if c.op in ("ne", "not_in")]
    positive = [compare(c) for c in predicate.comparisons if c.op not in ("ne", "not_in")]
    missing = all(c.op == "exists" and c.operand is False for c in predicate.comparisons)

    scalar = [*negative, *positive]

    def holds(value: Any) -> bool:
        if not read and value.__class__ in SCALARS:
            return all(test(value, False) for test in scalar)
        values = seen(value)
        if not values:
            return missing
        if read:
            values = [(_instant(one), element) for one, element in values]
        return all(test(one, element) for test in negative for one, element in values) and (
            not positive or any(all(test(one, element) for test in positive) for one, element in values)
        )

    return holds


def _instant(value: Any) -> Any:
    """An instant's text as milliseconds; anything else becomes a value of no comparable type."""
    if isinstance(value, str):
        try:
            return instant_ms(value)
        except ValueError:
            return {}
    return {}


def inline(predicate: Predicate, variable: str, name: str) -> str:
    """The predicate as a Python expression.

    Args:
        predicate: what to test.
        variable: the local variable that holds the value.
        name: what the predicate's function is called where the expression runs.

    Returns:
        An expression that is fast for the usual type of value and calls the function for any other.
    """
    call = f"{name}({variable})"
    if predicate.instants:
        return call
    fast = [_fast(comparison, variable) for comparison in predicate.comparisons]
    kinds = {one[0] for one in fast if one is not None}
    if None in fast or len(kinds) != 1:
        return call
    tests = " and ".join(one[1] for one in fast if one is not None)
    if "string" in kinds:
        return f"({tests} if {variable}.__class__ is str_class else {call})"
    return f"({tests} if {variable}.__class__ in NUMBERS else {call})"


def _fast(comparison: Comparison, variable: str) -> tuple[str, str] | None:
    """The type of value for which a comparison is one expression, and the expression; None where it is not that simple."""
    op, operand = comparison.op, comparison.operand
    if isinstance(operand, tuple):
        kinds = {kind(one) for one in operand}
        if kinds == {"string"} or (kinds == {"number"} and all(isinstance(one, int) for one in operand)):
            values = ", ".join(ascii(one) for one in operand)
            return kinds.pop(), f"{variable} {'in' if op == 'in' else 'not in'} {{{values}}}"
        return None
    symbol = {"eq": "==", "ne": "!=", **SYMBOLS}.get(op)
    if isinstance(operand, str):
        text = ascii(operand)
        if op == "contains":
            return "string", f"{text} in {variable}"
        if op in ("starts_with", "ends_with"):
            return "string", f"{variable}.{op.replace('_', '')}({text})"
        return None if symbol is None else ("string", f"{variable} {symbol} {text}")
    if isinstance(operand, bool) or symbol is None:
        return None
    literal = repr(operand) if isinstance(operand, int) else f"Decimal({str(operand)!r})"
    return "number", f"{variable} {symbol} {literal}"
