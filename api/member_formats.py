"""Members as NDJSON, CSV, Arrow and Parquet.

Owns: what a row is in each format, and its writing piece by piece: what was written is handed on and not kept. The schema of the
columnar ones: ``profile_id`` string, ``since`` timestamp[ms, UTC], ``identifiers`` list of strings, those that were asked for.
Invariant: the pieces of a body, one after the other, are a whole file of the format. With state.warehouse the only importer of
Arrow in the service.
Not here: which rows (state.members), HTTP (api.routes.members).
"""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from opportune.event import iso_text
from state.members import Slice

COLUMNS = ("profile_id", "since", "identifiers")
NDJSON, CSV = "application/x-ndjson", "text/csv"
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
HEX_DIGITS = 32


class Format(Protocol):
    """Writes members."""

    def begin(self) -> bytes:
        """What comes before the first."""

    def rows(self, part: Slice) -> bytes:
        """Some of them."""

    def end(self) -> bytes:
        """What comes behind the last."""


class Ndjson:
    """An object a line."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._encode = msgspec.json.Encoder().encode_lines

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def rows(self, part: Slice) -> bytes:
        """A line each."""
        return self._encode([dict(zip(self._columns, row, strict=True)) for row in _texts(part, self._columns)])

    def end(self) -> bytes:
        """Nothing."""
        return b""


class Csv:
    """RFC 4180; identifiers are in one cell, with spaces between them."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns

    def begin(self) -> bytes:
        """The head."""
        return ",".join(self._columns).encode() + b"\r\n"

    def rows(self, part: Slice) -> bytes:
        """A line each."""
        out = io.StringIO()
        rows = _texts(part, self._columns)
        csv.writer(out).writerows([cell if isinstance(cell, str) else " ".join(cell) for cell in row] for row in rows)
        return out.getvalue().encode("utf-8", "surrogatepass")

    def end(self) -> bytes:
        """Nothing."""
        return b""


class _Sink(io.RawIOBase):
    """Takes what is written, until it is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Takes bytes."""
        self._parts.append(bytes(data))
        return len(data)

    def fetch(self) -> bytes:
        """What was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


class _Columns(ABC):
    """What is written by a writer of Arrow's record batches."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._schema = schema_of(columns)
        self._sink = _Sink()
        self._writer: Any = None

    @abstractmethod
    def writer(self, file: pa.PythonFile) -> Any:
        """What writes into a file."""

    def begin(self) -> bytes:
        """What stands before the rows."""
        self._writer = self.writer(pa.PythonFile(self._sink, mode="w"))
        return self._sink.fetch()

    def rows(self, part: Slice) -> bytes:
        """A record batch."""
        self._writer.write_batch(batch_of(part, self._schema))
        return self._sink.fetch()

    def end(self) -> bytes:
        """What stands behind them."""
        self._writer.close()
        return self._sink.fetch()


class Arrow(_Columns):
    """Arrow's IPC stream."""

    def writer(self, file: pa.PythonFile) -> Any:
        """See ``_Columns.writer``."""
        return pa.ipc.new_stream(file, self._schema)


class Parquet(_Columns):
    """Parquet, a row group a piece."""

    def writer(self, file: pa.PythonFile) -> Any:
        """See ``_Columns.writer``."""
        return pa.parquet.ParquetWriter(file, self._schema)


FORMATS: dict[str, tuple[type[Ndjson] | type[Csv] | type[Arrow] | type[Parquet], int]] = {
    NDJSON: (Ndjson, 1_000),
    CSV: (Csv, 1_000),
    ARROW: (Arrow, 8_000),
    PARQUET: (Parquet, 50_000),
}
"""What writes each format, and how many rows at once."""


def body(format_: Format, parts: Iterable[Slice]) -> Iterator[bytes]:
    """The pieces of a body."""
    yield format_.begin()
    for part in parts:
        yield format_.rows(part)
    yield format_.end()


def media_type_of(accept: str) -> str | None:
    """The format that an Accept header asks for; None: none of ours. Source: RFC 9110, section 12.5.1."""
    best, quality = None, 0.0
    for one in accept.split(",") if accept.strip() else ("*/*",):
        kind, *parameters = (part.strip().lower() for part in one.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        number = float(weight) if weight.replace(".", "", 1).isdecimal() else 0.0
        if number > quality and (name := _named(kind)) is not None:
            best, quality = name, number
    return best


def _named(kind: str) -> str | None:
    if kind in FORMATS:
        return kind
    others = {"*/*": NDJSON, "application/*": NDJSON, "application/json": NDJSON, "text/*": CSV}
    return others.get(kind)


def schema_of(columns: Sequence[str]) -> Any:
    """The columnar schema of some columns."""
    types = {
        "profile_id": pa.string(),
        "since": pa.timestamp("ms", tz="UTC"),
        "identifiers": pa.list_(pa.field("item", pa.string())),
    }
    return pa.schema([pa.field(name, types[name], nullable=False) for name in columns])


def batch_of(part: Slice, schema: Any) -> Any:
    """Some members as a record batch."""
    size = len(part.ids)
    arrays: list[Any] = []
    for field in schema:
        if field.name == "profile_id":
            digits = pa.py_buffer(b"".join(part.ids).hex().encode())
            places = pa.py_buffer(np.arange(0, (size + 1) * HEX_DIGITS, HEX_DIGITS, dtype=np.int32))
            arrays.append(pa.StringArray.from_buffers(size, places, digits))
        elif field.name == "since":
            arrays.append(pa.array(part.since_ms).cast(field.type))
        else:
            arrays.append(_lists(part.identifiers or [[]] * size))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _lists(names: Sequence[Sequence[str]]) -> Any:
    flat = list(chain.from_iterable(names))
    whole = "".join(flat)
    if whole.isascii():
        texts = pa.StringArray.from_buffers(len(flat), pa.py_buffer(_places(flat)), pa.py_buffer(whole.encode()))
    else:
        # Text of events may hold half of a pair of surrogates, which UTF-8 has not.
        texts = pa.array([text.encode("utf-8", "replace").decode() for text in flat], pa.string())
    return pa.ListArray.from_arrays(pa.array(_places(names)), texts)


def _places(of: Sequence[Sequence[Any]]) -> npt.NDArray[np.int32]:
    """Where each begins when they stand one behind the other, and where the last one ends."""
    places = np.zeros(len(of) + 1, dtype=np.int32)
    np.cumsum(np.fromiter(map(len, of), dtype=np.int32, count=len(of)), out=places[1:])
    return places


def _texts(part: Slice, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    size = len(part.ids)
    made: dict[str, Iterable[Any]] = {
        "profile_id": (who.hex() for who in part.ids),
        "since": map(iso_text, part.since_ms.tolist()),
        "identifiers": part.identifiers or [[]] * size,
    }
    return zip(*(made[name] for name in columns), strict=True)
