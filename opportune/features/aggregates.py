"""count, sum, avg, min, max, distinct, first and last of events in a window.

Owns: what is kept of each, its value and the earliest instant at which time alone can change it, and its merge.
Without a window (``ever``) a few values are kept: ``[total]``, ``[total, count]``, ``[least]``, ``[{value: 1}]`` (with more
values than are kept ``[{}, sketch]``) or ``[instant, value]``; with one ``[instants, values]``, of a count ``[instants]``: the
entries that it can still hold and that can still matter, and behind them the hops of older ones where there are too many
(opportune.features.hops). Windows are the newest part of time, so these do not matter any more:

    last         all but the newest
    min, max     those that are not less (greater) than a later one
    distinct     all but the newest of each value

Invariant: two states merge into that of the merged log; of two values of one instant in two profiles, whose order nobody
knows, the greater code counts as the later one.
Not here: values as codes (.values), predicates (opportune.audiences.predicate).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

from msgspec import UNSET

from opportune.audiences.schema import AggregateValue
from opportune.features import entries, sketches
from opportune.features.entries import Windowed, first_inside
from opportune.features.hops import Hops
from opportune.features.limits import FULL, Limits, coarsened
from opportune.features.values import (
    CODE_CHARS_MAX,
    Code,
    identity,
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
ZERO = frozenset(("count", "sum", "distinct"))
"""Functions that are 0 where there is nothing to see."""


class Aggregate:
    """A value of events.

    Args:
        value: which.
        lateness_ms: how late an event may be.
        gap_ms: the pause that ends a session.
        limits: of what is kept of one person.
    """

    def __init__(self, value: AggregateValue, lateness_ms: int, gap_ms: int, limits: Limits = FULL) -> None:
        self.function = value.function
        self.instants = value.instants
        self.windowed = Windowed(value.window, lateness_ms, gap_ms)
        self.ever = value.window.kind == "ever"
        self.limits = limits
        self.width = 1 if value.function == "count" else 2
        self.appends = value.function in ("count", "sum", "avg", "first")
        coarse = not self.ever and value.function != "last"
        self.hops = Hops(value.function, self.windowed, limits) if coarse else None

    def codes(self, value: Any) -> list[Code]:
        """What the aggregate sees of a property."""
        if self.function in NUMERIC:
            return number_codes(value)
        codes = scalar_codes(value, instants=self.instants)
        if self.function == "distinct":
            for place, code in enumerate(codes):
                if code.__class__ is str and len(code) > CODE_CHARS_MAX:
                    codes[place] = identity(code)
        return codes

    def put(self, cell: list[Any], value: Any, t: int, now: int, around: Any) -> None:
        """Takes an event in.

        Args:
            cell: the state; empty before the first event.
            value: of the property.
            t: the event's effective time, milliseconds.
            now: milliseconds.
            around: the sessions, for a window that is one.
        """
        if self.ever:
            if self.function == "count":
                cell[:] = [(cell[0] if cell else 0) + 1]
                return
            for code in self.codes(value):
                self._add(cell, code, t)
            return
        if self.appends and len(cell) == self.width and cell[0] and t >= cell[0][-1]:
            # The usual event: newer than all others, and nobody has too many.
            times = cell[0]
            if self.width == 1:
                times.append(t)
            else:
                for code in self.codes(value):
                    times.append(t)
                    cell[1].append(code)
            if times[0] <= now - self.windowed.kept_ms or len(times) > self.limits.entries:
                self._tidy(cell, now, around)
            return
        if self.width == 1:
            self._enter(cell, t, (), around)
        else:
            for code in self.codes(value):
                self._enter(cell, t, (code,), around)
        if cell:
            self._tidy(cell, now, around)

    def _enter(self, cell: list[Any], t: int, codes: tuple[Code, ...], around: Any) -> None:
        """Adds an entry where it can matter."""
        width, function = self.width, self.function
        if len(cell) > width and t < cell[width][0] and self.hops is not None:
            if function != "distinct" or codes[0] not in cell[1]:
                self.hops.take(cell[width], [[t], *([code] for code in codes)], around)
            return
        if not cell:
            cell.extend([] for _ in range(width))
        times = cell[0]
        if function == "last":
            if not times or t >= times[-1]:
                cell[:] = [[t], [*codes]]
            return
        if function in ("min", "max"):
            if not self._beats(cell, t, codes[0]):
                return
        elif function == "distinct" and codes[0] in cell[1]:
            place = cell[1].index(codes[0])
            if times[place] >= t:
                return
            del times[place], cell[1][place]
        if codes and (not times or t >= times[-1]):
            times.append(t)
            cell[1].append(codes[0])
        else:
            entries.put(cell, t, *codes)

    def _beats(self, cell: list[Any], t: int, code: Code) -> bool:
        """Lets go of the entries that a new one leaves without weight; whether it has any itself."""
        times, codes = cell[0], cell[1]
        sign = 1 if self.function == "min" else -1
        number = sign * unpacked(code)
        place = bisect_right(times, t)
        if place < len(times) and sign * unpacked(codes[place]) <= number:
            return False
        first = place
        while first and sign * unpacked(codes[first - 1]) >= number:
            first -= 1
        del times[first:place], codes[first:place]
        return True

    def _tidy(self, cell: list[Any], now: int, around: Any) -> None:
        """Lets go of what no window can hold any more, and keeps within the limits."""
        width, oldest = self.width, self.windowed.oldest(now, around)
        times = cell[0]
        if times and times[0] <= oldest:
            entries.forget(cell, width, oldest)
        if self.hops is None:
            return
        if len(times) > self.limits.entries:
            self.hops.coarsen(cell, width, self.limits.entries, around)
        if len(cell) > width:
            self.hops.forget(cell, width, oldest)

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
            cell[0][code] = 1
            if len(cell) > 1 or len(cell[0]) > self.limits.entries:
                self._sketch(cell)
        elif t < cell[0] if function == "first" else t >= cell[0]:
            cell[:] = [t, code]

    def _sketch(self, cell: list[Any]) -> None:
        """Puts the values of all time into a sketch."""
        coarsened[0] += len(cell[0])
        cell[:] = [{}, sketches.sketch_of(cell[0], cell[1] if len(cell) > 1 else None)]

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
        if len(cell) > self.width and self.hops is not None:
            ends, *columns = self.hops.inside(cell[self.width], start)
            if ends:
                codes = [] if self.width == 1 else cell[1][at:]
                value = self._with_hops(columns, codes, len(times) - at)
                return value, ends[0] + self.windowed.ms if end == NEVER else end
        if at == len(times):
            return (0 if self.function in ZERO else UNSET), NEVER
        if end == NEVER:
            end = times[at] + self.windowed.ms
        if self.width == 1:
            return len(times) - at, end
        return self._of(cell[1][at:] if at else cell[1]), end

    def _whole(self, cell: list[Any]) -> Any:
        if not cell:
            return 0 if self.function in ZERO else UNSET
        if self.function == "count":
            return cell[0]
        if self.function == "avg":
            return quotient(unpacked(cell[0]), cell[1])
        if self.function == "distinct":
            return len(cell[0]) if len(cell) == 1 else sketches.estimate(cell[1:], cell[0])
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

    def _with_hops(self, columns: list[list[Any]], codes: list[Code], count: int) -> Any:
        """The value of hops and of the entries behind them."""
        function = self.function
        if function == "count":
            return sum(columns[0]) + count
        if function == "sum":
            return number_of(total(columns[0]) + total(codes))
        if function == "avg":
            return quotient(total(columns[1]) + total(codes), sum(columns[0]) + count)
        if function == "distinct":
            return sketches.estimate(columns[0], codes)
        if function == "first":
            return value_of(columns[1][columns[0].index(min(columns[0]))])
        return self._of(columns[0] + codes)

    def approximate(self, cell: list[Any]) -> bool:
        """Whether the value of a state may differ from the exact one."""
        if self.ever:
            return self.function == "distinct" and len(cell) > 1
        return len(cell) > self.width and self.hops is not None and not self.hops.exact

    def merge(self, one: list[Any], other: list[Any]) -> list[Any]:
        """The state of the merged log."""
        if not one or not other:
            return list(one or other)
        function = self.function
        if not self.ever:
            return self._merged(one, other)
        if function == "count":
            return [one[0] + other[0]]
        if function in ("sum", "avg"):
            added = packed(unpacked(one[0]) + unpacked(other[0]))
            return [added, one[1] + other[1]] if function == "avg" else [added]
        if function in ("min", "max"):
            return [(min if function == "min" else max)(one[0], other[0], key=unpacked)]
        if function == "distinct":
            both: list[Any] = [{**one[0], **other[0]}]
            sketched = one[1:] + other[1:]
            if sketched:
                both.append(sketches.joined(*sketched) if len(sketched) > 1 else sketched[0])
            if sketched or len(both[0]) > self.limits.entries:
                self._sketch(both)
            return both
        rank = (one[0], repr(one[1])), (other[0], repr(other[1]))
        return list(one if (rank[0] > rank[1]) == (function == "last") else other)

    def _merged(self, one: list[Any], other: list[Any]) -> list[Any]:
        """The entries of both, those before the later of both frontiers in hops."""
        width, hops = self.width, self.hops
        coarse = [cell[width] for cell in (one, other) if len(cell) > width]
        cell: list[Any] = [[] for _ in range(width)]
        columns = entries.merged(one[:width], other[:width]) or [[] for _ in range(width)]
        if coarse and hops is not None:
            cell.append(hops.merged(coarse))
            below = bisect_left(columns[0], cell[width][0])
            hops.take(cell[width], [column[:below] for column in columns], None)
            columns = [column[below:] for column in columns]
        if self.function == "distinct":
            newest = dict(zip(columns[1], columns[0], strict=True))
            columns = [list(newest.values()), list(newest)]
            order = sorted(range(len(newest)), key=columns[0].__getitem__)
            columns = [[column[place] for place in order] for column in columns]
        if self.function in ("last", "min", "max"):
            for t, code in zip(*columns, strict=True):
                self._enter(cell, t, (code,), None)
        else:
            cell[:width] = columns
        if hops is not None and not hops.session:
            # Hops of sessions are made at the next event, with which the sessions come.
            hops.coarsen(cell, width, self.limits.entries, None)
        return cell
