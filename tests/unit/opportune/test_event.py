from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.errors import RejectedEvent
from opportune.event import (
    CACHED_CHARS_MAX,
    Instants,
    Numbers,
    blocked,
    effective_ms,
    identifier_text,
    instant_ms,
    iso_text,
    nine_places,
)
from tests.oracle.instants import read_instant, write_instant
from tests.oracle.predicates import number

AT = 1_700_000_000_123
"""2023-11-14T22:13:20.123Z"""

READABLE = {
    "2023-11-14T22:13:20.123Z": 0,
    "2023-11-14t22:13:20.123z": 0,
    "2023-11-14 22:13:20.123": 0,
    "2023-11-14T22:13:20,123Z": 0,
    "2023-11-14T22:13:20.123+00:00": 0,
    "2023-11-15T00:43:20.123+02:30": 0,
    "2023-11-14T19:43:20.123-0230": 0,
    "2023-11-14T23:13:20.123+01": 0,
    "2023-11-14T22:13:20.1239999Z": 0,
    "2023-11-14T22:13:20.123456789Z": 0,
    "2023-11-14T22:13:20.12Z": -3,
    "2023-11-14T22:13:20Z": -123,
    "2023-11-14T22:13:20": -123,
    "2023-11-14T22:13Z": -20_123,
    "2023-11-14T22:13": -20_123,
    "2023-11-14": -80_000_123,
    "20231114T221320.123Z": 0,
    "2023-W46-2T22:13:20.123Z": 0,
}
UNREADABLE = (
    "",
    " ",
    "yesterday",
    "1700000000",
    "2023",
    "2023-11-31",
    "2023-13-01",
    "2023-11-14T25:00:00Z",
    "2023-11-14T22:61:00Z",
    "2023-11-14T22:13:20.123ZZ",
    "2023-11-14T22:13:20.123+25:00",
    " 2023-11-14T22:13:20Z",
    "2023-11-14T22:13:20Z ",
    "2023-11-14x22:13:20",
    "2023-11-14_22:13:20Z",
    "14.11.2023",
    "2023-11-14T",
    "2023-11-14TZ",
    "2023-11-14T22:13:20.Z",
    "2023-11-14T22:13:20.123+01:00:00.5",
    "2023-W46",
    "Tue, 14 Nov 2023 22:13:20 GMT",
    "0000-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z",
    "２０２３-11-14",
    "ß023-11-14T22:13:20Z",
)


@pytest.mark.parametrize(("text", "off_ms"), READABLE.items())
def test_an_instant_is_read_in_every_shape_of_iso_8601(text: str, off_ms: int) -> None:
    instants = Instants()
    assert instant_ms(text) == AT + off_ms
    assert [instants(text), instants(text)] == [AT + off_ms] * 2


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_is_no_instant_is_refused(text: str) -> None:
    instants = Instants()
    for known in READABLE:
        instants(known)
    for read in (instant_ms, instants):
        with pytest.raises(ValueError, match=r".*"):
            read(text)


def test_finer_digits_are_cut_off_towards_the_past_on_both_sides_of_1970() -> None:
    assert instant_ms("1970-01-01T00:00:00.0019Z") == 1
    assert instant_ms("1969-12-31T23:59:59.9981Z") == -2
    assert instant_ms("0001-01-01") == -62_135_596_800_000
    assert instant_ms("9999-12-31T23:59:59.9999Z") == 253_402_300_799_999


def test_a_text_that_was_read_vouches_for_no_other_text() -> None:
    instants = Instants()
    # 19 characters, of which the last six are an offset and not seconds.
    assert instants("2023-11-14T22+01:00") == instant_ms("2023-11-14T21:00:00Z")
    for text in ("2023-11-14T22+01:00Z", "2023-11-14T22+01:00.123", "2023-11-14T22+01:00+00:00"):
        with pytest.raises(ValueError, match=r".*"):
            instants(text)


@given(
    st.integers(-62_135_596_800_000, 253_402_300_799_999),
    st.sampled_from(["Z", "", "+00:00"]),
    st.sampled_from([" ", "T"]),
    st.sampled_from([19, 23]),
)
def test_fast_and_slow_reading_agree(at: int, zone: str, separator: str, length: int) -> None:
    text = iso_text(at)[:length].replace("T", separator) + zone
    instants = Instants()
    expected = at if length == 23 else at - at % 1000
    assert instants(text) == instants(text) == instant_ms(text) == read_instant(text) == expected


