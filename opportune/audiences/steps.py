"""Predicates on counts, as steps over the whole numbers: from which count on they hold.

Owns: ``steps``, which is what the plan keeps a count for, and the generated code and the sentences tell apart.
Not here: predicates on values (opportune.audiences.predicate).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from math import floor

import msgspec

from opportune.audiences import predicate as predicates
from opportune.audiences.schema import Predicate
from opportune.profile import NEVER


class Steps(msgspec.Struct, frozen=True):
    """A predicate on counts: ``truths[i]`` holds from ``starts[i]`` on, up to the next start. ``starts[0]`` is 0."""

    starts: tuple[int, ...]
    truths: tuple[bool, ...]

    def holds(self, count: int) -> bool:
        """Whether the predicate holds for a count."""
        return self.truths[bisect_right(self.starts, count) - 1]

    @property
    def cap(self) -> int:
        """Counts from here on are all alike."""
        return self.starts[-1]


@lru_cache(maxsize=4_096)
def steps(predicate: Predicate) -> Steps:
    """The predicate of ``times`` as steps over the whole numbers."""
    test = predicates.function(predicate)
    points = {0}
    for comparison in predicate.comparisons:
        operands = comparison.operand if isinstance(comparison.operand, tuple) else (comparison.operand,)
        for operand in operands:
            if isinstance(operand, int | Decimal) and not isinstance(operand, bool):
                points |= {max(0, floor(operand) + extra) for extra in (0, 1)}
    starts: list[int] = []
    truths: list[bool] = []
    for point in sorted(points):
        truth = test(point)
        if not truths or truth != truths[-1]:
            starts.append(point)
            truths.append(truth)
    return Steps(tuple(starts), tuple(truths))


def counted(ring: list[int], now: int, within: int, holds: Callable[[int], bool]) -> tuple[bool, int]:
    """Whether a predicate holds for the number of instants in a window, and when that changes by itself.

    Args:
        ring: instants in ascending order.
        now: milliseconds.
        within: the window's length, milliseconds: it holds instants t with now - within < t <= now.
        holds: the predicate on the count.
    """
    start = bisect_right(ring, now - within)
    value = holds(len(ring) - start)
    while start < len(ring):
        instant = ring[start]
        start = bisect_right(ring, instant)
        if holds(len(ring) - start) != value:
            return value, instant + within
    return value, NEVER
