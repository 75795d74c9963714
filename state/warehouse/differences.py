"""What differs between two snapshots of a table, in the columns that conditions use.

Owns: the comparison, whole columns at once, and its figures for a table.
Invariant: a profile whose row has the same values in both, or that has a row in neither, is never named.
Not here: what becomes of a difference (flows.refresh), whether it is too large (state.warehouse.guard).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from state.warehouse.index import Positions
from state.warehouse.table import WarehouseTable

SLICES = 64
"""A whole table is compared in so many parts, so that memory is bounded."""


class Difference(NamedTuple):
    """Places of rows: ``changed`` and ``added`` in the new table, ``gone`` in the old one.

    ``cells``: by column, how many values differ of rows that both have.
    """

    changed: Positions
    added: Positions
    gone: Positions
    cells: dict[str, int]


class Figures(NamedTuple):
    """The difference of two snapshots in numbers; ``before``: the rows of the old one."""

    before: int
    changed: int
    added: int
    gone: int
    cells: dict[str, int]


def difference(old: WarehouseTable, new: WarehouseTable, shard: int, shards: int) -> Difference:
    """The difference in the rows of one shard.

    Args:
        old: with the same columns as ``new``, or some of them.
        new: the newer one.
        shard: 0 to shards - 1.
        shards: how many there are.
    """
    start, end = old.index.span(shard, shards)
    mine = np.arange(start, end)
    high, low = old.index.halves
    places, found = new.index.find_halves(high[start:end], low[start:end])
    before, after = mine[found], places[found]
    differs = np.zeros(len(before), dtype=np.bool_)
    cells: dict[str, int] = {}
    for name in new.columns:
        if name not in old.columns or old.types[name] != new.types[name]:
            other = np.ones(len(before), dtype=np.bool_)
        else:
            other = ~old.column(name).same(before, new.column(name), after)
        cells[name] = int(other.sum())
        differs |= other
    start, end = new.index.span(shard, shards)
    added = np.ones(end - start, dtype=np.bool_)
    added[after - start] = False
    return Difference(after[differs], np.flatnonzero(added) + start, mine[~found], cells)


def figures(old: WarehouseTable, new: WarehouseTable) -> Figures:
    """The difference of whole tables, in numbers."""
    changed = added = gone = 0
    cells = dict.fromkeys(new.columns, 0)
    for part in range(SLICES):
        found = difference(old, new, part, SLICES)
        changed += len(found.changed)
        added += len(found.added)
        gone += len(found.gone)
        for name, count in found.cells.items():
            cells[name] += count
    return Figures(len(old), changed, added, gone, cells)
