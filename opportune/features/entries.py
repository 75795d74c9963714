"""Entries of a window: events with their instants, oldest first, and which of them a window holds.

Owns: ``[instants, ...columns]``, lists of one length in order of instant, then arrival; and windows.
Invariant: what a window can still hold at any later instant is kept; how many of it, say those who keep entries.
Windows: a duration D holds t with now - D < t <= now; a calendar unit from its local start; a session from the start
of the person's newest session while that goes on.
Not here: values (opportune.features.aggregates), how many are kept (.limits), parts of windows (.hops).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

from opportune.audiences.schema import Window
from opportune.features.calendar import DAY_MS, bounds
from opportune.profile import NEVER

UNIT_MS = {"day": 3 * DAY_MS, "week": 9 * DAY_MS, "month": 33 * DAY_MS}
"""The longest unit of a kind, and two days for zones that differ and clocks that change."""


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

    def oldest(self, now: int, around: Any) -> int:
        """The last instant that no window can hold any more; those of whole sessions that are known stay.

        Args:
            now: milliseconds.
            around: the sessions, for a window that is one.
        """
        if self.kind == "ever":
            return -NEVER
        if self.kind == "session" and around:
            return int(around[0][0]) - 1
        return now - self.kept_ms


def first_inside(times: list[int], start: int) -> int:
    """The place of the first entry at or after an instant."""
    return bisect_left(times, start)


def put(cell: list[list[Any]], t: int, *values: Any) -> None:
    """Adds an entry behind those of the same instant; columns behind its own stay as they are."""
    if not cell:
        cell.extend([] for _ in range(len(values) + 1))
    times = cell[0]
    if not times or t >= times[-1]:
        times.append(t)
        for column, value in zip(cell[1:], values, strict=False):
            column.append(value)
        return
    place = bisect_right(times, t)
    times.insert(place, t)
    for column, value in zip(cell[1:], values, strict=False):
        column.insert(place, value)


def forget(cell: list[list[Any]], width: int, oldest: int) -> None:
    """Lets go of entries up to an instant, in the first columns."""
    gone = bisect_right(cell[0], oldest)
    if gone:
        for column in cell[:width]:
            del column[:gone]


def merged(one: list[list[Any]], other: list[list[Any]]) -> list[list[Any]]:
    """The entries of both in order of instant; of one instant in an order whoever is which."""
    if not one or not other:
        return [list(column) for column in one or other]
    rows = sorted([*zip(*one, strict=True), *zip(*other, strict=True)], key=lambda row: (row[0], repr(row[1:])))
    return [list(column) for column in zip(*rows, strict=True)]
