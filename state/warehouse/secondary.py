"""Secondary indexes of a snapshot: which rows have a value in a column.

Owns: ``index-COLUMN.arrow`` beside the rows, one for each column of ``indexes`` in warehouse.yml, made before the snapshot is
published, one row for each row whose value is not null, in order of hash and place::

    hash: u64    xxh3_64 of the value as ``content_of`` writes it
    place: u32   of the row

Invariant: ``places`` gives every row with the value and no other: a hash only says where to look, the value itself decides. An
index is of its snapshot and never changes; a file that is not whole is refused.
Not here: rows (state.warehouse.snapshot), what the API makes of it (state.warehouse.collection).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc
from xxhash import xxh3_64_intdigest

from state.warehouse.manifest import damaged, sync_directory
from state.warehouse.snapshot import open_snapshot
from state.warehouse.table import WarehouseTable
from state.warehouse.values import Value

_STEP = 65_536
_SCHEMA = pa.schema([pa.field("hash", pa.uint64(), nullable=False), pa.field("place", pa.uint32(), nullable=False)])
ROWS_OF_TABLE = b"opportune.rows"


def index_file(column: str) -> str:
    """The name of a column's index."""
    return f"index-{quote(column, safe='')}.arrow"


def build_indexes(directory: Path, columns: Sequence[str]) -> None:
    """Makes the indexes of a snapshot that has its manifest, durably.

    Raises:
        StateError: the snapshot is not complete, or has not one of the columns.
        OSError: the disk refuses.
    """
    for name in columns:
        table = open_snapshot(directory, used=[name])
        hashes, places = _hashed(table, name)
        order = np.lexsort((places, hashes))
        metadata = {ROWS_OF_TABLE: str(len(table)).encode()}
        batch = pa.RecordBatch.from_arrays([pa.array(hashes[order]), pa.array(places[order])], schema=_SCHEMA)
        path = directory / index_file(name)
        with path.open("wb") as file:
            with pa.ipc.new_file(file, _SCHEMA.with_metadata(metadata)) as writer:
                writer.write_batch(batch.replace_schema_metadata(metadata))
            file.flush()
            os.fsync(file.fileno())
    if columns:
        sync_directory(directory)


class SecondaryIndex:
    """The index of one column, memory-mapped.

    Args:
        directory: of the snapshot.
        table: its rows, the column among them.
        column: the column.

    Raises:
        StateError: the file is not there, not whole, or of other rows.
    """

    def __init__(self, directory: Path, table: WarehouseTable, column: str) -> None:
        name = index_file(column)
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(directory / name)))
            batch = reader.get_batch(0)
            rows = int(reader.schema.metadata[ROWS_OF_TABLE])
            self._hashes, self._places = (np.asarray(batch.column(at)) for at in (0, 1))
        except (pa.ArrowException, OSError, KeyError, IndexError, TypeError, ValueError) as error:
            raise damaged(directory, f"{name} is not readable: {error}") from error
        if rows != len(table):
            raise damaged(directory, f"{name} is of {rows} rows, and there are {len(table)}")
        self._column = table.column(column)

    def places(self, value: Value, after: int, count: int) -> list[int]:
        """The places of the next rows with a value, in their order.

        Args:
            value: as the column's values are.
            after: a place: those up to it are left out; -1: none are.
            count: how many at most.
        """
        wanted = hash_of(value)
        start, end = (int(np.searchsorted(self._hashes, np.uint64(wanted), side)) for side in ("left", "right"))
        start += int(np.searchsorted(self._places[start:end], after, "right"))
        found: list[int] = []
        # Rows of another value with the same hash are in between at most.
        while start < end and len(found) < count:
            part = self._places[start : min(start + count, end)].astype(np.int64)
            values = self._column.take(part)
            found += [place for place, is_ in zip(part.tolist(), values, strict=True) if _same(is_, value)]
            start += len(part)
        return found[:count]


def hash_of(value: Value) -> int:
    """Where a value stands."""
    return xxh3_64_intdigest(content_of(value))


def content_of(value: Value) -> bytes:
    """The bytes of a value: its type, and its one text."""
    kind = b"b" if isinstance(value, bool) else b"s" if isinstance(value, str) else b"n"
    return kind + str(value).encode("utf-8", "surrogatepass")


def _same(one: Value | None, other: Value) -> bool:
    # True == 1, and they are not the same.
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _hashed(table: WarehouseTable, name: str) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    """The hashes of all values that are not null, and their places."""
    column = table.column(name)
    hashes = np.zeros(len(table), dtype=np.uint64)
    there = np.zeros(len(table), dtype=np.bool_)
    known: dict[Value, int] = {}
    for at in range(0, len(table), _STEP):
        values = column.take(np.arange(at, min(at + _STEP, len(table))))
        for place, value in enumerate(values, at):
            if value is None:
                continue
            digest = known.get(value)
            if digest is None:
                digest = hash_of(value)
                if len(known) < _STEP:
                    known[value] = digest
            hashes[place], there[place] = digest, True
    places = np.flatnonzero(there).astype(np.uint32)
    return hashes[places], places
