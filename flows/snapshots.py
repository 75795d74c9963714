"""The warehouse snapshots of a worker: found at the start, opened by version, kept while a shard reads them.

Owns: which snapshot of each table is the last good one, making one where there is none, and the tables that are open:
each version once for all shards of the process, pinned as long as somebody has it.
Invariant: a table that was handed out keeps its rows; its directory is not removed while it is open.
Not here: what a shard does with them (flows.refresh), when others are made (flows.refresher).
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping
from pathlib import Path

from opportune.audiences.plan import Plan
from opportune.clock import Clock
from opportune.errors import StateError
from opportune.project import Project
from state.warehouse import Manifest, Pin, Refresher, Shelf, WarehouseTable, masked, open_snapshot

log = logging.getLogger(__name__)

DIRECTORY = "warehouse"
"""Of the snapshots, below the state directory."""


class TableSnapshots:
    """The snapshots of a project's tables.

    Args:
        project: the project.
        plan: says which columns conditions use.
        state: the state directory.
        shards: how many shards there are.
        clock: the wall clock, for the versions of new snapshots.
    """

    def __init__(self, project: Project, plan: Plan, state: Path, shards: int, clock: Clock) -> None:
        self.shards = shards
        self.tables = project.tables
        self.used = {name: plan.columns.get(name, []) for name in project.tables}
        self.shelves = {name: Shelf(state / DIRECTORY, name) for name in project.tables}
        self.refreshers = {
            name: Refresher(table, project.directory, self.shelves[name], self.used[name], clock)
            for name, table in project.tables.items()
        }
        self._open: weakref.WeakValueDictionary[tuple[str, str], WarehouseTable] = weakref.WeakValueDictionary()

    def newest(self) -> dict[str, str]:
        """The last good version of each table; makes one where there is none.

        Raises:
            DefinitionError: there is none, and the source is not what the definition asks for.
            TransientError: there is none, and the source cannot be reached.
        """
        return {name: self._newest(name) for name in sorted(self.tables)}

    def _newest(self, name: str) -> str:
        for version in reversed(self.shelves[name].versions()):
            if self._table(name, version, checked=True) is not None:
                return version
        log.info("table %s: there is no snapshot yet, reading %s", name, masked(self.tables[name].source))
        done = self.refreshers[name].refresh(unguarded=True)
        log.info("table %s: %d rows", name, done.manifest.rows)
        return done.manifest.version

    def open(self, versions: Mapping[str, str]) -> Mapping[str, WarehouseTable] | None:
        """The tables of these versions; None where one is not there, or is not all tables of the project."""
        found = {name: self._table(name, version) for name, version in versions.items() if name in self.tables}
        tables = {name: table for name, table in found.items() if table is not None}
        return tables if tables.keys() == self.tables.keys() else None

    def manifest(self, name: str) -> Manifest | None:
        """The manifest of the newest snapshot; None where it cannot be used."""
        try:
            return self.refreshers[name].current()
        except StateError:
            return None

    def _table(self, name: str, version: str, *, checked: bool = False) -> WarehouseTable | None:
        known = self._open.get((name, version))
        if known is not None:
            return known
        shelf = self.shelves[name]
        try:
            pin = shelf.pin(version)
        except StateError:
            return None
        try:
            table = self._opened(name, version, checked=checked)
        except StateError as error:
            log.warning("table %s: %s", name, error)
            pin.release()
            return None
        if table is None:
            pin.release()
            return None
        weakref.finalize(table, Pin.release, pin)
        self._open[name, version] = table
        return table

    def _opened(self, name: str, version: str, *, checked: bool) -> WarehouseTable | None:
        """The table of a pinned snapshot; None where it is of another definition."""
        path = self.shelves[name].path(version)
        table = open_snapshot(path, used=self.used[name], checked=checked)
        return table if self.refreshers[name].fits(path) else None
