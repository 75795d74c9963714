"""Files that a warehouse table can come from: Parquet, Arrow IPC, CSV.

Owns: opening a file by the end of its name, its schema, and its rows as Arrow record batches of the wanted columns only.
Invariant: whatever is wrong with a file ends as a ``DefinitionError``; memory is a few batches, whatever the file's size.
Not here: what the columns mean (state.warehouse.readings). Object storage and databases come with refreshing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from opportune.audiences.schema import Table
from state.warehouse.problems import Problems

BATCH_ROWS = 65_536
_CSV_BLOCK_BYTES = 4 << 20
# A handler of invalid rows would be neater, but cannot be given rows that are not UTF-8.
_UNEVEN = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")
# What Arrow raises: its own errors (some are ValueError, KeyError), the system's, and undecodable names and texts.
_UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError)


class Source:
    """An opened file.

    Attributes:
        types: the Arrow type of each column, in the file's order.
        repeated: names that more than one column has.
        text: whether every cell is text, whose type is still to be told (CSV).
        watermark: how far an incremental source is read, once it is; None for others.
    """

    def __init__(
        self,
        names: Sequence[str],
        types: Sequence[Any],
        batches: Callable[[list[str]], Iterator[Any]],
        problems: Problems,
        *,
        text: bool = False,
    ) -> None:
        self.types: dict[str, Any] = dict(zip(names, types, strict=True))
        self.repeated = {name for name in names if names.count(name) > 1}
        self.text = text
        self.watermark: str | None = None
        self._batches = batches
        self._problems = problems

    def batches(self, columns: list[str]) -> Iterator[Any]:
        """Record batches of these columns, in this order, over all rows of the file.

        Raises:
            DefinitionError: the file is damaged.
        """
        row = 0
        try:
            for batch in self._batches(columns):
                # Text that is not UTF-8 would otherwise be found where nobody knows its row.
                self._validate(batch, row)
                row += batch.num_rows
                yield batch.select(columns)
        except _UNREADABLE as error:
            _refuse_uneven(error, self._problems)
            self._problems.fail(f"the file cannot be read beyond row {row}: {_sentence(error)}; write it anew")

    def _validate(self, batch: Any, row: int) -> None:
        try:
            batch.validate(full=True)
        except pa.ArrowException:
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                for at in range(batch.num_rows):
                    try:
                        column.slice(at, 1).validate(full=True)
                    except pa.ArrowException as error:
                        what = f"{_sentence(error)}; write the file with UTF-8 text"
                        self._problems.fail(what, column=name, row=row + at + 1)
            raise


def open_source(table: Table, directory: Path, problems: Problems) -> Source:
    """Opens the table's file and reads its schema.

    Args:
        table: the table.
        directory: where its source starts.
        problems: takes what is wrong.

    Raises:
        DefinitionError: the file is missing, unreadable, or not of the format that its name ends with.
    """
    path = directory / table.source
    name = path.name.lower()
    opener = next((opener for end, opener in _FORMATS.items() if name.endswith(end)), None)
    if opener is None:
        problems.fail(f"the name of the file says no known format; let it end with one of {', '.join(_FORMATS)}")
    try:
        if not path.exists():
            problems.fail("there is no such file; correct `source`, which starts from the project directory")
        if not path.is_file():
            problems.fail("this is not a regular file; name one file under `source`")
        return opener(path, problems)
    except PermissionError:
        problems.fail("the file may not be read; give this process the right to read it")
    except _UNREADABLE as error:
        _refuse_uneven(error, problems)
        problems.fail(
            f"the file is not what its name ends with: {_sentence(error)}; write it anew, or correct `source`"
        )


def _parquet(path: Path, problems: Problems) -> Source:
    schema = pa.parquet.read_schema(path)

    def batches(columns: list[str]) -> Iterator[Any]:
        with pa.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False)

    return Source(schema.names, schema.types, batches, problems)


def _arrow(path: Path, problems: Problems) -> Source:
    # Not memory-mapped: a file that is cut off while it is read would kill the process.
    with pa.OSFile(str(path)) as file:
        schema = _ipc_reader(file).schema

    def batches(columns: list[str]) -> Iterator[Any]:
        wanted = [schema.get_field_index(name) for name in columns]
        with pa.OSFile(str(path)) as file:
            reader = _ipc_reader(file, pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False))
            for batch in _ipc_batches(reader):
                for at in range(0, batch.num_rows, BATCH_ROWS):
                    yield batch.slice(at, BATCH_ROWS)

    return Source(schema.names, schema.types, batches, problems)


def _ipc_reader(file: Any, options: Any = None) -> Any:
    try:
        return pa.ipc.open_file(file, options=options)
    except pa.ArrowInvalid:
        file.seek(0)
        return pa.ipc.open_stream(file, options=options)


def _ipc_batches(reader: Any) -> Iterator[Any]:
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)
    else:
        yield from reader


def _csv(path: Path, problems: Problems) -> Source:
    read = pa.csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES)
    parse = pa.csv.ParseOptions(newlines_in_values=True)

    def opened(file: Any, convert: Any) -> Any:
        return pa.csv.open_csv(file, read_options=read, parse_options=parse, convert_options=convert)

    with pa.input_stream(str(path)) as file:
        names = opened(file, pa.csv.ConvertOptions(check_utf8=False)).schema.names

    def batches(columns: list[str]) -> Iterator[Any]:
        convert = pa.csv.ConvertOptions(
            check_utf8=False,
            column_types=dict.fromkeys(columns, pa.string()),
            include_columns=columns,
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
            null_values=[""],
        )
        with pa.input_stream(str(path)) as file:
            quotes = _Quotes(file)
            yield from opened(quotes, convert)
        if quotes.count % 2:
            problems.fail('the file has an odd number of double quotes, so one is not closed; write " in a value as ""')

    return Source(names, [pa.string()] * len(names), batches, problems, text=True)


def _refuse_uneven(error: BaseException, problems: Problems) -> None:
    """Says which row of a CSV file has more or fewer cells than the header, where that is what stopped the reader."""
    if (uneven := _UNEVEN.search(str(error))) is not None:
        line, wanted, found = map(int, uneven.groups())
        # Arrow counts the header too.
        problems.fail(f"{found} cells where the header has {wanted}; quote values that hold commas", row=line - 1)


class _Quotes:
    """A stream that counts the double quotes that pass through it: a quote left open swallows the rows behind it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.count = 0
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)
        self.count += data.count(b'"')
        return data

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


def _sentence(error: BaseException) -> str:
    """The first line of an error, without its full stop."""
    text = str(error).strip().splitlines()
    return text[0].rstrip(".") if text else type(error).__name__


_FORMATS: dict[str, Callable[[Path, Problems], Source]] = {
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
    ".csv": _csv,
    ".csv.gz": _csv,
    ".csv.zst": _csv,
}
"""How a file is opened, by the end of its name."""
