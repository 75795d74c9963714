"""Warehouse tables: rows of a local file, looked up by profile id."""

from state.warehouse.loading import columns_of, load_table
from state.warehouse.table import Row, WarehouseTable
from state.warehouse.values import Value

__all__ = ["Row", "Value", "WarehouseTable", "columns_of", "load_table"]
