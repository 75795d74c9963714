"""What a single cell means: numbers, truth values, instants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Context, Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from state.warehouse.billionths import billionths_of, rounded_billionths_of
from state.warehouse.values import (
    billionths,
    boolean_of_text,
    instant_of_text,
    number_of_billionths,
    number_of_decimal,
    number_of_float,
    number_of_text,
)

_WIDE = Context(prec=2_000, rounding=ROUND_HALF_EVEN)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**30), max_value=10**30))
def test_numbers_are_nine_places_half_even(value: Decimal) -> None:
    number = number_of_decimal(value)
    assert number == value.quantize(Decimal("1e-9"), context=_WIDE)
    assert isinstance(number, int) == (number == int(number))
    assert number_of_billionths(billionths(number)) == number
    assert number_of_text(str(number)) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_the_decimal_of_its_shortest_text(value: float) -> None:
    assert number_of_float(repr(value)) == Decimal(repr(value)).quantize(Decimal("1e-9"), context=_WIDE)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.1", Decimal("0.1")),
        ("1.0", 1),
        ("-0.0", 0),
        ("+5", 5),
        ("007", 7),
        (".5", Decimal("0.5")),
        ("1e3", 1000),
        ("0.0000000005", 0),
        ("0.0000000015", Decimal("2e-9")),
        ("1e-999999999", 0),
        ("99999999999999999999", 99999999999999999999),
    ],
)
def test_texts_that_are_numbers(text: str, number: int | Decimal) -> None:
    read = number_of_text(text)
    assert read == number
    assert type(read) is type(number)


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "1,5", "0x10", "1_000", "nan", "Infinity", "１", "1e401", "1e999999999", "."]
)
def test_texts_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a number|has more than 400 digits"):
        number_of_text(text)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_not_finite_is_no_number(value: str) -> None:
    with pytest.raises(ValueError, match="is not a finite number"):
        number_of_float(value)


@given(
    st.lists(st.one_of(st.floats(-5e6, 5e6), st.integers(-(10**12), 10**12).map(lambda cents: cents / 100)), min_size=1)
)
def test_many_floats_at_once_are_what_each_is_alone(values: list[float]) -> None:
    at_once = billionths_of(pa.array(values, pa.float64()))
    if at_once is not None:
        assert at_once.tolist() == [billionths(number_of_float(repr(value))) for value in values]


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12), min_size=1))
def test_many_texts_at_once_are_what_each_is_alone(values: list[Decimal]) -> None:
    texts = [str(value) for value in values]
    at_once = billionths_of(pa.array(texts))
    if at_once is not None:
        assert at_once.tolist() == [billionths(number_of_text(text)) for text in texts]


@given(st.lists(st.integers(-(10**11), 10**11), min_size=1), st.integers(0, 12))
def test_money_is_converted_at_once(units: list[int], places: int) -> None:
    values = [Decimal(unit).scaleb(-places) for unit in units]
    decimals = pa.array(values, pa.decimal128(38, places))
    at_once = billionths_of(decimals.slice(1) if len(units) > 1 else decimals)
    expected = [billionths(number_of_decimal(value)) for value in (values[1:] if len(units) > 1 else values)]
    fits = all(abs(number) < 2**63 for number in expected)
    if places <= 9:
        assert (at_once is not None) == fits
    if at_once is not None:
        assert at_once.tolist() == expected


def test_floats_too_large_or_too_fine_are_left_to_the_slow_way() -> None:
    for value in (2.0**22, 1e-10, np.nan, np.inf):
        assert billionths_of(pa.array([1.5, value], pa.float64())) is None


_OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(timezones=st.one_of(st.just(UTC), _OFFSETS)))
def test_instants_are_whole_milliseconds_cut_towards_the_past(moment: datetime) -> None:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert instant_of_text(moment.isoformat()) == since // timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-02", 86_400_000),
        ("1970-01-01T00:00:00.0019999Z", 1),
        ("1969-12-31T23:59:59.9995", -1),
        ("1970-01-01 01:00:00+01:00", 0),
        ("19700101T000001Z", 1_000),
    ],
)
def test_texts_that_are_instants(text: str, instant: int) -> None:
    assert instant_of_text(text) == instant


@pytest.mark.parametrize("text", ["", "1", "1700000000000", "01/02/2024", "2024-13-01", "2024-01-01T", "soon"])
def test_texts_that_are_no_instants(text: str) -> None:
    with pytest.raises(ValueError, match="is not an ISO 8601 date"):
        instant_of_text(text)


def test_truth_values() -> None:
    assert [boolean_of_text(text) for text in ("true", "False", "TRUE")] == [True, False, True]
    with pytest.raises(ValueError, match="is neither true nor false"):
        boolean_of_text("yes")


@example([1e300], 0)
@given(st.lists(st.floats(), min_size=1, max_size=50), st.integers(0, 12))
def test_many_floats_are_rounded_as_one_is(numbers: list[float], places: int) -> None:
    numbers += [round(number, places) for number in numbers if abs(number) < 1e6]
    rounded, doubt = rounded_billionths_of(pa.array(numbers, pa.float64()))
    for number, whole, doubted in zip(numbers, rounded.tolist(), doubt.tolist(), strict=True):
        assert doubted or whole == billionths(number_of_float(str(number)))
