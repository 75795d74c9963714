"""Something that did not follow in time.

Owns: the cell ``[{value of by: [a, n]}]`` (without ``by`` one value, ""): ``a`` the newest ``after`` event, ``n`` the newest event that
only ``absent`` takes; ``NONE`` where there was none. That is enough: an older ``after`` never counts again, and of the
``absent`` events only whether one is not before ``a``.
Invariant: value and merge are those of the whole log, as long as no more than ``ENTRIES_MAX`` values of ``by`` are inside.
Not here: which events are which (the generated code tests their ``where``).
"""

from __future__ import annotations

from typing import Any

from opportune.audiences.schema import AbsentCondition
from opportune.features import entries
from opportune.features.entries import ENTRIES_MAX, Windowed, dropped
from opportune.features.values import Code, code_of
from opportune.profile import NEVER

ABSENT, AFTER = 0, 1
"""The places of the two events in masks and values."""
NONE = -(1 << 62)
KEYS_SWEPT = 64
"""With more values of ``by`` than this, those that the window has left are let go at each event."""


class Absence:
    """An absence of a person.

    Args:
        condition: what should have followed what.
        lateness_ms: how late an event may be.
        gap_ms: the pause that ends a session.
    """

    def __init__(self, condition: AbsentCondition, lateness_ms: int, gap_ms: int) -> None:
        self.for_ms = condition.for_ms
        self.instants = (condition.absent.by_instants, condition.after.by_instants)
        self.keyed = condition.after.by is not None
        self.windowed = Windowed(condition.window, lateness_ms, gap_ms)

    def put(self, cell: list[Any], mask: int, values: tuple[Any, ...], t: int, now: int, around: Any) -> None:
        """Takes an event in; arguments as those of a sequence whose steps are ``absent`` and ``after``."""
        if not cell:
            cell.append({})
        pairs: dict[Code, list[int]] = cell[0]
        after = self._key(AFTER, mask, values)
        absent = self._key(ABSENT, mask, values)
        if after is not None:
            pair = pairs.setdefault(after, [NONE, NONE])
            pair[0] = max(pair[0], t)
        if absent is not None and absent != after:
            pair = pairs.setdefault(absent, [NONE, NONE])
            pair[1] = max(pair[1], t)
        if len(pairs) > KEYS_SWEPT:
            self._sweep(pairs, now, around)

    def _key(self, place: int, mask: int, values: tuple[Any, ...]) -> Code | None:
        if not mask >> place & 1:
            return None
        return code_of(values[place], instants=self.instants[place]) if self.keyed else ""

    def _sweep(self, pairs: dict[Code, list[int]], now: int, around: Any) -> None:
        oldest = now - self.windowed.kept_ms
        if self.windowed.kind == "session" and around:
            oldest = min(oldest, around[-1][0] - 1)
        if self.windowed.kind != "ever":
            for key in [key for key, pair in pairs.items() if max(pair) <= oldest]:
                del pairs[key]
        if len(pairs) > ENTRIES_MAX:
            dropped[0] += 1
            del pairs[min(pairs, key=lambda key: max(pairs[key]))]

    def look(self, cell: list[Any], now: int, around: Any) -> tuple[bool, int]:
        """Whether something did not follow, and when that can change by itself; arguments as an aggregate's."""
        start, end = self.windowed.start(now, around)
        length = self.windowed.ms if self.windowed.kind == "duration" else NEVER
        value, ends, begins = False, NONE, NEVER
        for after, absent in cell[0].values() if cell else ():
            if after < start or absent >= after:
                continue
            until = min(end, after + length)
            if after + self.for_ms <= now:
                value, ends = True, max(ends, until)
            elif after + self.for_ms < until:
                begins = min(begins, after + self.for_ms)
        if value:
            # It stays true at least until the last of those that hold ends; one that begins meanwhile changes nothing.
            return True, min(ends, NEVER)
        return False, begins

    def merge(self, one: list[Any], other: list[Any]) -> list[Any]:
        """The state of the merged log."""
        if not one or not other:
            return list(one or other)
        keys = {**one[0], **other[0]}
        nothing = [NONE, NONE]
        both = {
            key: [max(pair) for pair in zip(one[0].get(key, nothing), other[0].get(key, nothing), strict=True)]
            for key in keys
        }
        return [entries.newest(both, max)]
