"""Predicates whose operands are other values of the person (LANGUAGE.md section 3).

Owns: when such a comparison holds: the operand has to be one scalar; where one side is an instant by its schema, text on the
other side is read as one, and what is none is of another type.
Not here: predicates on constants (opportune.audiences.predicate), where the values come from (opportune.audiences.values).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from opportune.audiences.predicate import SCALARS, function
from opportune.audiences.schema import Comparison, Predicate
from opportune.event import instant_ms
from opportune.features.values import InstantValue

NOTHING_LIKE_IT: Any = {}
"""An operand of a type that no value has."""


def operands_of(predicate: Predicate) -> list[Any]:
    """The values of the person that a predicate compares with, in order."""
    return [c.operand for c in predicate.comparisons if c.value_of_person is not None]


def referring(predicate: Predicate, *, instants: bool) -> Callable[[Any, tuple[Any, ...]], bool]:
    """A predicate as a function of a value and of the values of its operands.

    Args:
        predicate: with one or more operands that are values of the person.
        instants: whether the value comes as milliseconds of an instant.
    """

    def holds(value: Any, operands: tuple[Any, ...]) -> bool:
        rest = iter(operands)
        comparisons = []
        is_instant = instants or isinstance(value, InstantValue)
        other_is = False
        for comparison in predicate.comparisons:
            if comparison.value_of_person is None:
                comparisons.append(comparison)
                continue
            operand = next(rest)
            if operand is UNSET or not (operand.__class__ in SCALARS or isinstance(operand, InstantValue)):
                return False
            other_is = other_is or isinstance(operand, InstantValue)
            compared: Any = _as_instant(operand) if is_instant else operand
            comparisons.append(Comparison(comparison.op, compared))
        if other_is and not is_instant:
            return function(Predicate(tuple(comparisons), instants=True))(value)
        return function(Predicate(tuple(comparisons)))(value)

    return holds


def _as_instant(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return instant_ms(value)
        except ValueError:
            return NOTHING_LIKE_IT
    return value if isinstance(value, InstantValue) else NOTHING_LIKE_IT
