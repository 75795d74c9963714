"""Local days and clocks of the reference evaluator (LANGUAGE.md section 2: day, week, month, during).

Owns: the local start of a day, week or month, what the wall clock says, and the instants at which either can jump.
A day begins at the first instant of its date: at midnight, or where the clocks skip midnight, right after the jump.
Not here: which zone a person has (tests.oracle.evaluator).
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from tests.oracle.tree import During

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZONES = zoneinfo.available_timezones()


def is_zone(name: object) -> bool:
    """Whether it is the name of a zone, written as in the IANA database."""
    return isinstance(name, str) and name in _ZONES


def local(now_ms: int, zone: str) -> datetime:
    """The wall clock of a zone at an instant, to the millisecond."""
    return (_EPOCH + timedelta(milliseconds=now_ms)).astimezone(_zone(zone))


def start_of(period: str, now_ms: int, zone: str) -> int:
    """The instant at which the local day, week (from Monday) or month that contains now began."""
    today = local(now_ms, zone).date()
    if period == "week":
        today -= timedelta(days=today.weekday())
    elif period == "month":
        today = today.replace(day=1)
    return first_instant(today, zone)


@cache
def first_instant(day: date, zone: str) -> int:
    """The first instant of a local date."""
    at = _instant(day, 0, zone, fold=0)
    while local(at - 1, zone).date() >= day:
        at -= MINUTE_MS
    return at


def is_during(during: During, now_ms: int, zone: str) -> bool:
    """Whether the wall clock is in the hours."""
    clock = local(now_ms, zone)
    ms = (clock.hour * 3600 + clock.minute * 60 + clock.second) * 1000 + clock.microsecond // 1000
    today, yesterday = clock.weekday(), (clock.weekday() - 1) % 7
    if during.from_ms < during.to_ms:
        return today in during.days and during.from_ms <= ms < during.to_ms
    return (today in during.days and ms >= during.from_ms) or (yesterday in during.days and ms < during.to_ms)


def jumps(zone: str, clocks_ms: set[int], first_ms: int, last_ms: int) -> Iterator[int]:
    """Instants from about ``first_ms`` to ``last_ms`` at which a day begins, a wall clock is reached, or clocks change."""
    day = local(first_ms, zone).date() - timedelta(days=1)
    last = local(last_ms, zone).date() + timedelta(days=1)
    while day <= last:
        yield first_instant(day, zone)
        for clock_ms in clocks_ms:
            yield _instant(day, clock_ms, zone, fold=0)
            yield _instant(day, clock_ms, zone, fold=1)
        day += timedelta(days=1)
    for year in range(local(first_ms, "UTC").year, local(last_ms, "UTC").year + 1):
        yield from _changes_of_clocks(zone, year)


@cache
def _changes_of_clocks(zone: str, year: int) -> list[int]:
    """The instants of a year at which the offset of a zone changes."""
    first_ms, last_ms = (int(datetime(each, 1, 1, tzinfo=UTC).timestamp()) * 1000 for each in (year, year + 1))
    found = []
    for hour_ms in range(first_ms, last_ms, HOUR_MS):
        before, after = hour_ms, hour_ms + HOUR_MS
        if local(before, zone).utcoffset() == local(after, zone).utcoffset():
            continue
        while after - before > 1:
            middle = (before + after) // 2
            same = local(middle, zone).utcoffset() == local(before, zone).utcoffset()
            before, after = (middle, after) if same else (before, middle)
        found.append(after)
    return found


def _instant(day: date, clock_ms: int, zone: str, fold: int) -> int:
    """The instant at which a clock of a zone shows a minute of a day; what is skipped is read with the offset before."""
    days, rest_ms = divmod(clock_ms, DAY_MS)
    clock = time(rest_ms // HOUR_MS, rest_ms % HOUR_MS // MINUTE_MS, fold=fold)
    at = datetime.combine(day + timedelta(days=days), clock)
    passed = at.replace(tzinfo=_zone(zone)).astimezone(UTC) - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1000 + passed.microseconds // 1000


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
