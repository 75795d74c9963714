"""Windows and aggregates of the reference evaluator (LANGUAGE.md section 2).

Owns: which events are inside a window, where the newest session begins, and what an aggregate of values is.
Not here: local days (tests.oracle.calendar).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from tests.oracle.predicates import Reached, key


class Seen(NamedTuple):
    """An event that a probe sees: when it happened, the how-manieth to arrive it was, what was read of it."""

    time_ms: int
    arrival: int
    read: object


def inside(seen: list[Seen], first_ms: int | None, now_ms: int) -> list[Seen]:
    """Those at first <= t <= now."""
    start = 0 if first_ms is None else bisect_left(seen, first_ms, key=_time)
    return seen[start : bisect_right(seen, now_ms, key=_time)]


def newest_session(times: list[int], now_ms: int, gap_ms: int) -> int:
    """The instant at which the session of the newest event began; now + 1 where that session is over.

    Args:
        times: of the events of any kind, in order.
        now_ms: milliseconds, like the rest.
        gap_ms: a step this long, or longer, ends a session.
    """
    times = times[: bisect_right(times, now_ms)]
    if not times or now_ms >= times[-1] + gap_ms:
        return now_ms + 1
    first = len(times) - 1
    while first > 0 and times[first] - times[first - 1] < gap_ms:
        first -= 1
    return times[first]


def aggregate(function: str, events: list[Seen]) -> list[Reached]:
    """An aggregate of events in order; nothing reached is missing."""
    if function == "count":
        return [Reached(Decimal(len(events)), element=False)]
    values = [value for event in events if isinstance(event.read, list) for value in event.read]
    found = _of_values(function, values)
    return [] if found is None else [Reached(found, element=False)]


def _of_values(function: str, values: list[object]) -> object:
    if function == "distinct":
        return Decimal(len({key(value) for value in values}))
    if function in ("first", "last"):
        return None if not values else values[0 if function == "first" else -1]
    numbers = [value for value in values if isinstance(value, Decimal)]
    if function == "sum":
        return sum(map(Fraction, numbers), Fraction(0))
    if not numbers:
        return None
    if function == "avg":
        return sum(map(Fraction, numbers), Fraction(0)) / len(numbers)
    return min(numbers) if function == "min" else max(numbers)


def _time(seen: Seen) -> int:
    return seen.time_ms
