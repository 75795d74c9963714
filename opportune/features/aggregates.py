"""count, sum, avg, min, max, distinct, first and last of events in a window.

Owns: what is kept of each, its value and the earliest instant at which time alone can change it, and its merge.
Without a window (``ever``) a few values are kept: ``[total]``, ``[total, count]``, ``[least]``, ``[{value: 1}]`` or
``[instant, value]``; with one the entries that it can still hold (opportune.features.entries).
Invariant: two states merge into that of the merged log; of two values of one instant in two profiles, whose order nobody
knows, the greater code counts as the later one.
Not here: values as codes (.values), predicates (opportune.audiences.predicate).
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from opportune.audiences.schema import AggregateValue
from opportune.features import entries
from opportune.features.entries import ENTRIES_MAX, Windowed, dropped, first_inside
from opportune.features.values import (
    Code,
    number_codes,
    number_of,
    packed,
    quotient,
    scalar_codes,
    total,
    unpacked,
    value_of,
)
from opportune.profile import NEVER

NUMERIC = frozenset(("sum", "avg", "min", "max"))
FUNCTIONS = ("sum", "avg", "min", "max", "distinct", "first", "last")


class Aggregate:
    """A value of events.

    Args:
        value: which.
        lateness_ms: how late an event may be.
        gap_ms: the pause that ends a session.
    """

    def __init__(self, value: AggregateValue, lateness_ms: int, gap_ms: int) -> None:
        self.function = value.function
        self.instants = value.instants
        self.windowed = Windowed(value.window, lateness_ms, gap_ms)
        self.ever = value.window.kind == "ever"

    def codes(self, value: Any) -> list[Code]:
        """What the aggregate sees of a property."""
        if self.function in NUMERIC:
            return number_codes(value)
        return scalar_codes(value, instants=self.instants)

    def put(self, cell: list[Any], value: Any, t: int, now: int, around: Any) -> None:
        """Takes an event in.

        Args:
            cell: the state; empty before the first event.
            value: of the property.
            t: the event's effective time, milliseconds.
            now: milliseconds.
            around: the sessions, for a window that is one.
        """
        if self.function == "count":
            if self.ever:
                cell[:] = [(cell[0] if cell else 0) + 1]
                return
            entries.put(cell, t)
        elif self.ever:
            for code in self.codes(value):
                self._add(cell, code, t)
            return
        else:
            for code in self.codes(value):
                entries.put(cell, t, code)
        if cell:
            self.windowed.forget(cell, now, around)

    def _add(self, cell: list[Any], code: Code, t: int) -> None:
        """Adds one value to what is kept of all."""
        function = self.function
        if not cell:
            first: dict[str, list[Any]] = {
                "avg": [code, 1],
                "distinct": [{code: 1}],
                "first": [t, code],
                "last": [t, code],
            }
            cell.extend(first.get(function, [code]))
        elif function in ("sum", "avg"):
            cell[0] = packed(unpacked(cell[0]) + unpacked(code))
            if function == "avg":
                cell[1] += 1
        elif function == "min":
            cell[0] = min(cell[0], code, key=unpacked)
        elif function == "max":
            cell[0] = max(cell[0], code, key=unpacked)
        elif function == "distinct":
            if len(cell[0]) < ENTRIES_MAX:
                cell[0][code] = 1
            elif code not in cell[0]:
                dropped[0] += 1
        elif t < cell[0] if function == "first" else t >= cell[0]:
            cell[:] = [t, code]

    def look(self, cell: list[Any], now: int, around: Any) -> tuple[Any, int]:
        """The value now, UNSET where there is nothing to see, and the earliest instant at which it can change by itself.

        Args:
            cell: the state.
            now: milliseconds.
            around: the zone of a calendar window, the sessions of a session's, else None.
        """
        if self.ever:
            return self._whole(cell), NEVER
        start, end = self.windowed.start(now, around)
        times = cell[0] if cell else []
        at = first_inside(times, start)
        if at == len(times):
            return (0 if self.function in ("count", "sum", "distinct") else UNSET), NEVER
        if end == NEVER:
            end = (times[-1] if self.function == "last" else times[at]) + self.windowed.ms
        if self.function == "count":
            return len(times) - at, end
        return self._of(cell[1][at:] if at else cell[1]), end

    def _whole(self, cell: list[Any]) -> Any:
        if not cell:
            return 0 if self.function in ("count", "sum", "distinct") else UNSET
        if self.function == "count":
            return cell[0]
        if self.function == "avg":
            return quotient(unpacked(cell[0]), cell[1])
        if self.function == "distinct":
            return len(cell[0])
        return value_of(cell[1]) if self.function in ("first", "last") else number_of(unpacked(cell[0]))

    def _of(self, codes: list[Code]) -> Any:
        function = self.function
        if function == "sum":
            return number_of(total(codes))
        if function == "avg":
            return quotient(total(codes), len(codes))
        if function == "distinct":
            return len(set(codes))
        if function in ("first", "last"):
            return value_of(codes[0 if function == "first" else -1])
        return number_of((min if function == "min" else max)(map(unpacked, codes)))

    def merge(self, one: list[Any], other: list[Any]) -> list[Any]:
        """The state of the merged log."""
        if not one or not other:
            return list(one or other)
        function = self.function
        if not self.ever:
            return entries.merged(one, other)
        if function == "count":
            return [one[0] + other[0]]
        if function in ("sum", "avg"):
            added = packed(unpacked(one[0]) + unpacked(other[0]))
            return [added, one[1] + other[1]] if function == "avg" else [added]
        if function in ("min", "max"):
            return [(min if function == "min" else max)(one[0], other[0], key=unpacked)]
        if function == "distinct":
            return [entries.newest({**one[0], **other[0]}, lambda _: 0)]
        rank = (one[0], repr(one[1])), (other[0], repr(other[1]))
        return list(one if (rank[0] > rank[1]) == (function == "last") else other)
