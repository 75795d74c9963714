"""The manifest of a snapshot: what a directory of rows is, and whether it is whole.

Owns: ``manifest.json``, written last, so that a directory with one is complete::

    {"format": 1, "table": name, "namespace": of the keys, "version": 16 digits, "fingerprint": of the content, "rows": n, "blocked_rows": n,
     "definition": fingerprint, "columns": {name: type}, "source": text, "refreshed_ms": instant,
     "file": "rows.arrow", "bytes": n, "checksum": xxh3_128 of the file, "changed_rows": n, "lost_rows": n,
     "watermark": null or {"column": name, "value": n, "instants": bool, "full_ms": instant}, "read_rows": n}

Versions are whole numbers that rise with every snapshot of a table, written with 16 digits so that texts order as they
do; they begin as milliseconds since the epoch, so that they go on rising where the directory was lost.
Invariant: ``read_manifest`` returns the manifest of a complete directory or raises.
Not here: the rows (state.warehouse.snapshot), which version is the last one (state.warehouse.shelf).
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import xxhash

from opportune.audiences.schema import ValueType
from opportune.errors import StateError

FORMAT = 1
MANIFEST = "manifest.json"
ROWS = "rows.arrow"
VERSION_DIGITS = 16
_READ_BYTES = 4 << 20


class Watermark(msgspec.Struct, frozen=True):
    """How far the source was read, of a table that is read incrementally.

    Args:
        column: that rises whenever a row is written.
        value: the greatest in it that was read: a whole number, or milliseconds since the epoch.
        instants: whether it is the latter.
        full_ms: when all rows were read last, by the clock of the process that read them.
    """

    column: str
    value: int
    instants: bool
    full_ms: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of itself.

    Args:
        format: of the directory.
        table: the table's name.
        namespace: what kind of identifier the keys are.
        version: 16 digits.
        fingerprint: of the content, 32 hexadecimal digits; equal content has the same.
        definition: of what the table's definition asks for; a snapshot of another one is not that table.
        rows: how many there are.
        blocked_rows: how many were left out because their key can belong to nobody.
        columns: the types of the columns that were kept.
        source: where the rows came from, without secrets.
        refreshed_ms: when the source was read, by the clock of the process that read it.
        file: the name of the rows' file.
        bytes: its length.
        checksum: xxh3_128 of its bytes, in hexadecimal digits.
        changed_rows: rows of which a kept column differs from the snapshot before, new ones included.
        lost_rows: rows that the snapshot before had and this one has not.
        held: why it waits for a confirmation; empty: it does not.
        watermark: how far the source was read; None: every refresh reads all of it.
        read_rows: how many rows the source gave.
    """

    format: int = FORMAT
    table: str
    version: str
    fingerprint: str
    definition: str
    rows: int
    blocked_rows: int = 0
    columns: dict[str, ValueType]
    source: str
    refreshed_ms: int
    file: str = ROWS
    bytes: int
    checksum: str
    changed_rows: int = 0
    lost_rows: int = 0
    held: str = ""
    watermark: Watermark | None = None
    read_rows: int = 0
    namespace: str = "user_id"


_decode = msgspec.json.Decoder(Manifest).decode


def version_text(number: int) -> str:
    """A version as it is written."""
    return f"{number:0{VERSION_DIGITS}d}"


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a snapshot, whose file has the length that it says.

    Raises:
        StateError: there is none, it is not readable, a newer version wrote it, or the file is cut off.
    """
    try:
        manifest = _decode((directory / MANIFEST).read_bytes())
        length = (directory / manifest.file).stat().st_size
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise damaged(directory, f"its manifest cannot be used: {error}") from error
    if manifest.format != FORMAT:
        raise damaged(directory, f"it has format {manifest.format}, and this version reads {FORMAT}")
    if length != manifest.bytes:
        raise damaged(directory, f"{manifest.file} has {length} bytes, and its manifest says {manifest.bytes}")
    return manifest


def verify(directory: Path, manifest: Manifest) -> None:
    """Reads the rows' file and compares its checksum.

    Raises:
        StateError: it does not match.
    """
    if checksum(directory / manifest.file) != manifest.checksum:
        raise damaged(directory, f"the checksum of {manifest.file} does not match its manifest")


def checksum(path: Path) -> str:
    """xxh3_128 of a file, in hexadecimal digits."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Writes the manifest, durably: the file, then the directory's entry."""
    write_durably(directory / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def write_durably(path: Path, content: bytes) -> None:
    """Replaces a file in one step that survives a power cut."""
    beside = path.with_name(f"{path.name}.new")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Makes a directory's entries durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def damaged(directory: Path, what: str) -> StateError:
    """The error of a snapshot that cannot be used."""
    return StateError(
        f"the warehouse snapshot {directory} cannot be used: {what}. Remove that directory, then "
        "`opportune warehouse refresh` makes a new one"
    )
