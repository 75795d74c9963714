"""What a source gave, on this machine's disk until the snapshot is made of it.

Owns: a file of raw batches, read again one column at a time; and files of finished columns. Both are removed at the end.
Why: a source is read once, in its own order, by rows; a snapshot is made by columns, sorted. So memory holds the keys and
one column, whatever the number of columns.
Invariant: what is read is what was added, in its order.
Not here: what is made of it (state.warehouse.writing).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.ipc

from state.warehouse.readings import plain

COMPRESSION = "lz4"


class Spool:
    """Raw batches of some columns.

    Args:
        path: the file.
        schema: Arrow types by column.
    """

    def __init__(self, path: Path, schema: dict[str, Any]) -> None:
        self._path = path
        # Dictionaries of a file cannot be replaced from batch to batch, so values are kept plain.
        self._schema = pa.schema([(name, plain(kind)) for name, kind in schema.items()])
        self._file = pa.OSFile(str(path), "wb")
        options = pa.ipc.IpcWriteOptions(compression=COMPRESSION, use_threads=False)
        self._writer = pa.ipc.new_file(self._file, self._schema, options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def add(self, batch: Any) -> None:
        """Takes the columns of the next rows."""
        arrays = [batch.column(field.name).cast(field.type) for field in self._schema]
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))

    def end(self) -> None:
        """Nothing more comes."""
        self._writer.close()
        self._file.close()

    def column(self, name: str) -> Iterator[Any]:
        """The arrays of one column, in the order in which they were added."""
        wanted = [self._schema.get_field_index(name)]
        options = pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False)
        with pa.OSFile(str(self._path)) as file:
            reader = pa.ipc.open_file(file, options=options)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number).column(0)


def put_aside(path: Path, field: Any, array: Any) -> None:
    """Writes a finished column into a file of its own."""
    schema = pa.schema([field])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([array], schema=schema))


def taken_up(path: Path) -> tuple[Any, Any]:
    """The field and array of a finished column, memory-mapped."""
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    return batch.schema.field(0), batch.column(0)
