"""Local days where the clocks skip or repeat midnight, and hours of the wall clock."""

from __future__ import annotations

import pytest

from opportune.event import instant_ms, iso_text
from opportune.features.calendar import Hours, bounds, zone_name

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
