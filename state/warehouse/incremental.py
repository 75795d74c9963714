"""Incremental refreshes: what a source has written since the last snapshot takes the place of what the snapshot has.

Owns: when an incremental refresh is possible (``Base``), how far the source was read (``mark``), and the rows of the next
snapshot, made of the last one and of what was read (``Merged``).
Invariant: a row that was read replaces the row of its key, or removes it where it says that it was deleted; every other
row stays as it is. The watermark never passes the clock, so that one row with a time far ahead hides no later one; rows
that are not below it are read again, which changes nothing.
Not here: reading (state.warehouse.writing), what a source is asked (state.warehouse.since).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from opportune.audiences.schema import Incremental, ValueType
from state.warehouse.columns import Column, Texts
from state.warehouse.index import Mask, Positions, ProfileIndex
from state.warehouse.joined import compacted, joined
from state.warehouse.keys import Arranged
from state.warehouse.manifest import Manifest, Watermark
from state.warehouse.problems import Problems
from state.warehouse.readings import Read
from state.warehouse.since import Since
from state.warehouse.table import WarehouseTable
from state.warehouse.whole import integers_of

RISING: tuple[ValueType, ...] = ("timestamp", "number")


class Base(NamedTuple):
    """The snapshot that an incremental refresh starts from, and how far its source was read."""

    manifest: Manifest
    table: WarehouseTable
    watermark: Watermark

    def since(self, incremental: Incremental) -> Since:
        """Which rows of the source are wanted."""
        back = incremental.overlap_ms if self.watermark.instants else 0
        return Since(incremental.column, self.watermark.value - back)


def is_due(incremental: Incremental, watermark: Watermark, now_ms: int) -> bool:
    """Whether all rows are to be read again; also where the clock has gone back, and nobody knows how long ago it was."""
    if incremental.full_ms is None:
        return False
    return not 0 <= now_ms - watermark.full_ms < incremental.full_ms


def mark(read: Read, incremental: Incremental, now_ms: int, before: Watermark | None, problems: Problems) -> Watermark:
    """How far the source is read with these rows.

    Args:
        read: the column that rises, of all rows that were read.
        incremental: the table's.
        now_ms: the clock when the source was opened.
        before: how far it was read before; None: all rows were read now.
        problems: of the table.

    Raises:
        DefinitionError: a row has no value there, or it is another kind of column.
    """
    if read.type not in RISING:
        problems.fail(
            f"it is a column of {read.type}s, and `incremental.column` names one of whole numbers or timestamps",
            column=incremental.column,
        )
    integers, nulls = integers_of(read.column)
    if nulls.any():
        row = int(np.argmax(nulls)) + 1
        what = "it is null, and a refresh would never learn that the row has changed; give every row a value"
        problems.fail(what, column=incremental.column, row=row)
    least = before.value if before is not None else np.iinfo(np.int64).min
    greatest = max([least, *([int(integers.max())] if len(integers) else [])])
    instants = read.type == "timestamp"
    if instants:
        greatest = min(greatest, max(now_ms, least))
    return Watermark(incremental.column, greatest, instants, now_ms if before is None else before.full_ms)


class Merged:
    """The rows of the next snapshot.

    Args:
        arranged: the rows that were read, in order of profile id.
        gone: which of them say that there is no such row any more.
        base: the rows before; None: there are none.
    """

    def __init__(self, arranged: Arranged, gone: Mask, base: WarehouseTable | None) -> None:
        self._read = arranged
        self._base = base
        self._gone = gone
        alive = arranged.without(gone)
        if base is None:
            self.profiles, self._order = alive
            return
        high, low = base.index.halves
        stay = np.ones(len(base), dtype=np.bool_)
        places, found = base.index.find_halves(*arranged.profiles.halves)
        stay[places[found]] = False
        kept = np.flatnonzero(stay)
        highs = np.concatenate([high[kept], alive.profiles.halves[0]])
        lows = np.concatenate([low[kept], alive.profiles.halves[1]])
        order = highs.argsort(kind="stable")
        if (highs[order[1:]] == highs[order[:-1]]).any():
            order = np.lexsort((lows, highs))
        self.profiles = ProfileIndex(highs[order], lows[order])
        self._order = np.concatenate([kept, alive.order + len(base)])[order]

    def column(self, name: str, read: Read) -> Column:
        """A column of the next snapshot, given that of the rows that were read."""
        if self._base is None:
            return read.column.arranged(self._order)
        return compacted(joined(self._base.column(name), read.column).arranged(self._order), read.type)

    def keys(self, read: Texts) -> Texts:
        """The keys of the next snapshot."""
        if self._base is None:
            return read.arranged(self._order)
        return Texts(pa.concat_arrays([self._base.keys.arrow(), read.arrow()])).arranged(self._order)

    def changes_keys(self) -> bool:
        """Whether rows come or go."""
        if self._base is None:
            return True
        _, found = self._base.index.find_halves(*self._read.profiles.halves)
        return bool((found == self._gone).any())

    def changes(self, name: str, read: Read) -> bool:
        """Whether a column has another value in a row that was there before, where no row comes or goes."""
        assert self._base is not None, "nothing was there before"
        places, found = self._base.index.find_halves(*self._read.profiles.halves)
        positions: Positions = self._read.order[found]
        return not bool(read.column.same(positions, self._base.column(name), places[found]).all())
