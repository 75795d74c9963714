"""Local time: when a day, a week or a month began and ends, and hours of the wall clock.

Owns: zones by name, the first instant of a local date, and ``Hours``. Source: the IANA time zone database, through zoneinfo.
A date begins at its midnight; where the clocks skip midnight at the end of the gap, where it comes twice at the first.
Invariant: every instant of the years 1 to 9999 has an answer. Near both ends, where dates end, the calendar is that of 400 years nearer:
weekdays, lengths of months and rules of zones are the same then.
Not here: which zone a person is in (opportune.audiences.conditions writes that), windows of events (.entries).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

MINUTE_MS = 60_000
DAY_MS = 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = frozenset(available_timezones())
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
UNITS = ("day", "week", "month")
CYCLE_MS = 146_097 * DAY_MS
"""After 400 years the calendar comes again, weekdays included."""
FIRST_MS, LAST_MS = ((datetime(year, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1) for year in (3, 9_600))
"""Instants from here to there are looked at as they are."""
SETTLED_MS = 3 * 3_600_000
"""Clocks change by no more than this."""


@lru_cache(maxsize=1_024)
def zone_of(name: str) -> ZoneInfo:
    """The zone of a name in ``ZONES``."""
    return ZoneInfo(name)


def zone_name(value: Any, otherwise: str) -> str:
    """The zone that a value of a person names, else another one; a list or an unknown name names none."""
    return value if isinstance(value, str) and value in ZONES else otherwise


def _away(at_ms: int) -> int:
    """By how much an instant is looked at elsewhere, milliseconds."""
    if FIRST_MS <= at_ms < LAST_MS:
        return 0
    return CYCLE_MS if at_ms > 0 else -CYCLE_MS


def clock_of(at_ms: int, zone: str) -> datetime:
    """The wall clock and the weekday of a zone at any instant."""
    return local(at_ms - _away(at_ms), zone)


def local(at_ms: int, zone: str) -> datetime:
    """The wall clock of a zone at an instant, with its date; not within a day of the first or last one."""
    return (EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone_of(zone))


def instant(day: date, clock_ms: int, zone: str, fold: int = 0) -> int:
    """The instant at which the wall clock shows a time of a day; a time that is skipped is read with the offset before."""
    days, rest = divmod(clock_ms, DAY_MS)
    seconds, ms = divmod(rest, 1000)
    clock = time(seconds // 3600, seconds // 60 % 60, seconds % 60, ms * 1000, fold=fold)
    at = datetime.combine(day + timedelta(days=days), clock, zone_of(zone)).astimezone(UTC) - EPOCH
    return (at.days * 86_400 + at.seconds) * 1000 + at.microseconds // 1000


@lru_cache(maxsize=65_536)
def first_instant(day: date, zone: str) -> int:
    """The first instant of a local date."""
    at = instant(day, 0, zone)
    if local(at - 1, zone).date() < day:
        return at
    low = at - SETTLED_MS
    while at - low > 1:
        middle = (low + at) // 2
        if local(middle, zone).date() >= day:
            at = middle
        else:
            low = middle
    return at


@lru_cache(maxsize=65_536)
def _bounds(day: date, unit: str, zone: str) -> tuple[int, int]:
    if unit == "week":
        first = day - timedelta(days=day.weekday())
        following = first + timedelta(days=7)
    elif unit == "month":
        first = day.replace(day=1)
        following = (first + timedelta(days=32)).replace(day=1)
    else:
        first, following = day, day + timedelta(days=1)
    return first_instant(first, zone), first_instant(following, zone)


def bounds(unit: str, now_ms: int, zone: str) -> tuple[int, int]:
    """When the local day, week (from Monday) or month that contains an instant began, and when the next one begins."""
    away = _away(now_ms)
    first_ms, following_ms = _bounds(local(now_ms - away, zone).date(), unit, zone)
    return first_ms + away, following_ms + away


class Hours:
    """Hours of the wall clock on days of the week.

    Args:
        days: 0 (Monday) to 6.
        from_ms: of the day, inclusive.
        to_ms: of the day, exclusive; not later than ``from_ms``: of the day after.
    """

    def __init__(self, days: frozenset[int], from_ms: int, to_ms: int) -> None:
        self.days = days
        self.from_ms = from_ms
        self.to_ms = to_ms
        self.known: dict[str, tuple[int, int, bool]] = {}

    def look(self, now_ms: int, zone: str) -> tuple[bool, int]:
        """Whether the wall clock is inside, and until when that stays so at least."""
        known = self.known.get(zone)
        if known is None or not known[0] <= now_ms < known[1]:
            away = _away(now_ms)
            near_ms = now_ms - away
            known = self.known[zone] = (now_ms, self._until(near_ms, zone) + away, self._inside(near_ms, zone))
        return known[2], known[1]

    def _inside(self, now_ms: int, zone: str) -> bool:
        clock = local(now_ms, zone)
        ms = (clock.hour * 3600 + clock.minute * 60 + clock.second) * 1000 + clock.microsecond // 1000
        today = clock.weekday()
        if self.from_ms < self.to_ms:
            return today in self.days and self.from_ms <= ms < self.to_ms
        yesterday = (today - 1) % 7
        return (today in self.days and ms >= self.from_ms) or (yesterday in self.days and ms < self.to_ms)

    def _until(self, now_ms: int, zone: str) -> int:
        """The next instant at which the clock shows one of both times, a day begins, or the clocks change."""
        clock = local(now_ms, zone)
        today = clock.date()
        offset = clock.utcoffset()
        reached = [
            at
            for day in (today - timedelta(days=1), today, today + timedelta(days=1))
            for ms in (0, self.from_ms, self.to_ms)
            for fold in (0, 1)
            if (at := instant(day, ms, zone, fold)) > now_ms
        ]
        until = min(reached)
        # A change of the clocks moves the wall clock; an hour is shorter than any stretch between two of them.
        low = now_ms
        while low < until:
            high = min(low + 3_600_000, until)
            if local(high, zone).utcoffset() != offset:
                while high - low > 1:
                    middle = (low + high) // 2
                    if local(middle, zone).utcoffset() == offset:
                        low = middle
                    else:
                        high = middle
                return high
            low = high
        return until
