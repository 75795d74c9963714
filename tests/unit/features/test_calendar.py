"""Local days where the clocks skip or repeat midnight, and hours of the wall clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from opportune.event import instant_ms, iso_text
from opportune.features.calendar import DAY_MS, EPOCH, UNITS, Hours, bounds, zone_name

EVERY_DAY = frozenset(range(7))
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("zone", "at", "begins", "ends"),
    [
        ("UTC", "2026-03-01T00:00:00Z", "2026-03-01T00:00:00.000Z", "2026-03-02T00:00:00.000Z"),
        # Midnight does not come: the day begins at 01:00.
        ("America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00.000Z", "2018-11-05T02:00:00.000Z"),
        ("Africa/Cairo", "2024-04-26T12:00:00Z", "2024-04-25T22:00:00.000Z", "2024-04-26T21:00:00.000Z"),
        ("Asia/Beirut", "2024-03-31T12:00:00Z", "2024-03-30T22:00:00.000Z", "2024-03-31T21:00:00.000Z"),
        # At midnight it is 23:00 again: the day that ends has 25 hours.
        ("America/Sao_Paulo", "2018-02-17T12:00:00Z", "2018-02-17T02:00:00.000Z", "2018-02-18T03:00:00.000Z"),
        ("Africa/Cairo", "2024-10-31T12:00:00Z", "2024-10-30T21:00:00.000Z", "2024-10-31T22:00:00.000Z"),
        # At one it is midnight again: the day begins at the first of both.
        ("America/Havana", "2024-11-03T12:00:00Z", "2024-11-03T04:00:00.000Z", "2024-11-04T05:00:00.000Z"),
    ],
)
def test_days(zone: str, at: str, begins: str, ends: str) -> None:
    found = bounds("day", instant_ms(at), zone)
    assert tuple(map(iso_text, found)) == (begins, ends)
    assert bounds("day", found[0], zone) == bounds("day", found[1] - 1, zone) == found


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    at = instant_ms("2026-03-01T12:00:00Z")
    assert iso_text(bounds("week", at, "Europe/Paris")[0]) == "2026-02-22T23:00:00.000Z"
    assert [iso_text(each) for each in bounds("month", at, "Europe/Paris")] == [
        "2026-02-28T23:00:00.000Z",
        "2026-03-31T22:00:00.000Z",
    ]


def test_a_repeated_hour_is_there_twice_and_a_skipped_one_is_passed() -> None:
    hours = Hours(EVERY_DAY, 2 * HOUR, 3 * HOUR)
    first = instant_ms("2026-10-25T00:00:00Z")
    assert [hours.look(first + step * HOUR, "Europe/Paris")[0] for step in range(-1, 3)] == [False, True, True, False]
    skipped = instant_ms("2026-03-29T01:00:00Z")
    assert not any(hours.look(skipped + step, "Europe/Paris")[0] for step in (-1, 0, 1))


def test_hours_over_midnight_belong_to_the_day_on_which_they_began() -> None:
    hours = Hours(frozenset({0}), 22 * HOUR, 2 * HOUR)
    monday = instant_ms("2026-03-02T00:00:00Z")
    inside = [step for step in range(48) if hours.look(monday + step * HOUR, "UTC")[0]]
    assert inside == [22, 23, 24, 25]


@pytest.mark.parametrize("value", [None, "Mars/Base", ["UTC"], 3, "europe/paris"])
def test_an_unknown_zone_goes_on_to_the_next(value: object) -> None:
    assert zone_name(value, "Asia/Tokyo") == "Asia/Tokyo"


@pytest.mark.parametrize("zone", ["UTC", "Australia/Sydney", "America/New_York", "Pacific/Kiritimati"])
@pytest.mark.parametrize("year", [9599, 9998, 9999])
def test_the_last_years_are_those_of_400_years_before(year: int, zone: str) -> None:
    """The same instants of a year whose calendar is known; none is without an answer, up to the last millisecond."""
    hours = Hours(frozenset({0, 3, 6}), 22 * 3_600_000, 2 * 3_600_000)
    for month, day, hour in ((1, 1, 0), (6, 15, 13), (12, 1, 0), (12, 31, 12), (12, 31, 23)):
        at = (datetime(year, month, day, hour, 59, 59, 999_000, UTC) - EPOCH) // timedelta(milliseconds=1)
        before = at - 400 * 365 * DAY_MS - 97 * DAY_MS
        for unit in UNITS:
            first, following = bounds(unit, at, zone)
            assert first <= at < following
            assert bounds(unit, before, zone) == (first - (at - before), following - (at - before))
        inside, until = hours.look(at, zone)
        assert until > at
        assert Hours(hours.days, hours.from_ms, hours.to_ms).look(before, zone) == (inside, until - (at - before))


@pytest.mark.parametrize("zone", ["UTC", "Australia/Sydney", "America/New_York"])
def test_the_first_year_has_its_days(zone: str) -> None:
    at = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
    for unit in UNITS:
        first, following = bounds(unit, at, zone)
        assert first <= at < following
    assert Hours(frozenset(range(7)), 0, 3_600_000).look(at, zone)[1] > at
