"""One value of a warehouse table: what a cell of a file means.

Owns: the reading of numbers, booleans and instants from what files hold.
Invariant: a number is an int where it is whole, else a Decimal of at most nine decimal places (half even) without
trailing zeros; never a float. An instant is an int, milliseconds since the epoch, finer digits cut towards the past.
Every function here returns a value or raises ``ValueError`` whose text completes the sentence "VALUE ...".
Not here: ISO 8601 and the text of identifiers (opportune.event), which reading a column gets (state.warehouse.readings), how columns are kept (state.warehouse.columns).
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TypeAlias

from opportune.event import instant_ms

Value: TypeAlias = str | int | Decimal | bool
"""What a cell is; None stands beside it for null."""

NUMBER = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"
"""A number of JSON: what an undeclared column of text must hold to be one. Leading zeros are no number: 01234 is a
postal code."""

BILLION = 10**9

_DECLARED_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NINE_PLACES = Decimal("1e-9")
# 309 digits before the point is the largest float; the rest is room for the nine places and for wide decimals.
_DIGITS_MAX = 400
_EXACT = Context(prec=_DIGITS_MAX + 20, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999)


def number_of_decimal(value: Decimal) -> int | Decimal:
    """The number that a decimal is, to nine places.

    Raises:
        ValueError: NaN, infinite, or of more than 400 digits.
    """
    if not value.is_finite():
        raise ValueError("is not a finite number")
    if value and value.adjusted() >= _DIGITS_MAX:
        raise ValueError(f"has more than {_DIGITS_MAX} digits")
    rounded = value.quantize(_NINE_PLACES, context=_EXACT)
    whole = int(rounded)
    return whole if whole == rounded else rounded.normalize(_EXACT)


def number_of_text(text: str) -> int | Decimal:
    """The number that a cell of text is in a column of numbers.

    Raises:
        ValueError: it does not read as one.
    """
    if not _DECLARED_NUMBER.fullmatch(text):
        raise ValueError("is not a number")
    return number_of_decimal(Decimal(text))


def number_of_float(shortest: str) -> int | Decimal:
    """The number of a floating-point cell, given its shortest text, so that 0.1 is 0.1 also where it was 32 bits.

    Raises:
        ValueError: NaN or infinite.
    """
    return number_of_decimal(Decimal(shortest))


def boolean_of_text(text: str) -> bool:
    """The truth value that a cell of text is.

    Raises:
        ValueError: it is neither true nor false, in any case of letters.
    """
    lowered = text.lower()
    if lowered == "true":
        return True
    if lowered == "false":
        return False
    raise ValueError("is neither true nor false")


def instant_of_text(text: str) -> int:
    """The instant of ISO 8601 text, in milliseconds since the epoch; without an offset it is UTC.

    Raises:
        ValueError: it is not a date, or a date and time.
    """
    try:
        return instant_ms(text)
    except ValueError as error:
        raise ValueError("is not an ISO 8601 date, or date and time") from error


def billionths(value: int | Decimal) -> int:
    """The number times 10^9, exactly."""
    return value * BILLION if isinstance(value, int) else int(value.scaleb(9, _EXACT))


def number_of_billionths(value: int) -> int | Decimal:
    """The inverse of ``billionths``."""
    whole, rest = divmod(value, BILLION)
    return Decimal(value).scaleb(-9, _EXACT).normalize(_EXACT) if rest else whole
