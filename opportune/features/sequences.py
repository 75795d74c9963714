"""One event for each step, one after the other, inside a window.

Owns: the cell ``[{value of by: rows}, n]``: for each value of ``by`` (without it: "") the entries ``[instants, steps]``, where an
entry's steps are a bit mask; of all values there are no more than ``n``. Behind them is, where entries were let go since a
person has too many, the instant of the newest of those. ``[1]`` where the sequence has happened and no window ends it.
Invariant: value and merge are those of the whole log, as long as no more entries than ``Limits.entries`` are inside, of all
values of ``by`` together; beyond that the oldest go, and that is counted.
Not here: which events are steps (the generated code tests their ``where``).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from typing import Any

from opportune.audiences.schema import SequenceCondition
from opportune.features import entries
from opportune.features.entries import Windowed, first_inside
from opportune.features.limits import FULL, Limits, dropped
from opportune.features.values import Code, code_of, identity
from opportune.profile import NEVER

KEYS_SWEPT = 64
"""Values of ``by`` that the window has left are let go whenever this many came new."""
FIRSTS_LOOKED_AT = 100
SCANNED_MAX = 32
"""With more entries than this, all steps are looked for in one pass."""


class Sequence:
    """A sequence of a person.

    Args:
        condition: its steps.
        lateness_ms: how late an event may be.
        gap_ms: the pause that ends a session.
        limits: of what is kept of one person.
    """

    def __init__(self, condition: SequenceCondition, lateness_ms: int, gap_ms: int, limits: Limits = FULL) -> None:
        self.most = limits.entries
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
            cell.extend(({}, 0))
        states: dict[Code, list[list[int]]] = cell[0]
        known = len(states)
        for key, steps in self._keys(mask, values).items():
            rows = states.setdefault(key, [])
            entries.put(rows, t, steps)
            entries.forget(rows, 2, self.windowed.oldest(now, around))
            if self.ever and self._latest(rows, 0) is not None:
                cell[:] = [1]
                return
            cell[1] += 1
        if cell[1] > self.most or (len(states) != known and len(states) % KEYS_SWEPT == 0):
            self._sweep(cell, self.windowed.oldest(now, around))

    def _sweep(self, cell: list[Any], oldest: int) -> None:
        """Lets go of what the window has left, and of the oldest eighth where there is too much."""
        states: dict[Code, list[list[int]]] = cell[0]
        for key, rows in list(states.items()):
            entries.forget(rows, 2, oldest)
            if not rows[0]:
                del states[key]
        cell[1] = sum(len(rows[0]) for rows in states.values())
        if len(cell) > 2 and cell[2] <= oldest:
            del cell[2]
        if cell[1] <= self.most:
            return
        gone = cell[1] - max(self.most * 7 // 8, 1)
        # Of one instant whoever is which goes first, so that it does not matter how two profiles were merged.
        order = sorted((t, repr(key), place) for key, rows in states.items() for place, t in enumerate(rows[0]))
        newest, counts = order[gone - 1][0], Counter(key for _, key, _ in order[:gone])
        for key, rows in list(states.items()):
            for column in rows:
                del column[: counts[repr(key)]]
            if not rows[0]:
                del states[key]
        dropped[0] += gone
        cell[1:] = [cell[1] - gone, max([newest, *cell[2:]])]

    def _keys(self, mask: int, values: tuple[Any, ...]) -> dict[Code, int]:
        if not self.keyed:
            return {"": mask}
        keys: dict[Code, int] = {}
        for step in range(self.steps):
            if mask >> step & 1:
                key = code_of(values[step], instants=self.instants[step])
                if key is not None:
                    key = identity(key)
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

    def furthest(self, cell: list[Any], now: int, around: Any) -> tuple[Code | None, list[int]]:
        """For people: the longest beginning of the sequence inside the window, of which value of ``by`` and at which instants.

        Of several the latest one; of very many entries only the newest first steps are looked at.
        """
        start, _ = self.windowed.start(now, around)
        best: tuple[int, int, str] = (0, 0, "")
        found: tuple[Code | None, list[int]] = None, []
        for key, (times, masks) in cell[0].items() if cell else ():
            firsts = [place for place in range(first_inside(times, start), len(times)) if masks[place] & 1]
            for first in firsts[-FIRSTS_LOOKED_AT:]:
                reached = self._reached(times, masks, first)
                if (len(reached), reached[0], repr(key)) > best:
                    best, found = (len(reached), reached[0], repr(key)), (key, reached)
        return found

    def _reached(self, times: list[int], masks: list[int], first: int) -> list[int]:
        """The instants of the steps that follow a first event, each the earliest that can be."""
        reached, place = [times[first]], first
        for step in range(1, self.steps):
            place = bisect_left(times, reached[-1] + self.step_ms, place)
            while place < len(times) and not masks[place] >> step & 1:
                place += 1
            if place == len(times) or (self.span_ms is not None and times[place] - times[first] >= self.span_ms):
                break
            reached.append(times[place])
        return reached

    def _latest(self, rows: list[list[int]], at: int) -> int | None:
        """The latest instant, from a place on, with which a sequence begins; None where there is none."""
        times, masks = rows
        if len(times) - at > SCANNED_MAX:
            return (
                self._latest_of_many(times, masks, at) if self.span_ms is not None else self._backward(times, masks, at)
            )
        for first in range(len(times) - 1, at - 1, -1):
            if masks[first] & 1 and self._follows(times, masks, first):
                return times[first]
        return None

    def _backward(self, times: list[int], masks: list[int], at: int) -> int | None:
        """As ``_latest`` without a span: the latest event for each step, from the last one on, leaves most room before it."""
        place, until = len(times), NEVER
        for step in range(self.steps - 1, -1, -1):
            bit = 1 << step
            place = bisect_right(times, until, at, place)
            while place > at and not masks[place - 1] & bit:
                place -= 1
            if place == at:
                return None
            place -= 1
            until = times[place] - self.step_ms
        return times[place]

    def _latest_of_many(self, times: list[int], masks: list[int], at: int) -> int | None:
        """As ``_latest``, in a time that grows with the entries and not with their square.

        From the end on: for each entry and step the earliest instant by which that step and all behind it can have followed,
        if the step is that entry or a later one.
        """
        count, last = len(times), self.steps - 1
        earliest = [[NEVER] * (count + 1) for _ in range(self.steps)]
        following = count
        for place in range(count - 1, at - 1, -1):
            t, mask = times[place], masks[place]
            while following > place + 1 and times[following - 1] >= t + self.step_ms:
                following -= 1
            for step in range(self.steps):
                done = NEVER
                if mask >> step & 1:
                    done = t if step == last else earliest[step + 1][following]
                earliest[step][place] = min(done, earliest[step][place + 1])
                if step == 0 and done != NEVER and (self.span_ms is None or done - t < self.span_ms):
                    return t
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
        states = {key: rows for key, rows in both.items() if rows and rows[0]}
        cell: list[Any] = [states, sum(len(rows[0]) for rows in states.values())]
        lost = [*one[2:], *other[2:]]
        if lost:
            cell.append(max(lost))
        if cell[1] > self.most:
            self._sweep(cell, -NEVER)
        return cell

    def approximate(self, cell: list[Any]) -> bool:
        """Whether the value of a state may differ from the exact one."""
        return len(cell) > 2
