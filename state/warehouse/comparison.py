"""Two snapshots of a table compared part by part, once for all shards of a process.

Owns: ``Comparison``: the ids of the rows that differ, by part; and how large a part is, so that each takes a few
milliseconds while events wait.
Invariant: the parts together name every row that ``difference`` names, and no other; a shard's rows are whole parts.
Not here: the comparison of rows (state.warehouse.differences), what becomes of it (flows.refresh).
"""

from __future__ import annotations

from state.warehouse.differences import difference
from state.warehouse.table import WarehouseTable

ROWS_A_PART = 16_384
PARTS_MAX = 65_536


class Comparison:
    """What differs between two snapshots.

    Args:
        old: the one before.
        new: the newer one.
        shards: how many shards there are.

    Attributes:
        parts: how many there are; those of shard s are ``own(s)``.
    """

    def __init__(self, old: WarehouseTable, new: WarehouseTable, shards: int) -> None:
        self.old = old
        self.new = new
        a_shard = max(len(old), len(new)) // shards // ROWS_A_PART + 1
        self._a_shard = min(a_shard, max(PARTS_MAX // shards, 1))
        self.parts = self._a_shard * shards
        self._known: dict[int, list[bytes]] = {}

    def own(self, shard: int) -> range:
        """The parts that hold the rows of a shard's own identifiers."""
        return range(shard * self._a_shard, (shard + 1) * self._a_shard)

    def is_made(self, part: int) -> bool:
        """Whether a part was compared already, for whichever shard."""
        return part in self._known

    def ids(self, part: int) -> list[bytes]:
        """The ids, digests of the keys, of the rows of a part that differ, are new or are gone."""
        known = self._known.get(part)
        if known is None:
            found = difference(self.old, self.new, part, self.parts)
            known = self._known[part] = [
                *self.new.index.ids_at(found.changed),
                *self.new.index.ids_at(found.added),
                *self.old.index.ids_at(found.gone),
            ]
        return known


def comparison_of(old: WarehouseTable, new: WarehouseTable, shards: int) -> Comparison:
    """The comparison of two snapshots: the same one for all shards that ask, while one of them has it."""
    known: Comparison | None = new.comparisons.get(id(old))
    if known is None or known.old is not old:
        known = new.comparisons[id(old)] = Comparison(old, new, shards)
    return known
