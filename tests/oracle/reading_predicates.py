"""From the YAML under ``is``, ``times`` and ``where`` to predicates of the reference evaluator (LANGUAGE.md section 3).

Owns: the three forms of a predicate, the text form of a comparison, the text form of a path.
Not here: what a predicate means (tests.oracle.predicates).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.oracle.instants import read_instant
from tests.oracle.predicates import number
from tests.oracle.tree import Comparison, Constant, Path, Predicate, Value

_SYMBOLS = {">=": "gte", "<=": "lte", "==": "eq", "!=": "ne", ">": "gt", "<": "lt", "=": "eq"}
_NUMBER = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?", re.ASCII)
ROOTS = ("properties", "context", "traits")


def path_of(text: str, instants: bool = False) -> Path:
    """A path as it is written: it starts in ``properties`` unless it names another root."""
    root, *keys = text.split(".")
    return Path(root, tuple(keys), instants) if root in ROOTS and keys else Path("properties", (root, *keys), instants)


def read_predicate(said: Any, instants: bool, value_of: Callable[[Any], Value]) -> Predicate:
    """A predicate.

    Args:
        said: a scalar, a list or a mapping of operators.
        instants: its subject is a timestamp, so that texts are instants.
        value_of: reads an operand that is another value of the person.
    """
    if isinstance(said, list):
        said = {"in": said}
    if not isinstance(said, dict):
        op, operand = _one(said)
        said = {op: operand}
    comparisons = []
    for op, operand in said.items():
        if isinstance(operand, dict):
            comparisons.append(Comparison(op, value_of(operand)))
        elif isinstance(operand, list):
            comparisons.append(Comparison(op, tuple(_constant(each, instants) for each in operand)))
        else:
            comparisons.append(Comparison(op, _constant(operand, instants)))
    return Predicate(tuple(comparisons), instants)


def _one(said: object) -> tuple[str, object]:
    """A scalar: equal, or the text form of one comparison."""
    found = re.fullmatch(r"\s*(>=|<=|==|!=|>|<|=)\s*(.*)", said, re.DOTALL) if isinstance(said, str) else None
    if found is None:
        return "eq", said
    symbol, text = found[1], found[2].strip()
    if text.lower() in ("true", "false"):
        return _SYMBOLS[symbol], text.lower() == "true"
    return _SYMBOLS[symbol], Decimal(text) if _NUMBER.fullmatch(text) else text


def _constant(said: Any, instants: bool) -> Constant:
    assert isinstance(said, str | int | float | Decimal | bool), f"{said!r} is not a value; quote dates"
    if isinstance(said, str):
        instant = read_instant(said) if instants else None
        return said if instant is None else instant
    if isinstance(said, bool):
        return said
    return number(Decimal(repr(said)) if isinstance(said, float) else said)
