"""Files of events as lines of JSON: JSON lines, CSV and Parquet, compressed or not, and standard input.

Owns: which format a name means, reading in blocks so that memory does not follow the file's size, and how a row of a table
becomes a message. Column names are paths: ``userId``, ``timestamp``, ``properties.total``; columns of a Parquet file may be
nested. A CSV cell that is a JSON number, ``true`` or ``false`` is that, else a text; ``properties.zip:string`` in the header
makes a column texts. Empty cells and nulls are absent. Identifiers, names and times are always texts.
Not here: what the messages mean (opportune.decode), the replay (flows.replay).
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from opportune.errors import ConfigurationError

BLOCK_BYTES = 1 << 20
LINE_BYTES_MAX = 64 << 20
"""A file without a line break for so long is not what it says."""
TABLE_ROWS = 4_096
TEXTS = frozenset(
    [
        "type",
        "event",
        "name",
        "messageId",
        "userId",
        "anonymousId",
        "groupId",
        "previousId",
        "timestamp",
        "originalTimestamp",
        "sentAt",
        "receivedAt",
    ]
)
"""Fields whose cells are texts whatever they look like."""
COMPRESSED = (".gz", ".bz2", ".zst", ".zstd")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)
encode = msgspec.json.Encoder(decimal_format="number").encode


def lines_of(names: Sequence[str], on_bytes: Callable[[int], None] | None = None) -> Iterator[list[bytes]]:
    """The messages of files, one file after the other.

    Args:
        names: files; ``-`` is standard input, JSON lines.
        on_bytes: told how many bytes of the files, as they are stored, were read.

    Yields:
        Messages in the order of the files, several at a time; empty lines are left out.

    Raises:
        ConfigurationError: a file cannot be opened, is damaged or not of the format of its name.
    """
    for name in names:
        try:
            yield from _lines_of(name, on_bytes)
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{name} is not UTF-8: {error}; save it as UTF-8") from error
        except (OSError, EOFError, csv.Error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ConfigurationError(f"cannot read the events of {name}: {reason}") from error


def size_of(names: Sequence[str]) -> int | None:
    """The bytes of all files; None where standard input is one of them."""
    try:
        return None if "-" in names else sum(Path(name).stat().st_size for name in names)
    except OSError:
        return None


def _lines_of(name: str, on_bytes: Callable[[int], None] | None) -> Iterator[list[bytes]]:
    if name == "-":
        yield from _split(cast(BinaryIO, sys.stdin.buffer), name)
        return
    path = Path(name)
    stem, ending = path.name.lower(), ""
    for end in COMPRESSED:
        if stem.endswith(end):
            stem, ending = stem.removesuffix(end), end
    if stem.endswith(".parquet"):
        yield from _parquet(path, on_bytes)
        return
    with io.BufferedReader(_Counted(path, on_bytes), BLOCK_BYTES) as file, _plain(file, ending) as plain:
        if stem.endswith((".csv", ".tsv")):
            yield from _csv(plain, "\t" if stem.endswith(".tsv") else ",")
        else:
            yield from _split(plain, name)


class _Counted(io.FileIO):
    """A file that tells how far it was read."""

    def __init__(self, path: Path, on_bytes: Callable[[int], None] | None) -> None:
        super().__init__(path, "rb")
        self.on_bytes = on_bytes

    def readinto(self, buffer: Any) -> int | None:
        read = super().readinto(buffer)
        if self.on_bytes is not None and read:
            self.on_bytes(read)
        return read


def _plain(file: Any, ending: str) -> BinaryIO:
    """The file as it was before it was compressed."""
    if ending == ".gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if ending == ".bz2":
        return cast(BinaryIO, bz2.BZ2File(file))
    if ending:
        # Imported late: other files need no Arrow.
        from opportune.cli.replay_arrow import zstandard

        return zstandard(cast(BinaryIO, file))
    return cast(BinaryIO, file)


def _split(file: BinaryIO, name: str) -> Iterator[list[bytes]]:
    """Lines without their ends."""
    rest = b""
    while block := file.read(BLOCK_BYTES):
        joined = rest + block
        lines = joined.split(b"\n")
        rest = lines.pop()
        if len(rest) > LINE_BYTES_MAX:
            raise ConfigurationError(f"{name} has a line of more than {LINE_BYTES_MAX >> 20} MiB; is it JSON lines?")
        if b"\r" in joined:
            lines = [line.rstrip(b"\r") for line in lines]
        if lines := list(filter(None, lines)):
            yield lines
    if last := rest.rstrip(b"\r"):
        yield [last]


def _csv(file: BinaryIO, delimiter: str) -> Iterator[list[bytes]]:
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        columns = [_column(name) for name in next(rows, [])]
        made: list[bytes] = []
        for row in rows:
            if not row:
                continue
            if len(row) != len(columns):
                raise csv.Error(f"line {rows.line_num} has {len(row)} cells, the header has {len(columns)}")
            message: dict[str, Any] = {}
            for (keys, is_text), cell in zip(columns, row, strict=True):
                if cell:
                    _put(message, keys, cell if is_text else _value(cell))
            made.append(encode(message))
            if len(made) == TABLE_ROWS:
                yield made
                made = []
        if made:
            yield made


def _column(name: str) -> tuple[tuple[str, ...], bool]:
    """The path of a column of a CSV file, and whether its cells are texts."""
    path, colon, kind = name.strip().partition(":")
    return tuple(path.split(".")), path in TEXTS or (bool(colon) and kind != "number")


def _value(cell: str) -> Any:
    if cell in ("true", "false"):
        return cell == "true"
    return msgspec.Raw(cell.encode()) if NUMBER.fullmatch(cell) else cell


def _put(message: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    for key in keys[:-1]:
        inner = message.get(key)
        if not isinstance(inner, dict):
            inner = message[key] = {}
        message = inner
    message[keys[-1]] = value


def _parquet(path: Path, on_bytes: Callable[[int], None] | None) -> Iterator[list[bytes]]:
    from opportune.cli.replay_arrow import parquet_rows

    size, done = path.stat().st_size, 0
    rows, batches = parquet_rows(path, TABLE_ROWS)
    for number, batch in enumerate(batches, 1):
        made = []
        for row in batch:
            message: dict[str, Any] = {}
            for name, value in row.items():
                if value is not None:
                    _put(message, tuple(name.split(".")), _without_nulls(value))
            made.append(encode(message))
        if on_bytes is not None:
            # What was read of it is told in rows.
            reached = size * min(number * TABLE_ROWS, rows) // max(rows, 1)
            on_bytes(reached - done)
            done = reached
        if made:
            yield made


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
