"""From a source to the files of a snapshot, in bounded memory.

Owns: the order of the work: the source's batches go to disk and their keys into memory, the keys are sorted, then one
column after the other is read back, converted, sorted and put aside, and last the rows' file is written of them all.
Invariant: whatever goes wrong, an exception leaves; what was written so far is in the given directory and means nothing
without a manifest. Memory: about 80 bytes a row, and the largest column.
Not here: where snapshots lie (state.warehouse.shelf), whether one may come into force (state.warehouse.guard).
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from opportune.audiences.plan import fingerprint
from opportune.audiences.schema import Table, ValueType
from state.warehouse.index import Positions
from state.warehouse.keys import Arranged
from state.warehouse.loading import Prepared, give_back_memory
from state.warehouse.readings import Read
from state.warehouse.snapshot import write_rows
from state.warehouse.spool import Spool, put_aside, taken_up
from state.warehouse.stored import stored

FINGERPRINT_BYTES = 16
Progress = Callable[[str, int], None]
"""Told the step of the work and how many rows it has done."""


class Written(NamedTuple):
    """What is known of the rows that were written."""

    rows: int
    blocked_rows: int
    columns: dict[str, ValueType]
    fingerprint: str


def kept_columns(table: Table, used: list[str]) -> dict[str, ValueType | None]:
    """The columns that a snapshot keeps: those that definitions use and those that warehouse.yml declares or indexes."""
    names = sorted({*used, *table.columns, *table.indexes} - {table.key})
    names += [table.key] if table.key in (*used, *table.indexes) else []
    return {name: table.columns.get(name) for name in names}


def definition_of(table: Table, kept: dict[str, ValueType | None]) -> str:
    """A fingerprint of what decides the content of a snapshot beside the source."""
    decides: list[object] = [table.key, table.namespace, table.order_by, sorted(kept.items())]
    return fingerprint((*decides, *([sorted(table.indexes)] if table.indexes else [])))


def write_table(
    table: Table, prepared: Prepared, kept: dict[str, ValueType | None], into: Path, file: str, progress: Progress
) -> Written:
    """Reads a source and writes the rows' file.

    Args:
        table: the table.
        prepared: its source, opened for the kept columns.
        kept: the columns to keep.
        into: an empty directory.
        file: the name of the rows' file.
        progress: told what is done.

    Raises:
        DefinitionError: the rows are not what the table asks for.
        OSError: the disk refuses.
    """
    source, problems, keys, readings = prepared
    try:
        with Spool(into / "spool", {name: source.types[name] for name in readings}) as spool:
            rows = 0
            for batch in source.batches(list(dict.fromkeys([table.key, *readings]))):
                keys.add(batch.column(table.key))
                spool.add(batch)
                rows += batch.num_rows
                progress("reading", rows)
            spool.end()
            progress("sorting", rows)
            ordering = _read(prepared, spool, table.order_by) if table.order_by is not None else None
            problems.check()
            arranged = keys.arrange(ordering.column if ordering is not None else None)
            del ordering
            give_back_memory()
            types, digest = _columns(prepared, spool, kept, arranged, into, progress)
        texts = keys.texts().arranged(arranged.order).arrow()
        write_rows(
            into / file,
            arranged.profiles,
            texts,
            [taken_up(_aside(into, number)) for number in range(len(kept))],
        )
        for number in range(len(kept)):
            _aside(into, number).unlink()
        return Written(len(arranged.profiles), keys.blocked_rows, types, digest)
    finally:
        give_back_memory()


def _columns(
    prepared: Prepared,
    spool: Spool,
    kept: dict[str, ValueType | None],
    arranged: Arranged,
    into: Path,
    progress: Progress,
) -> tuple[dict[str, ValueType], str]:
    """Converts and sorts one column after the other; returns their types and the fingerprint of the content."""
    digest = blake2b(digest_size=FINGERPRINT_BYTES)
    for part in arranged.profiles.content():
        digest.update(part)
    types: dict[str, ValueType] = {}
    for number, name in enumerate(kept):
        progress(f"column {name}", len(arranged.order))
        read = _read(prepared, spool, name)
        if read is not None:
            types[name] = read.type
            digest.update(repr((name, read.type)).encode())
            _put(read, name, arranged.order, _aside(into, number), digest)
        del read
        give_back_memory()
    prepared.problems.check()
    return types, digest.hexdigest()


def _read(prepared: Prepared, spool: Spool, name: str) -> Read | None:
    """A column as it was read; None where it has problems, which are told in the end."""
    reading = prepared.reading(name)
    for array in spool.column(name):
        reading.add(array)
    return reading.finish()


def _put(read: Read, name: str, order: Positions, path: Path, digest: Any) -> None:
    column = read.column.arranged(order)
    for part in column.content():
        digest.update(part)
    put_aside(path, *stored(name, read.type, column))


def _aside(into: Path, number: int) -> Path:
    return into / f"column-{number}"
