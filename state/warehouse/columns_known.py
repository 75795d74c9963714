"""Which columns a table has, where its source may be away.

Owns: the answer for checking definitions: what the source says, else what the last good snapshot kept. So a job starts
with the tables that it has, whatever has become of their sources.
Not here: looking into sources (state.warehouse.loading), snapshots (state.warehouse.shelf).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from opportune.audiences.schema import Table, ValueType
from opportune.audiences.warehouse_file import ColumnsOf
from opportune.errors import DefinitionError, StateError
from state.warehouse.loading import columns_of
from state.warehouse.shelf import Shelf


def columns_or_kept(warehouse: Path) -> ColumnsOf:
    """A function as ``columns_of`` that falls back to snapshots.

    Args:
        warehouse: the directory of all tables' snapshots.
    """

    def known(table: Table, directory: Path) -> Mapping[str, ValueType]:
        try:
            return columns_of(table, directory)
        except DefinitionError:
            kept = _kept(warehouse, table)
            if kept is None:
                raise
            return kept

    return known


def _kept(warehouse: Path, table: Table) -> dict[str, ValueType] | None:
    try:
        newest = Shelf(warehouse, table.name).newest()
    except StateError:
        return None
    if newest is None:
        return None
    # The key and the order are not kept as columns, and stood in the source when the snapshot was made of it.
    more: dict[str, ValueType] = {name: "string" for name in (table.key, table.order_by) if name is not None}
    return more | newest.columns
