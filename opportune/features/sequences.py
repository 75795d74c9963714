"""One event for each step, one after the other, inside a window.

Owns: the cell: for each value of ``by`` (without it: one) the entries ``[instants, steps]``, where an entry's steps are a bit
mask. ``[1]`` where the sequence has happened and no window ends it.
Invariant: value and merge are those of the whole log, as long as no more than ``ENTRIES_MAX`` values of ``by``, each
with no more than ``ENTRIES_MAX`` entries, are inside; beyond that the oldest go, and that is counted.
Not here: which events are steps (the generated code tests their ``where``).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from opportune.audiences.schema import SequenceCondition
from opportune.features import entries
from opportune.features.entries import Windowed, first_inside
from opportune.features.values import Code, code_of
from opportune.profile import NEVER

KEYS_SWEPT = 64
"""With more values of ``by`` than this, those that the window has left are let go at each event."""


class Sequence:
    """A sequence of a person.

    Args:
        condition: its steps.
        lateness_ms: how late an event may be.
        gap_ms: the pause that ends a session.
    """

    def __init__(self, condition: SequenceCondition, lateness_ms: int, gap_ms: int) -> None:
        self.steps = len(condition.steps)
        self.span_ms = condition.span_ms
        self.step_ms = max(1, condition.gap_ms)
        self.instants = [step.by_instants for step in condition.steps]
        self.keyed = condition.steps[0].by is not None
        self.windowed = Windowed(condition.window, lateness_ms, gap_ms)
        self.ever = condition.window.kind == "ever"

    def put(self, cell: list[Any], mask: int, values: tuple[Any, ...], t: int, now: int, around: Any) -> None:
        """Takes an event in.

        Args:
            cell: the state; empty before the first event.
            mask: which steps the event can be, as bits.
            values: of ``by``, a step each; None where the step is not in the mask, or there is no ``by``.
            t: the event's effective time, milliseconds.
            now: milliseconds.
            around: the sessions, for a window that is one.
        """
        if cell == [1]:
            return
        if not cell:
            cell.append({})
        for key, steps in self._keys(mask, values).items():
            rows = cell[0].setdefault(key, [])
            entries.put(rows, t, steps)
            self.windowed.forget(rows, now, around)
            if self.ever and self._latest(rows, 0) is not None:
                cell[:] = [1]
                return
        if len(cell[0]) > KEYS_SWEPT:
            for key, rows in list(cell[0].items()):
                self.windowed.forget(rows, now, around)
                if not rows[0]:
                    del cell[0][key]
            cell[0] = entries.newest(cell[0], last_instant)

    def _keys(self, mask: int, values: tuple[Any, ...]) -> dict[Code, int]:
        if not self.keyed:
            return {"": mask}
        keys: dict[Code, int] = {}
        for step in range(self.steps):
            if mask >> step & 1:
                key = code_of(values[step], instants=self.instants[step])
                if key is not None:
                    keys[key] = keys.get(key, 0) | 1 << step
        return keys

    def look(self, cell: list[Any], now: int, around: Any) -> tuple[bool, int]:
        """Whether it has happened inside the window, and when that can change by itself; arguments as an aggregate's."""
        if not cell or cell == [1]:
            return bool(cell), NEVER
        start, end = self.windowed.start(now, around)
        newest = None
        for rows in cell[0].values():
            if rows and rows[0] and rows[0][-1] >= start:
                found = self._latest(rows, first_inside(rows[0], start))
                if found is not None and (newest is None or found > newest):
                    newest = found
        if newest is None:
            return False, NEVER
        return True, end if end != NEVER or self.ever else newest + self.windowed.ms

    def _latest(self, rows: list[list[int]], at: int) -> int | None:
        """The latest instant, from a place on, with which a sequence begins; None where there is none."""
        times, masks = rows
        for first in range(len(times) - 1, at - 1, -1):
            if masks[first] & 1 and self._follows(times, masks, first):
                return times[first]
        return None

    def _follows(self, times: list[int], masks: list[int], first: int) -> bool:
        """Whether the other steps follow a first event; the earliest event for each step leaves most room for the next."""
        place, last = first, times[first]
        for step in range(1, self.steps):
            place = bisect_left(times, last + self.step_ms, place)
            while place < len(times) and not masks[place] >> step & 1:
                place += 1
            if place == len(times):
                return False
            last = times[place]
        return self.span_ms is None or last - times[first] < self.span_ms

    def merge(self, one: list[Any], other: list[Any]) -> list[Any]:
        """The state of the merged log."""
        if [1] in (one, other):
            return [1]
        if not one or not other:
            return list(one or other)
        keys = {**one[0], **other[0]}
        both = {key: entries.merged(one[0].get(key, []), other[0].get(key, [])) for key in keys}
        if self.ever and any(self._latest(rows, 0) is not None for rows in both.values() if rows):
            return [1]
        return [entries.newest({key: rows for key, rows in both.items() if rows and rows[0]}, last_instant)]


def last_instant(rows: list[list[int]]) -> int:
    """The instant of the newest entry of a value of ``by``, which has one."""
    return rows[0][-1]
