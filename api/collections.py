"""Warehouse tables as collections: which version answers.

Owns: the open collections, and the choice of the version: the one that is in force in the shard of a key, and for questions over
all rows the oldest that is in force in any shard, so that nobody is answered from rows that the job has not taken yet.
Not here: rows and indexes (state.warehouse.collection), routes (api.routes.collections).
"""

from __future__ import annotations

from pathlib import Path

from api.problems import Problem
from api.shards import Shards
from opportune.errors import ReadRefused, StateError
from opportune.identity import profile_id, shard_of
from state.warehouse import Collection, Shelf

KEPT = 2
"""Versions of a table that stay open: that in force, and the one before, of which somebody reads pages."""


class Collections:
    """The collections of a project.

    Args:
        shards: say what is in force.
        warehouse: the directory of the snapshots.
    """

    def __init__(self, shards: Shards, warehouse: Path) -> None:
        self.tables = shards.compiled.project.tables
        self._shards = shards
        self._shelves = {name: Shelf(warehouse, name) for name in self.tables}
        self._open: dict[str, dict[str, Collection]] = {name: {} for name in self.tables}

    async def of_key(self, table: str, key: str) -> Collection:
        """The rows in which a key is to be looked up. Raises ``ReadRefused``."""
        shard = shard_of(profile_id(self.tables[table].namespace, key), self._shards.count)
        return self._collection(table, (await self._shards.in_force(shard)).get(table))

    async def of_all(self, table: str) -> Collection:
        """The rows in force. Raises ``ReadRefused``."""
        versions = [(await self._shards.in_force(shard)).get(table) for shard in range(self._shards.count)]
        known = [version for version in versions if version is not None]
        return self._collection(table, min(known) if len(known) == len(versions) else None)

    def of_version(self, table: str, version: str) -> Collection:
        """The rows of a version that somebody has begun to read. Raises ``Problem`` (410)."""
        found = self._open[table].get(version)
        if found is not None:
            return found
        try:
            return self._opened(table, version)
        except StateError:
            raise Problem(410, "cursor_gone", "the rows of this cursor are no longer there: begin again") from None

    def close(self) -> None:
        """Lets all of them go."""
        for versions in self._open.values():
            for collection in versions.values():
                collection.close()
            versions.clear()

    def _collection(self, table: str, version: str | None) -> Collection:
        if version is None:
            raise ReadRefused("the table is not in force yet")
        found = self._open[table].get(version)
        if found is not None:
            return found
        try:
            return self._opened(table, version)
        except StateError as error:
            raise ReadRefused(f"the snapshot in force cannot be read here: {error}") from error

    def _opened(self, table: str, version: str) -> Collection:
        opened = Collection(self.tables[table], self._shelves[table], version)
        versions = self._open[table]
        versions[version] = opened
        while len(versions) > KEPT:
            versions.pop(next(each for each in sorted(versions) if each != version)).close()
        return opened
