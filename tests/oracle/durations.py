"""Lengths of the reference evaluator: durations and distances in text (LANGUAGE.md section 2).

Owns: their value. Anything else is a ``ValueError``: definitions of tests are right.
Not here: windows that are not durations (tests.oracle.reading).
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
_WORDS = {"second": "s", "minute": "m", "hour": "h", "day": "d", "week": "w", "year": "y", "millisecond": "ms"}
_ISO = re.compile(r"P(?:([\d.,]+)W)?(?:([\d.,]+)D)?(?:T(?:([\d.,]+)H)?(?:([\d.,]+)M)?(?:([\d.,]+)S)?)?")


def duration_ms(text: str) -> int:
    """Milliseconds; a part of one is a whole one: windows are half open, so nothing is between."""
    iso = _ISO.fullmatch(text)
    if iso:
        parts = zip(iso.groups(), "wdhms", strict=True)
        exact = sum((Decimal(part.replace(",", ".")) * _UNITS_MS[unit] for part, unit in parts if part), Decimal(0))
    else:
        amount, word = _amount(text)
        unit = word if word in _UNITS_MS else _WORDS[word.removesuffix("s")]
        exact = amount * _UNITS_MS[unit]
    if not 0 < exact <= 3 * _UNITS_MS["y"]:
        raise ValueError(f"{text} is not over 0 and up to 3 years")
    return math.ceil(exact)


def distance_m(text: str) -> float:
    """Meters, of a text in m or km."""
    amount, unit = _amount(text)
    return float(amount * {"m": 1, "km": 1000}[unit])


def _amount(text: str) -> tuple[Decimal, str]:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text)
    if not found:
        raise ValueError(f"{text} is not a number with a unit")
    return Decimal(found[1]), found[2]
