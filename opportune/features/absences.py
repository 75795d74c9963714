"""Something that did not follow in time.

Owns: the cell ``[{value of by: [a, n]}]`` (without ``by`` one value, ""): ``a`` the newest ``after`` event, ``n`` the newest event that
only ``absent`` takes; ``NONE`` where there was none. That is enough: an older ``after`` never counts again, and of the
``absent`` events only whether one is not before ``a``. Behind the values is, where some were let go since a person has too
many, the newest instant of those.
Invariant: value and merge are those of the whole log, as long as no more values of ``by`` than ``Limits.entries`` are inside;
beyond that the oldest go, and that is counted.
Not here: which events are which (the generated code tests their ``where``).
"""

from __future__ import annotations

from typing import Any

from opportune.audiences.schema import AbsentCondition
from opportune.features.entries import Windowed
from opportune.features.limits import FULL, Limits, dropped
from opportune.features.values import Code, code_of, identity
from opportune.profile import NEVER

ABSENT, AFTER = 0, 1
"""The places of the two events in masks and values."""
NONE = -(1 << 62)
KEYS_SWEPT = 64
"""Values of ``by`` that the window has left are let go whenever this many came new."""


class Absence:
    """An absence of a person.

    Args:
        condition: what should have followed what.
        lateness_ms: how late an event may be.
        gap_ms: the pause that ends a session.
        limits: of what is kept of one person.
    """

    def __init__(self, condition: AbsentCondition, lateness_ms: int, gap_ms: int, limits: Limits = FULL) -> None:
        self.most = limits.entries
        self.for_ms = condition.for_ms
        self.instants = (condition.absent.by_instants, condition.after.by_instants)
        self.keyed = condition.after.by is not None
        self.windowed = Windowed(condition.window, lateness_ms, gap_ms)

    def put(self, cell: list[Any], mask: int, values: tuple[Any, ...], t: int, now: int, around: Any) -> None:
        """Takes an event in; arguments as those of a sequence whose steps are ``absent`` and ``after``."""
        if not cell:
            cell.append({})
        pairs: dict[Code, list[int]] = cell[0]
        known = len(pairs)
        after = self._key(AFTER, mask, values)
        absent = self._key(ABSENT, mask, values)
        if after is not None:
            pair = pairs.setdefault(after, [NONE, NONE])
            pair[0] = max(pair[0], t)
        if absent is not None and absent != after:
            pair = pairs.setdefault(absent, [NONE, NONE])
            pair[1] = max(pair[1], t)
        if len(pairs) != known and (len(pairs) > self.most or len(pairs) % KEYS_SWEPT == 0):
            self._sweep(cell, self.windowed.oldest(now, around))

    def _key(self, place: int, mask: int, values: tuple[Any, ...]) -> Code | None:
        if not mask >> place & 1:
            return None
        if not self.keyed:
            return ""
        code = code_of(values[place], instants=self.instants[place])
        return None if code is None else identity(code)

    def _sweep(self, cell: list[Any], oldest: int) -> None:
        """Lets go of the values that the window has left, and of the oldest eighth where there are too many."""
        pairs: dict[Code, list[int]] = cell[0]
        for key in [key for key, pair in pairs.items() if max(pair) <= oldest]:
            del pairs[key]
        if len(cell) > 1 and cell[1] <= oldest:
            del cell[1]
        if len(pairs) <= self.most:
            return
        gone = len(pairs) - max(self.most * 7 // 8, 1)
        # Of one instant whoever is which goes first, so that it does not matter how two profiles were merged.
        order = sorted(pairs, key=lambda key: (max(pairs[key]), repr(key)))
        cell[1:] = [max([max(pairs[order[gone - 1]]), *cell[1:]])]
        for key in order[:gone]:
            del pairs[key]
        dropped[0] += gone

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
        cell: list[Any] = [both]
        lost = [*one[1:], *other[1:]]
        if lost:
            cell.append(max(lost))
        if len(both) > self.most:
            self._sweep(cell, NONE - 1)
        return cell

    def approximate(self, cell: list[Any]) -> bool:
        """Whether the value of a state may differ from the exact one."""
        return len(cell) > 1
