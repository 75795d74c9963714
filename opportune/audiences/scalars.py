"""Scalars of YAML 1.2's core schema, with numbers as exact decimals.

Owns: what an unquoted text is: null, a boolean, a number or a text. ``no``, ``on``, ``18:00`` and dates are texts.
Invariant: a number is an int, or a Decimal with at most nine decimal places (half even) that is no whole number, so that
one value has one form: ``1``, ``1.0`` and ``1e0`` are the int 1. Never a float.
Not here: the YAML around it (opportune.audiences.yaml_tree). Source: YAML 1.2.2, section 10.3.2.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal

from opportune.audiences.diagnostics import Unreadable, quoted
from opportune.audiences.schema import Scalar

NUMBER_CHARS_MAX = 400
NUMBER_DIGITS_MAX = 308
"""Digits before the point: as many as the largest number that JSON senders can write from a double."""

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+", re.ASCII)
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_CONTEXT = Context(prec=NUMBER_DIGITS_MAX + 100, rounding=ROUND_HALF_EVEN, Emax=10**6, Emin=-(10**6))
_NINE_PLACES = Decimal("1e-9")


def scalar_of(text: str) -> Scalar | None:
    """The value of an unquoted text; None for null.

    Raises:
        Unreadable: an infinity, not a number, or a number with too many digits.
    """
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0] in "+-.0123456789":
        number = _number_of(text)
        if number is not None:
            return number
    return text


def _number_of(text: str) -> int | Decimal | None:
    if _NOT_FINITE.fullmatch(text):
        raise Unreadable(
            f"{quoted(text)} is not a number that anything can be compared with", "quote it if it is a text"
        )
    base = 8 if _OCTAL.fullmatch(text) else 16 if _HEXADECIMAL.fullmatch(text) else 10
    if base == 10 and not _FLOAT.fullmatch(text):
        return None
    if len(text) > NUMBER_CHARS_MAX:
        raise Unreadable(f"{quoted(text)} has too many digits", "quote it if it is a text")
    if base != 10:
        return int(text, base)
    if _INTEGER.fullmatch(text):
        return _bounded(Decimal(text), text)
    return _bounded(_decimal(text), text)


def _decimal(text: str) -> Decimal:
    mantissa, _, exponent = text.lower().partition("e")
    if len(exponent.lstrip("+-").lstrip("0")) > 4:
        small = exponent.startswith("-") or not mantissa.strip("+-.0")
        return Decimal(0) if small else Decimal("1e9999")
    return Decimal(f"{mantissa}e{exponent}" if exponent else mantissa)


def _bounded(number: Decimal, text: str) -> int | Decimal:
    if number and number.adjusted() >= NUMBER_DIGITS_MAX + 1:
        raise Unreadable(f"{quoted(text)} has too many digits", "quote it if it is a text")
    cut = number.quantize(_NINE_PLACES, context=_CONTEXT)
    return int(cut) if cut == cut.to_integral_value() else cut.normalize(_CONTEXT)
