"""Warehouse tables: snapshots of what the warehouse knows, looked up by profile id."""

from state.warehouse.belonging import keys_of, rows_of
from state.warehouse.collection import Collection
from state.warehouse.columns_known import columns_or_kept
from state.warehouse.comparison import Comparison, comparison_of
from state.warehouse.differences import Difference, Figures, difference, figures
from state.warehouse.loading import columns_of, load_table
from state.warehouse.manifest import VERSION_DIGITS, Manifest, version_text
from state.warehouse.refreshing import Refreshed, Refresher
from state.warehouse.secrets import masked
from state.warehouse.shelf import Last, Pin, Shelf
from state.warehouse.snapshot import open_snapshot
from state.warehouse.table import Row, WarehouseTable
from state.warehouse.values import Value

__all__ = [
    "VERSION_DIGITS",
    "Collection",
    "Comparison",
    "Difference",
    "Figures",
    "Last",
    "Manifest",
    "Pin",
    "Refreshed",
    "Refresher",
    "Row",
    "Shelf",
    "Value",
    "WarehouseTable",
    "columns_of",
    "columns_or_kept",
    "comparison_of",
    "difference",
    "figures",
    "keys_of",
    "load_table",
    "masked",
    "open_snapshot",
    "rows_of",
    "version_text",
]
