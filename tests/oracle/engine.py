"""The engine's side of a comparison with the reference evaluator: its changes in the same form, its warehouse tables.

Owns: translation only; nothing here decides what is right.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from opportune.audiences.plan import Plan
from opportune.audiences.schema import ValueType
from opportune.membership import MembershipChange
from opportune.project import Project
from state.warehouse import WarehouseTable, load_table
from tests.oracle.history import Change, Tables
from tests.oracle.instants import read_instant


def told(changes: Iterable[MembershipChange]) -> list[Change]:
    """The engine's changes as the reference evaluator writes them, in their order."""
    out = []
    for change in changes:
        at = read_instant(change.at)
        assert at is not None
        out.append(Change(at, change.profile_id, change.audience, change.change, change.cause, change.version))
    return out


def warehouse(project: Project, directory: Path) -> dict[str, WarehouseTable]:
    """The tables that the project's conditions read, from files in a directory."""
    tables = {}
    for name, columns in Plan(project).columns.items():
        table = project.tables[name]
        used: dict[str, ValueType | None] = {column: table.columns.get(column) for column in columns}
        tables[name] = load_table(table, directory, used)
    return tables


def used_tables(project: Project, tables: Tables) -> Tables:
    """The rows of the tables that some condition reads: only those make profiles."""
    return {name: table for name, table in tables.items() if name in Plan(project).columns}