@given(st.text(alphabet="0123456789-:TtZz+. ,W", max_size=30))
def test_fast_reading_is_slow_reading_for_any_text(text: str) -> None:
    instants = Instants()
    for known in READABLE:
        instants(known)
    try:
        expected: int | None = instant_ms(text)
    except ValueError:
        expected = None
    for _ in range(2):
        try:
            found: int | None = instants(text)
        except ValueError:
            found = None
        assert found == expected


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_an_instant_is_written_and_read(at: int) -> None:
    assert instant_ms(iso_text(at)) == at
    if at >= 0:
        assert iso_text(at) == write_instant(at)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.5", "1.5"),
        ("0.0000000005", "0E-9"),
        ("0.0000000015", "2E-9"),
        ("0.0000000025", "2E-9"),
        ("0.00000000250000000000001", "3E-9"),
        ("-0.0000000015", "-2E-9"),
        ("1e-999999999", "0E-9"),
        ("1E+999999999", "1E+999999999"),
        ("9.9999999999", "10.000000000"),
        ("123456789012345678901234567890.1234567891", "123456789012345678901234567890.123456789"),
    ],
)
def test_numbers_have_nine_places_half_even(text: str, expected: str) -> None:
    found = nine_places(Decimal(text))
    assert found == Decimal(expected)
    assert found.is_signed() == Decimal(expected).is_signed()


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_nine_places_are_those_of_the_reference(value: Decimal) -> None:
    assert nine_places(value) == number(value)


def test_a_number_beyond_decimals_is_a_value_error_and_long_texts_are_not_remembered() -> None:
    numbers = Numbers()
    for text in ("1e99999999999999999999", "1e-99999999999999999999"):
        with pytest.raises(ValueError, match="beyond"):
            numbers[text]
    assert numbers["1.50"] == Decimal("1.5")
    assert numbers["0." + "1" * CACHED_CHARS_MAX] == Decimal("0.111111111")
    assert list(numbers) == ["1.50"]


@pytest.mark.parametrize(
    "value", ["null", "NULL", "None", "undefined", "NaN", "0", "-1", "[object Object]", "000", "0-0-0", "-", "User"]
)
def test_values_that_stand_for_nobody_are_blocked(value: str) -> None:
    assert blocked(value)


@pytest.mark.parametrize("value", ["u1", "1", "00a", "nulls", "guest1", "-2", "[object]"])
def test_other_values_are_somebody(value: str) -> None:
    assert not blocked(value)


def test_an_identifier_that_is_an_endless_number_is_refused_at_once() -> None:
    began = time.monotonic()
    for text in ("1E+999999999", "-1E+999999999", "1.5E+100000"):
        with pytest.raises(RejectedEvent) as refusal:
            identifier_text(Decimal(text))
        assert refusal.value.reason == "bad_shape"
    assert identifier_text(Decimal("1.5E+3")) == "1500"
    assert identifier_text(10**30) == "1" + "0" * 30
    assert time.monotonic() - began < 5


TIMES = {"t": 100, "o": 50, "s": 60, "r": 75, None: None}


@pytest.mark.parametrize(
    ("timestamp", "original", "sent", "received", "arrival", "expected"),
    [
        (100, None, None, None, 900, (100, False)),
        (100, 50, 60, 75, 900, (75, True)),
        (100, 50, 60, 175, 900, (100, False)),
        (None, 50, 60, 75, 900, (65, False)),
        (None, 50, 60, None, 900, (50, False)),
        (None, 50, None, 75, 900, (50, False)),
        (None, 80, None, 75, 900, (75, True)),
        (None, 50, 40, 75, 900, (75, True)),
        (None, None, 60, 75, 900, (75, False)),
        (None, None, 60, None, 900, (900, False)),
        (None, None, None, None, 900, (900, False)),
        (None, None, None, None, None, (None, False)),
    ],
)
def test_effective_time(
    timestamp: int | None,
    original: int | None,
    sent: int | None,
    received: int | None,
    arrival: int | None,
    expected: tuple[int | None, bool],
) -> None:
    told, begun, sent_at, got = [None if at is None else iso_text(at) for at in (timestamp, original, sent, received)]
    assert effective_ms(Instants(), told, begun, sent_at, got, arrival) == expected


@pytest.mark.parametrize("place", range(4))
def test_each_of_the_four_times_refuses_the_event_where_it_is_unreadable(place: int) -> None:
    texts: list[str | None] = ["2023-11-14"] * 4
    texts[place] = "soon"
    told, begun, sent_at, got = texts
    with pytest.raises(RejectedEvent) as refusal:
        effective_ms(Instants(), told, begun, sent_at, got, 5)
    assert refusal.value.reason == "bad_time"
