"""A warehouse table as a collection: rows by key, and by the value of an indexed column, for whoever shows them.

Owns: the table of one snapshot with all of its columns, pinned as long as it is open; what a query's text means in a column.
Invariant: immutable: a page and the next one are of the same rows; rows are in order of profile id.
Not here: which version is in force (api.collections), the files (state.warehouse.snapshot, state.warehouse.secondary).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from opportune.audiences.schema import Table, ValueType
from opportune.event import iso_text
from opportune.identity import profile_id
from state.warehouse.manifest import Manifest, read_manifest
from state.warehouse.secondary import SecondaryIndex
from state.warehouse.shelf import Shelf
from state.warehouse.snapshot import open_snapshot
from state.warehouse.values import Value, boolean_of_text, instant_of_text, number_of_text


class Collection:
    """The rows of one version.

    Args:
        table: its definition.
        shelf: where its snapshots lie.
        version: which of them.

    Attributes:
        manifest: of the snapshot.
        indexes: by column.

    Raises:
        StateError: there is no such snapshot, it is damaged, or has not the indexes.
    """

    def __init__(self, table: Table, shelf: Shelf, version: str) -> None:
        self._pin = shelf.pin(version)
        try:
            directory = shelf.path(version)
            self.manifest: Manifest = read_manifest(directory)
            self._namespace = table.namespace
            self._rows = open_snapshot(directory)
            self.indexes = {name: SecondaryIndex(directory, self._rows, name) for name in table.indexes}
        except BaseException:
            self._pin.release()
            raise

    @property
    def types(self) -> dict[str, ValueType]:
        """The columns and their types."""
        return self._rows.types

    def row(self, key: str) -> dict[str, Any] | None:
        """The row of a key, as an identifier of an event has it; None where there is none."""
        places, found = self._rows.index.find([profile_id(self._namespace, key)])
        if found is not None and not found[0]:
            return None
        return self.rows(places.tolist())[0]

    def rows(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """Rows by place: ``key``, and ``row`` with the columns that are not null."""
        positions = np.array(places, dtype=np.int64)
        keys = self._rows.keys_at(positions)
        columns = [
            [_shown(value, kind) for value in self._rows.column(name).take(positions)]
            for name, kind in self.types.items()
        ]
        values = zip(*columns, strict=True) if columns else iter([()] * len(places))
        return [
            {"key": key, "row": {name: value for name, value in zip(self.types, row, strict=True) if value is not None}}
            for key, row in zip(keys, values, strict=True)
        ]

    def value_of(self, column: str, text: str) -> Value:
        """What a text of a query means in a column. Raises ``ValueError``, whose text completes "the value ..."."""
        read = {"number": number_of_text, "boolean": boolean_of_text, "timestamp": instant_of_text}
        kind = self.types[column]
        return text if kind == "string" else read[kind](text)

    def close(self) -> None:
        """Lets the snapshot go."""
        self._pin.release()


def _shown(value: Value | None, kind: ValueType) -> Value | None:
    return iso_text(value) if kind == "timestamp" and isinstance(value, int) else value
