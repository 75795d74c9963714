"""Where a warehouse table comes from, opened: its schema, and its rows as Arrow record batches of the wanted columns only.

Owns: files (Parquet, Arrow IPC, CSV, by the end of their names), on this machine and on object storage.
Invariant: whatever is wrong with a file ends as a ``DefinitionError``, storage that cannot be reached as a
``TransientError``; memory is a few batches, whatever the file's size.
Not here: what the columns mean (state.warehouse.readings), databases and lakes (state.warehouse.systems).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.ipc
import pyarrow.parquet

from opportune.audiences.schema import Origin, Table, ValueType
from opportune.errors import TransientError
from state.warehouse.problems import Problems
from state.warehouse.secrets import Secrets
from state.warehouse.since import Since
from state.warehouse.systems import Opening, is_number_as_text, open_system, stored_type

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
        meant: the types of columns that are text in Arrow and another type where they come from.
        away: how it is called where it is on a storage that may be out of reach.
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
        self.meant: dict[str, ValueType] = {}
        self.away = ""
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
            if self.away and isinstance(error, OSError):
                raise TransientError(
                    f"{self.away}: the storage failed behind row {row}: {_sentence(error)}; try again"
                ) from error
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


def open_source(table: Table, directory: Path, problems: Problems, since: Since | None = None) -> Source:
    """Opens the table's source and reads its schema.

    Args:
        table: the table.
        directory: of the project; local sources start there.
        problems: takes what is wrong.
        since: which rows are wanted; a source that cannot tell them apart gives all.

    Raises:
        DefinitionError: the file is missing, unreadable, or not of the format that its name ends with; a system refuses.
        TransientError: a system cannot be reached.
        ConfigurationError: a library or an environment variable is missing.
    """
    origin = table.origin
    if origin is None:
        return _open_file(table.source, pa.fs.LocalFileSystem(), str(directory / table.source), problems)
    secrets = Secrets(os.environ, table.name)
    place = secrets.resolved(table.source)
    options = {name: secrets.resolved(text) for name, text in origin.options.items()}
    label = secrets.masked(problems.label)
    if origin.kind == "file":
        system, path = _storage(place, options, origin, label, secrets)
        return _open_file(place, system, path, problems, away=label)
    rows = open_system(Opening(origin, place, options, directory, label, secrets, since))
    types = [stored_type(kind) for kind in rows.schema.types]

    def batches(columns: list[str]) -> Iterator[Any]:
        for batch in rows.batches(columns):
            arrays = [pa.array(each.storage) if isinstance(each, pa.ExtensionArray) else each for each in batch.columns]
            yield pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)

    source = Source(rows.schema.names, types, batches, problems)
    source.meant = {field.name: "number" for field in rows.schema if is_number_as_text(field.type)}
    return source


def _storage(place: str, options: dict[str, str], origin: Origin, label: str, secrets: Secrets) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    scheme, _, path = place.partition("://")
    try:
        if scheme == "s3" and options:
            return pa.fs.S3FileSystem(**{name: _typed(text) for name, text in options.items()}), path
        return pa.fs.FileSystem.from_uri(place)  # type: ignore[no-any-return]  # pyarrow ships no types
    except (*_UNREADABLE, TypeError) as error:
        Opening(origin, place, options, Path(), label, secrets).fail(error, "the storage cannot be opened")


def _typed(text: str) -> str | bool:
    return {"true": True, "false": False}.get(text.lower(), text)


def _open_file(source: str, system: Any, path: str, problems: Problems, away: str = "") -> Source:
    """Opens a file; ``away``: how it is called where it is on a storage that may be out of reach."""
    name = source.lower()
    opener = next((opener for end, opener in _FORMATS.items() if name.endswith(end)), None)
    if opener is None:
        problems.fail(f"the name of the file says no known format; let it end with one of {', '.join(_FORMATS)}")
    try:
        kind = system.get_file_info(path).type
        if kind == pa.fs.FileType.NotFound:
            problems.fail("there is no such file; correct `source`, which starts from the project directory")
        if kind != pa.fs.FileType.File:
            problems.fail("this is not a regular file; name one file under `source`")
        opened = opener(_File(system, path), problems)
    except PermissionError:
        problems.fail("the file may not be read; give this process the right to read it")
    except _UNREADABLE as error:
        if away and isinstance(error, OSError):
            raise TransientError(f"{away}: the storage cannot be reached: {_sentence(error)}; try again") from error
        _refuse_uneven(error, problems)
        problems.fail(
            f"the file is not what its name ends with: {_sentence(error)}; write it anew, or correct `source`"
        )
    opened.away = away
    return opened


class _File:
    """A file on some file system."""

    def __init__(self, system: Any, path: str) -> None:
        self._system = system
        self._path = path

    def random(self) -> Any:
        # Not memory-mapped: a file that is cut off while it is read would kill the process.
        return self._system.open_input_file(self._path)

    def stream(self) -> Any:
        return self._system.open_input_stream(self._path, compression="detect")


def _parquet(path: _File, problems: Problems) -> Source:
    with path.random() as file:
        schema = pa.parquet.read_schema(file)

    def batches(columns: list[str]) -> Iterator[Any]:
        with path.random() as file, pa.parquet.ParquetFile(file) as parquet:
            yield from parquet.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False)

    return Source(schema.names, schema.types, batches, problems)


def _arrow(path: _File, problems: Problems) -> Source:
    with path.random() as file:
        schema = _ipc_reader(file).schema

    def batches(columns: list[str]) -> Iterator[Any]:
        wanted = [schema.get_field_index(name) for name in columns]
        with path.random() as file:
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


def _csv(path: _File, problems: Problems) -> Source:
    read = pa.csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES)
    parse = pa.csv.ParseOptions(newlines_in_values=True)

    def opened(file: Any, convert: Any) -> Any:
        return pa.csv.open_csv(file, read_options=read, parse_options=parse, convert_options=convert)

    with path.stream() as file:
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
        with path.stream() as file:
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


_FORMATS: dict[str, Callable[[_File, Problems], Source]] = {
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
    ".csv": _csv,
    ".csv.gz": _csv,
    ".csv.zst": _csv,
}
"""How a file is opened, by the end of its name."""
