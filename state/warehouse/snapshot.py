"""The rows of a snapshot: one Arrow IPC file of one record batch, sorted by profile id, memory-mapped where it is read.

Owns: the layout of ``rows.arrow``, one row a profile id::

    _high: u64, _low: u64    the halves of the profile id (state.warehouse.index)
    _key: large_string       the key's text
    _directory: u32          where searches begin; only as many as the index asks for, the rest is 0
    one column of the table each, as state.warehouse.stored has it

Invariant: not compressed, so that every process of the host reads the same pages; a table that was opened keeps its
pages when the file is removed.
Not here: whether the file is whole (state.warehouse.manifest), reading sources (state.warehouse.writing).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from opportune.audiences.schema import ValueType
from state.warehouse.columns import Column, Texts
from state.warehouse.index import ProfileIndex
from state.warehouse.manifest import Manifest, damaged, read_manifest, verify
from state.warehouse.stored import column_of
from state.warehouse.table import WarehouseTable

FIXED = 4
_KEPT_DIRECTORY_ROWS = 4_096
"""Below it a directory is made when the file is opened."""


def write_rows(path: Path, index: ProfileIndex, keys: Any, fields: Sequence[tuple[Any, Any]]) -> None:
    """Writes the file.

    Args:
        path: where.
        index: the profile ids.
        keys: a ``large_string`` array, in their order.
        fields: fields and arrays of the columns, in their order.
    """
    high, low = index.halves
    directory = np.zeros(len(index), dtype=np.uint32)
    if len(index) >= _KEPT_DIRECTORY_ROWS:
        directory[: len(index.directory)] = index.directory
    arrays = [pa.array(high), pa.array(low), keys, pa.array(directory), *(array for _, array in fields)]
    names = ("_high", "_low", "_key", "_directory")
    schema = pa.schema(
        [
            *(pa.field(name, array.type) for name, array in zip(names, arrays, strict=False)),
            *(each for each, _ in fields),
        ]
    )
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def open_snapshot(directory: Path, *, used: Sequence[str] | None = None, checked: bool = False) -> WarehouseTable:
    """A snapshot as a table whose rows stay on disk.

    Args:
        directory: of the snapshot.
        used: the columns that rows shall have, in their order; None: all.
        checked: whether the checksum is compared, which reads the whole file.

    Raises:
        StateError: it is not complete, damaged, or has not one of the columns.
    """
    manifest = read_manifest(directory)
    if checked:
        verify(directory, manifest)
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(directory / manifest.file))).get_batch(0)
        return _table(manifest, batch, list(manifest.columns) if used is None else used)
    except (pa.ArrowException, OSError, KeyError, IndexError, ValueError) as error:
        raise damaged(directory, f"{manifest.file} is not readable: {error}") from error


def _table(manifest: Manifest, batch: Any, used: Sequence[str]) -> WarehouseTable:
    high, low, directory = (np.asarray(batch.column(at)) for at in (0, 1, 3))
    index = ProfileIndex(high, low, directory if len(high) >= _KEPT_DIRECTORY_ROWS else None)
    types: dict[str, ValueType] = {}
    columns: list[Column] = []
    places = {name: FIXED + at for at, name in enumerate(batch.schema.names[FIXED:])}
    for name in used:
        field = batch.schema.field(places[name])
        types[name], column = column_of(field, batch.column(places[name]))
        columns.append(column)
    return WarehouseTable(
        manifest.table,
        types,
        index,
        Texts(batch.column(2)),
        columns,
        version=manifest.version,
        fingerprint=manifest.fingerprint,
        namespace=manifest.namespace,
        blocked_rows=manifest.blocked_rows,
    )
