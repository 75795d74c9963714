"""Older events of a window in parts, where a person has too many to keep each: a sum, a count, a sketch for each part.

Owns: the coarse part of a cell, ``[frontier, ends, ...columns]``: events before the instant ``frontier`` are in hops, all
others are entries. ``ends`` has the last instant of each hop, in order; the columns have what is kept of its events:
the number of a ``count``; the total of a ``sum``; number and total of an ``avg``; the least or greatest of ``min`` and ``max``; the
instant and value of ``first``; a sketch of ``distinct``.
A hop counts as if all of its events had happened at its last instant. Hops of a duration lie on a grid of a fixed part of
the window, so that hops of two profiles are the same ones. Those of a day, a week or a month lie on quarters of an hour: local
days begin at one, so nothing is lost but by ``distinct``. All events of one session are one hop, named by an instant in
it: sessions are joined and never divided, so nothing is lost there either.
Invariant: the value is the exact one of a window that begins less than a hop earlier (``ms``); of ``distinct``, the estimate of that.
Not here: entries (opportune.features.entries), values as codes (.values), how many (.limits).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, TypeAlias

from opportune.audiences.durations import rough_text
from opportune.features import limits as counted
from opportune.features import sketches
from opportune.features.entries import Windowed
from opportune.features.limits import Limits
from opportune.features.values import Code, packed, total, unpacked

QUARTER_MS = 15 * 60_000
Row: TypeAlias = list[Any]


def _joined_number(one: Row, other: Row) -> Row:
    return [one[0] + other[0]]


def _joined_total(one: Row, other: Row) -> Row:
    return [packed(unpacked(one[0]) + unpacked(other[0]))]


def _joined_average(one: Row, other: Row) -> Row:
    return [one[0] + other[0], packed(unpacked(one[1]) + unpacked(other[1]))]


def _joined_first(one: Row, other: Row) -> Row:
    """Of one instant the first that came here; of two profiles the one whose code is less."""
    return one if one[0] <= other[0] else other


SUMMARIES: dict[str, tuple[Callable[[Sequence[int], Sequence[Code]], Row], Callable[[Row, Row], Row]]] = {
    "count": (lambda times, _: [len(times)], _joined_number),
    "sum": (lambda _, codes: [packed(total(codes))], _joined_total),
    "avg": (lambda _, codes: [len(codes), packed(total(codes))], _joined_average),
    "min": (lambda _, codes: [min(codes, key=unpacked)], lambda one, other: [min(one[0], other[0], key=unpacked)]),
    "max": (lambda _, codes: [max(codes, key=unpacked)], lambda one, other: [max(one[0], other[0], key=unpacked)]),
    "first": (lambda times, codes: [times[0], codes[0]], _joined_first),
    "distinct": (lambda _, codes: [sketches.sketch_of(codes)], lambda one, other: [sketches.joined(one[0], other[0])]),
}
"""By function: what is kept of events in order of instant, and what of the events of two parts, the older one first."""


class Hops:
    """The hops of an aggregate within a window.

    Args:
        function: of the aggregate.
        windowed: its window.
        limits: how many there may be.

    Attributes:
        ms: their length; 0 where they are sessions.
        exact: whether the value is that of the window itself.
    """

    def __init__(self, function: str, windowed: Windowed, limits: Limits) -> None:
        self.summary, self.join = SUMMARIES[function]
        self.session = windowed.kind == "session"
        self.ms = 0
        if windowed.kind == "duration":
            self.ms = -(-windowed.ms // (limits.sketches if function == "distinct" else limits.hops))
        elif not self.session:
            parts = limits.sketches if function == "distinct" else limits.quarters
            self.ms = QUARTER_MS * -(-windowed.kept_ms // (QUARTER_MS * parts))
        self.exact = function != "distinct" and (self.session or self.ms == QUARTER_MS)
        self.error = "" if self.exact or self.session else f"of a window up to {rough_text(self.ms)} longer"
        if function == "distinct":
            self.error = f"{self.error}, by a sketch of {sketches.ERROR:.1%} standard error".lstrip(", ")

    def coarsen(self, cell: list[Any], width: int, most: int, around: Any) -> None:
        """Moves the oldest entries into hops, whole hops at a time, until no more than ``most`` are left.

        Args:
            cell: entries, and behind them the coarse part where there is one.
            width: how many columns the entries have.
            most: entries that may stay.
            around: the sessions, for a window that is one.
        """
        times = cell[0]
        if len(times) <= most:
            return
        last = self._last(times[len(times) - most - 1], around)
        moved = bisect_right(times, last)
        if len(cell) == width:
            cell.append([last + 1, []])
        coarse = cell[width]
        coarse[0] = max(coarse[0], last + 1)
        self.take(coarse, [column[:moved] for column in cell[:width]], around)
        for column in cell[:width]:
            del column[:moved]

    def take(self, coarse: list[Any], columns: list[list[Any]], around: Any) -> None:
        """Puts entries, in order of instant, into their hops."""
        times, codes = columns[0], columns[1] if len(columns) > 1 else []
        counted.coarsened[0] += len(times)
        if self.session:
            self._named(coarse, around)
        at = 0
        for end, group in groupby(times, lambda t: self._end(t, around)):
            until = at + sum(1 for _ in group)
            self._put(coarse, end, self.summary(times[at:until], codes[at:until]))
            at = until

    def _put(self, coarse: list[Any], end: int, row: Row) -> None:
        """Joins a row with what its hop has; a hop's own row is the one that was there first."""
        ends = coarse[1]
        if len(coarse) == 2:
            coarse.extend([] for _ in row)
        place = bisect_left(ends, end)
        if place < len(ends) and ends[place] == end:
            row = self.join([column[place] for column in coarse[2:]], row)
            for column, value in zip(coarse[2:], row, strict=True):
                column[place] = value
            return
        ends.insert(place, end)
        for column, value in zip(coarse[2:], row, strict=True):
            column.insert(place, value)

    def _end(self, t: int, around: Any) -> int:
        """The last instant of the hop that an instant is in; of a session an instant in it."""
        if not self.session:
            return (t // self.ms + 1) * self.ms - 1
        found = _session(t, around)
        return t if found is None else found[0]

    def _last(self, t: int, around: Any) -> int:
        """The last instant that is moved together with an entry."""
        if not self.session:
            return self._end(t, around)
        found = _session(t, around)
        return t if found is None else found[1]

    def _named(self, coarse: list[Any], around: Any) -> None:
        """Names each hop by the first instant of the session that it is in by now, and joins those of one session."""
        if not around:
            return
        rows = list(zip(*coarse[1:], strict=True))
        coarse[1:] = [[] for _ in coarse[1:]]
        for end, *row in rows:
            self._put(coarse, self._end(end, around), row)

    def forget(self, cell: list[Any], width: int, oldest: int) -> None:
        """Lets go of hops that no window can hold any more."""
        coarse = cell[width]
        gone = bisect_right(coarse[1], oldest)
        if gone:
            for column in coarse[1:]:
                del column[:gone]
        if not coarse[1] and coarse[0] <= oldest + 1:
            del cell[width]

    def inside(self, coarse: list[Any], start: int) -> list[list[Any]]:
        """``[ends, ...columns]`` of the hops that a window holds.

        Args:
            coarse: the coarse part.
            start: the window's first instant.
        """
        at = bisect_left(coarse[1], start)
        return [column[at:] for column in coarse[1:]]

    def merged(self, parts: list[list[Any]]) -> list[Any]:
        """The coarse part of two profiles, or of one."""
        both: list[Any] = [max(part[0] for part in parts), []]
        rows = [row for part in parts for row in zip(*part[1:], strict=True)]
        # Of one instant the hop of either profile may be the first: that with the lesser text is, whoever is which.
        for end, *row in sorted(rows, key=lambda row: (row[0], repr(row[1:]))):
            self._put(both, end, row)
        return both


def _session(t: int, around: Any) -> list[int] | None:
    """The session that an instant is in."""
    if not around:
        return None
    place = bisect_right(around, t, key=_first) - 1
    found: list[int] = around[place]
    return found if place >= 0 and t <= found[1] else None


def _first(session: list[int]) -> int:
    return session[0]
