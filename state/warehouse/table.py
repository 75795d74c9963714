"""A warehouse table, in memory or mapped from a snapshot: rows by profile id.

Owns: look-ups and the walk over one shard's rows.
Invariant: immutable; a row is a tuple of the used columns in the order of ``columns``; rows are in order of profile id.
Not here: reading files (state.warehouse.loading), when a newer version comes into force.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

import numpy as np

from opportune.audiences.schema import ValueType
from opportune.identity import ProfileId
from state.warehouse.columns import Column, Texts
from state.warehouse.index import Positions, ProfileIndex
from state.warehouse.values import Value

Row: TypeAlias = tuple[Value | None, ...]

_STEP = 4_096


class WarehouseTable:
    """The used columns of a table.

    Attributes:
        name: the table's name.
        columns: the names of the used columns, in the order of a row's values.
        types: the type of each of them.
        version: of the snapshot, or the fingerprint where there is none.
        fingerprint: of the content, 32 hexadecimal digits: rows in another order have the same.
        namespace: what kind of identifier the keys are.
        blocked_rows: how many rows were left out because their key is a blocked value and can belong to nobody.
    """

    def __init__(
        self,
        name: str,
        types: dict[str, ValueType],
        index: ProfileIndex,
        keys: Texts,
        values: Sequence[Column],
        *,
        version: str,
        fingerprint: str = "",
        namespace: str = "user_id",
        blocked_rows: int = 0,
    ) -> None:
        self.name = name
        self.columns = tuple(types)
        self.types = types
        self.version = version
        self.fingerprint = fingerprint or version
        self.namespace = namespace
        self.blocked_rows = blocked_rows
        # By the older table: see state.warehouse.comparison.
        self.comparisons: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._index = index
        self._keys = keys
        self._values = tuple(values)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def index(self) -> ProfileIndex:
        """Which row is whose."""
        return self._index

    def column(self, name: str) -> Column:
        """The values of a used column."""
        return self._values[self.columns.index(name)]

    @property
    def keys(self) -> Texts:
        """The texts of the keys, one a row."""
        return self._keys

    def keys_at(self, places: Positions) -> list[str]:
        """The key texts at these places."""
        return self._keys.texts(places)

    def lookup(self, profile_ids: Sequence[bytes]) -> list[Row | None]:
        """The rows of these profiles, in their order; None where the table has none.

        Args:
            profile_ids: ids of 16 bytes each (``opportune.identity.profile_id`` of the table's namespace and the key).
        """
        places, found = self._index.find(profile_ids)
        if found is None:
            return list(self._rows(places))
        rows = self._rows(places[found])
        return [next(rows) if there else None for there in found.tolist()]

    def rows(self, shard: int, shards: int) -> Iterator[tuple[ProfileId, str, Row]]:
        """Profile id, key text and row of every row whose profile a shard owns, in order of profile id.

        Args:
            shard: 0 to shards - 1.
            shards: how many shards there are.
        """
        start, end = self._index.span(shard, shards)
        for at in range(start, end, _STEP):
            until = min(at + _STEP, end)
            places = np.arange(at, until)
            found = zip(self._index.ids(at, until), self._keys.texts(places), self._rows(places), strict=True)
            for profile, key, row in found:
                yield ProfileId(profile), key, row

    def _rows(self, places: Positions) -> Iterator[Row]:
        if not self._values:
            return iter([()] * len(places))
        return zip(*[column.take(places) for column in self._values], strict=True)
