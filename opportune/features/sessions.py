"""Sessions of a person: the stretches of events of any kind, cut wherever a step between neighbours is long enough.

Owns: the cell ``[[first, last], ...]`` in order of time. Invariant: neighbours are a gap or more apart; what is too old for
a late event to reach is let go, the newest one never. Beyond ``SESSIONS_MAX`` the oldest go, and that is counted.
Not here: windows over the newest session (opportune.features.entries).
"""

from __future__ import annotations

from opportune.features.limits import FULL, dropped

SESSIONS_MAX = FULL.entries
"""With a gap of seconds and a lateness of days there could be more of them than anybody needs."""


class Sessions:
    """The sessions of a profile.

    Args:
        gap_ms: a step this long, or longer, ends a session.
        lateness_ms: how late an event may be.
    """

    def __init__(self, gap_ms: int, lateness_ms: int) -> None:
        self.gap_ms = gap_ms
        self.lateness_ms = lateness_ms

    def put(self, cell: list[list[int]], t: int, now: int) -> None:
        """Takes an event at ``t`` in."""
        gap = self.gap_ms
        if cell and cell[-1][0] <= t < cell[-1][1] + gap:
            cell[-1][1] = max(cell[-1][1], t)
        else:
            self._insert(cell, [t, t])
        while len(cell) > 1 and cell[0][1] < now - self.lateness_ms - gap:
            del cell[0]
        self._bound(cell)

    @staticmethod
    def _bound(cell: list[list[int]]) -> None:
        if len(cell) > SESSIONS_MAX:
            dropped[0] += len(cell) - SESSIONS_MAX
            del cell[:-SESSIONS_MAX]

    def _insert(self, cell: list[list[int]], new: list[int]) -> None:
        apart = [each for each in cell if new[0] - each[1] >= self.gap_ms or each[0] - new[1] >= self.gap_ms]
        near = [each for each in cell if each not in apart]
        joined = [min(each[0] for each in (*near, new)), max(each[1] for each in (*near, new))]
        cell[:] = sorted([*apart, joined])

    def merge(self, one: list[list[int]], other: list[list[int]]) -> list[list[int]]:
        """The sessions of the merged log."""
        cell: list[list[int]] = [list(each) for each in one]
        for each in other:
            self._insert(cell, list(each))
        self._bound(cell)
        return cell
