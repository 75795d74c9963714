"""What Arrow reads of files of events: rows of Parquet files, and streams compressed with Zstandard.

Owns: the use of pyarrow for events. Not here: what a row means (opportune.cli.replay_files), tables (state.warehouse).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet


def parquet_rows(path: Path, batch_rows: int) -> tuple[int, Iterator[list[dict[str, Any]]]]:
    """The rows of a Parquet file.

    Args:
        path: the file.
        batch_rows: how many rows are read at a time.

    Returns:
        How many there are, and the rows in batches, by column name.

    Raises:
        OSError: it cannot be read, or is no Parquet file.
    """
    try:
        file = pa.parquet.ParquetFile(path)
    except pa.ArrowException as error:
        raise OSError(str(error)) from error
    return file.metadata.num_rows, _batches(file, batch_rows)


def _batches(file: Any, batch_rows: int) -> Iterator[list[dict[str, Any]]]:
    try:
        with file:
            for batch in file.iter_batches(batch_size=batch_rows, use_threads=False):
                yield batch.to_pylist(maps_as_pydicts="lossy")
    except pa.ArrowException as error:
        raise OSError(str(error)) from error


def zstandard(file: BinaryIO) -> BinaryIO:
    """A file as it was before it was compressed."""
    return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"))
