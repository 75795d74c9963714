"""Predicates that can never hold, or always do.

Owns: the judgement over the comparisons of one predicate. It is sure where it says something; it says nothing where it
does not know. Invariant: comparing is within one type, and true is not 1, as docs/language.md says.
Not here: contradictions between conditions (opportune.audiences.check).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, cast

from opportune.audiences.schema import Comparison, Scalar

_ORDERING = frozenset(("gt", "gte", "lt", "lte"))
_Bound = tuple[Scalar, bool]


def verdict(comparisons: Sequence[Comparison], *, count: bool) -> Literal["never", "always"] | None:
    """Whether no value, or every value, satisfies all comparisons; None where it depends or is not known.

    Args:
        comparisons: all of them are about one value.
        count: whether that value is a whole number from 0 on, which is always there.
    """
    if _missing_is_asked(comparisons):
        return "never" if len(comparisons) > 1 and any(c.op != "exists" or c.operand for c in comparisons) else None
    candidates = _candidates(comparisons)
    if candidates is not None:
        asked = [(c, _told_apart(c)) for c in comparisons]
        left = [value for value in candidates if all(_holds(c, operands, value) for c, operands in asked)]
        return None if any(not count or _is_count(value) for value in left) else "never"
    positive = [c for c in comparisons if c.op in _ORDERING or c.op in ("starts_with", "ends_with", "matches")]
    if len({_type_of(cast(Scalar, c.operand)) for c in positive}) > 1:
        return "never"
    lower, upper = _bounds(comparisons, count=count)
    if lower is not None and upper is not None and _crossed(lower, upper):
        return "never"
    excludes = any(_is_count(value) for c in comparisons if c.op in ("ne", "not_in") for value in _operands(c))
    if count and upper is None and not excludes and (lower is None or cast(int, lower[0]) <= 0):
        return "always"
    return None


def _missing_is_asked(comparisons: Sequence[Comparison]) -> bool:
    return any(c.op == "exists" and c.operand is False for c in comparisons)


def _candidates(comparisons: Sequence[Comparison]) -> tuple[Scalar, ...] | None:
    for comparison in comparisons:
        if comparison.op in ("eq", "in"):
            return _operands(comparison)
    return None


def _operands(comparison: Comparison) -> tuple[Scalar, ...]:
    assert comparison.value_of_person is None, "what a value of the person may be is not known here"
    operand = comparison.operand
    return operand if isinstance(operand, tuple) else (cast(Scalar, operand),)


def _told_apart(comparison: Comparison) -> frozenset[tuple[str, Scalar]]:
    """The operands with their types, to look values up in: lists may be long, and two of them are compared."""
    return frozenset((_type_of(operand), operand) for operand in _operands(comparison))


def _holds(comparison: Comparison, operands: frozenset[tuple[str, Scalar]], value: Scalar) -> bool:
    """Whether the value satisfies it; true where that is not known here (an expression, an element of a list)."""
    op, operand = comparison.op, _operands(comparison)[0]
    same = (_type_of(value), value) in operands
    if op in ("eq", "in"):
        return same
    if op in ("ne", "not_in"):
        return not same
    if op in _ORDERING:
        return _ordered(op, value, operand)
    if op in ("starts_with", "ends_with"):
        return isinstance(value, str) and getattr(value, op.replace("_", ""))(operand) is True
    return op != "matches" or isinstance(value, str)


def _ordered(op: str, value: Scalar, operand: Scalar) -> bool:
    if _type_of(value) != _type_of(operand) or isinstance(value, bool):
        return False
    low, high = (operand, value) if op.startswith("g") else (value, operand)
    return _less(low, high) or (op.endswith("e") and low == high)


def _less(low: Scalar, high: Scalar) -> bool:
    if isinstance(low, str) or isinstance(high, str):
        return str(low) < str(high)
    return low < high


def _bounds(comparisons: Sequence[Comparison], *, count: bool) -> tuple[_Bound | None, _Bound | None]:
    """The greatest lower and the least upper bound, each with whether it is itself outside."""
    lower: _Bound | None = None
    upper: _Bound | None = None
    for comparison in comparisons:
        operand = cast(Scalar, comparison.operand)
        if comparison.op not in _ORDERING or isinstance(operand, bool):
            continue
        strict = not comparison.op.endswith("e")
        if comparison.op.startswith("g"):
            bound = (cast(int, operand) + 1, False) if count and strict else (operand, strict)
            if lower is None or _less(lower[0], bound[0]) or (lower[0] == bound[0] and bound[1]):
                lower = bound
        else:
            bound = (cast(int, operand) - 1, False) if count and strict else (operand, strict)
            if upper is None or _less(bound[0], upper[0]) or (upper[0] == bound[0] and bound[1]):
                upper = bound
    if count and (lower is None or _less(lower[0], 0)):
        lower = (0, False)
    return lower, upper


def _crossed(lower: _Bound, upper: _Bound) -> bool:
    return _less(upper[0], lower[0]) or (lower[0] == upper[0] and (lower[1] or upper[1]))


def _is_count(value: Scalar) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _type_of(value: Scalar) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | Decimal) else "string"
