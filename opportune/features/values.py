"""Values of properties as features keep them, and as predicates compare them.

Owns: the codes. A code is an int or a text, so that msgpack keeps it and equal codes are equal values:

    int          a number in billionths, where that fits into 64 bits
    n<digits>    a larger number, in billionths, hexadecimal: Python writes no decimal ones of more than 4,300 digits
    s<text>      a text
    i<digits>    an instant of a property that the schema calls a timestamp, milliseconds
    h<digits>    a long text or number of which only its being the same is asked: 128 bits of its BLAKE2b hash
    t, f         true, false

Invariant: numbers are exact; what is added is never rounded (LANGUAGE.md section 2).
Not here: which values an aggregate sees (opportune.features.aggregates), paths (opportune.audiences.predicate).
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal
from hashlib import blake2b
from typing import Any, TypeAlias

from opportune.audiences.predicate import flat
from opportune.event import instant_ms

Code: TypeAlias = int | str
BILLION = 1_000_000_000
INT64 = 1 << 63
EXACT = Context(prec=10_000, Emax=10**6, Emin=-(10**6))
CODE_CHARS_MAX = 64
"""A longer text that is only compared with others of its kind is kept as its hash."""
QUOTIENT_PLACES = 40
"""Digits of an average that does not end; one more digit keeps it off every number of so many places."""


def billionths(number: int | Decimal) -> int:
    """A number of at most nine decimal places in billionths."""
    if isinstance(number, int):
        return number * BILLION
    return int(number.scaleb(9, EXACT))


def number_of(value: int) -> int | Decimal:
    """The number that so many billionths are."""
    whole, rest = divmod(value, BILLION)
    return whole if not rest else Decimal(value).scaleb(-9, EXACT)


def packed(value: int) -> Code:
    """Billionths as a code."""
    return value if -INT64 <= value < INT64 else f"n{value:x}"


def unpacked(code: Code) -> int:
    """The billionths of a code of a number."""
    return code if isinstance(code, int) else int(code[1:], 16)


def number_codes(value: Any) -> list[Code]:
    """The numbers that a property hands over, as codes: none, one, or those in a list."""
    if value.__class__ is int:
        return [packed(value * BILLION)]
    return [
        packed(billionths(one)) for one in flat(value) if isinstance(one, int | Decimal) and one.__class__ is not bool
    ]


def scalar_codes(value: Any, *, instants: bool = False) -> list[Code]:
    """The texts, numbers and booleans that a property hands over, as codes.

    Args:
        value: a decoded JSON value, ``Elements`` or UNSET.
        instants: whether the schema calls the property a timestamp: then a text that is one is an instant.
    """
    if value.__class__ is str and not instants:
        return ["s" + value]
    return [code for code in (code_of(one, instants=instants) for one in flat(value)) if code is not None]


def code_of(value: Any, *, instants: bool = False) -> Code | None:
    """The code of one scalar; None for anything else."""
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, str):
        if instants:
            try:
                return f"i{instant_ms(value)}"
            except ValueError:
                pass
        return "s" + value
    return packed(billionths(value)) if isinstance(value, int | Decimal) else None


def identity(code: Code) -> Code:
    """A code that is equal where values are, and never long."""
    if code.__class__ is int or len(code) <= CODE_CHARS_MAX:  # type: ignore[arg-type]  # a text, then
        return code
    return "h" + blake2b(str(code).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class InstantValue(int):
    """Milliseconds that are an instant and no number."""


def value_of(code: Code) -> Any:
    """The value of a code, as a predicate compares it; an instant as ``InstantValue``."""
    if isinstance(code, int):
        return number_of(code)
    if code[0] == "s":
        return code[1:]
    if code[0] == "n":
        return number_of(unpacked(code))
    return InstantValue(code[1:]) if code[0] == "i" else code == "t"


def total(codes: Iterable[Code]) -> int:
    """The sum of codes of numbers, in billionths."""
    try:
        return sum(codes)  # type: ignore[arg-type]  # texts are the rare case
    except TypeError:
        return sum(map(unpacked, codes))


def quotient(numerator: int, count: int) -> int | Decimal:
    """Billionths divided by a count, exact where the quotient ends.

    A quotient that does not end becomes a number that compares with every number of up to ``QUOTIENT_PLACES`` places as the
    quotient does, and equals none of them.
    """
    whole, rest = divmod(numerator * 10**QUOTIENT_PLACES, count * BILLION)
    if rest:
        return Decimal(whole * 10 + 5).scaleb(-QUOTIENT_PLACES - 1, EXACT)
    exact, rest = divmod(whole, 10**QUOTIENT_PLACES)
    return exact if not rest else Decimal(whole).scaleb(-QUOTIENT_PLACES, EXACT)
