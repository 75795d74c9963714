from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.audiences.diagnostics import Unreadable
from opportune.audiences.scalars import scalar_of


@pytest.mark.parametrize("text", ["no", "yes", "on", "off", "y", "18:00", "1:30:00", "2024-01-01", "1_000", "0b1", "1,5", "+", "-", ".", "NO", "1.2.3", "٣"])  # fmt: skip
def test_what_other_yamls_read_otherwise_is_a_text(text: str) -> None:
    assert scalar_of(text) == text


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_null(text: str) -> None:
    assert scalar_of(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("False", False), ("TRUE", True),
        ("3", 3), ("-3", -3), ("+3", 3), ("007", 7), ("0o17", 15), ("0xff", 255),
        ("1.0", 1), ("1e3", 1000), ("1.", 1), (".5", Decimal("0.5")), ("-0.0", 0),
        ("0.1", Decimal("0.1")), ("12.50", Decimal("12.5")),
        ("0.1234567885", Decimal("0.123456788")), ("0.1234567895", Decimal("0.12345679")), ("1e-10", 0), ("1e-99999999", 0),
        ("0e99999999", 0), ("123456789012345678901234567890.5", Decimal("123456789012345678901234567890.5")),
    ],
)  # fmt: skip
def test_numbers_and_booleans_have_one_form(text: str, value: object) -> None:
    found = scalar_of(text)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    "text", [".inf", "-.INF", "+.Inf", ".nan", ".NaN", "1e400", "1e99999999999", "9" * 401, "0x" + "f" * 500]
)
def test_numbers_that_cannot_be_kept(text: str) -> None:
    with pytest.raises(Unreadable):
        scalar_of(text)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**20), max_value=10**20))
def test_nine_decimal_places_are_kept(number: Decimal) -> None:
    found = scalar_of(f"{number:f}")
    assert isinstance(found, int | Decimal)
    assert found == number


@given(st.text(max_size=30) | st.from_regex(r"[-+]?[0-9.]{0,12}[eE]?[-+]?[0-9]{0,12}", fullmatch=True))
def test_any_text_has_a_value_or_is_unreadable(text: str) -> None:
    with suppress(Unreadable):
        assert scalar_of(text) is None or scalar_of(text) == scalar_of(text)
