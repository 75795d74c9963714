"""Entries of a window: events with their instants, oldest first, and which of them a window holds.

Owns: ``[instants, ...columns]``, lists of one length in order of instant, then arrival; windows; how many are kept.
Invariant: what a window can still hold at any later instant is kept, up to ``ENTRIES_MAX``; beyond it the oldest go, and
that is counted (``dropped``).
Windows: a duration D holds t with now - D < t <= now; a calendar unit from its local start; a session from the start
of the person's newest session while that goes on.
Not here: values (opportune.features.aggregates).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Any

from opportune.audiences.schema import Window
from opportune.features.calendar import DAY_MS, bounds
from opportune.profile import NEVER

ENTRIES_MAX = 10_000
UNIT_MS = {"day": 3 * DAY_MS, "week": 9 * DAY_MS, "month": 33 * DAY_MS}
"""The longest unit of a kind, and two days for zones that differ and clocks that change."""
dropped = [0]
"""How many entries were let go since the start of the process because a person has too many."""


class Windowed:
    """Where a window begins.

    Args:
        window: its kind and length.
        lateness_ms: how late an event may be.
        gap_ms: the pause that ends a session.
    """

    def __init__(self, window: Window, lateness_ms: int, gap_ms: int) -> None:
        self.kind = window.kind
        self.ms = window.ms
        self.kept_ms = {"duration": window.ms, "session": lateness_ms + gap_ms}.get(
            window.kind, UNIT_MS.get(window.kind, 0)
        )
        self.gap_ms = gap_ms

    def start(self, now: int, around: Any) -> tuple[int, int]:
        """The first instant inside, and the instant at which the window as a whole ends (NEVER: it slides, or goes on).

        Args:
            now: milliseconds.
            around: the zone of a calendar window, the sessions of a session's, else None.
        """
        if self.kind == "duration":
            return now - self.ms + 1, NEVER
        if self.kind == "ever":
            return -NEVER, NEVER
        if self.kind == "session":
            if not around or now >= around[-1][1] + self.gap_ms:
                return NEVER, NEVER
            return around[-1][0], around[-1][1] + self.gap_ms
        return bounds(self.kind, now, around)

    def forget(self, cell: list[list[Any]], now: int, around: Any) -> None:
        """Lets go of entries that no window can hold any more, and of the oldest of too many."""
        times = cell[0]
        if self.kind == "ever":
            gone = 0
        else:
            oldest = now - self.kept_ms
            if self.kind == "session" and around:
                oldest = min(oldest, around[-1][0] - 1)
            gone = bisect_right(times, oldest)
        if len(times) - gone > ENTRIES_MAX:
            dropped[0] += len(times) - gone - ENTRIES_MAX
            gone = len(times) - ENTRIES_MAX
        if gone:
            for column in cell:
                del column[:gone]


def first_inside(times: list[int], start: int) -> int:
    """The place of the first entry at or after an instant."""
    return bisect_left(times, start)


def put(cell: list[list[Any]], t: int, *values: Any) -> None:
    """Adds an entry behind those of the same instant."""
    if not cell:
        cell.extend([] for _ in range(len(values) + 1))
    times = cell[0]
    if not times or t >= times[-1]:
        times.append(t)
        for column, value in zip(cell[1:], values, strict=True):
            column.append(value)
        return
    place = bisect_right(times, t)
    times.insert(place, t)
    for column, value in zip(cell[1:], values, strict=True):
        column.insert(place, value)


def newest(states: dict[Any, Any], at: Callable[[Any], int]) -> dict[Any, Any]:
    """States by key, of more than ``ENTRIES_MAX`` those of the latest instants; of one instant whoever is which.

    Args:
        states: by value of ``by``, or by value.
        at: the last instant of a state, milliseconds.
    """
    if len(states) <= ENTRIES_MAX:
        return states
    dropped[0] += len(states) - ENTRIES_MAX
    order = sorted(states, key=lambda key: (at(states[key]), repr(key)))
    return {key: states[key] for key in order[-ENTRIES_MAX:]}


def merged(one: list[list[Any]], other: list[list[Any]]) -> list[list[Any]]:
    """The newest ``ENTRIES_MAX`` entries of both in order of instant; of one instant in an order whoever is which."""
    if not one or not other:
        return [list(column) for column in one or other]
    rows = sorted([*zip(*one, strict=True), *zip(*other, strict=True)], key=lambda row: (row[0], repr(row[1:])))
    if len(rows) > ENTRIES_MAX:
        dropped[0] += len(rows) - ENTRIES_MAX
        del rows[:-ENTRIES_MAX]
    return [list(column) for column in zip(*rows, strict=True)]
