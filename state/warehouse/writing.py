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

import numpy as np

from opportune.audiences.keeps import fingerprint
from opportune.audiences.schema import Table, ValueType
from opportune.identity import NAMESPACES
from state.warehouse.incremental import Base, Merged, mark
from state.warehouse.index import Mask
from state.warehouse.keys import Arranged
from state.warehouse.loading import Prepared, flags_of, give_back_memory
from state.warehouse.manifest import Watermark
from state.warehouse.readings import Read
from state.warehouse.snapshot import write_rows
from state.warehouse.spool import Spool, put_aside, taken_up
from state.warehouse.stored import stored

FINGERPRINT_BYTES = 16
Progress = Callable[[str, int], None]
"""Told the step of the work and how many rows it has done."""


class Written(NamedTuple):
    """What is known of the rows that were written.

    ``file``: whether they were; not where an incremental refresh read nothing that the snapshot before has not.
    """

    rows: int
    blocked_rows: int
    columns: dict[str, ValueType]
    fingerprint: str
    watermark: Watermark | None
    read_rows: int
    file: bool = True


def kept_columns(table: Table, used: list[str]) -> dict[str, ValueType | None]:
    """The columns that a snapshot keeps: those that definitions use and those that warehouse.yml declares or indexes.

    Not those that say when a row was written: they change with every row that is written as it was.
    """
    declared = set(table.columns)
    if table.incremental is not None:
        declared -= {table.incremental.column, table.incremental.deleted}
    names = sorted({*used, *declared, *table.indexes} - {table.key})
    names += [table.key] if table.key in (*used, *table.indexes) else []
    return {name: table.columns.get(name) for name in names}


def definition_of(table: Table, kept: dict[str, ValueType | None]) -> str:
    """A fingerprint of what decides the content of a snapshot beside the source."""
    deleted = table.incremental.deleted if table.incremental is not None else None
    decides: tuple[object, ...] = (table.key, table.namespace, table.order_by, sorted(kept.items()))
    if deleted is not None:
        decides = (*decides, deleted)
    if table.namespace != NAMESPACES[0]:
        # Their snapshots say which namespace it is, so that rows are found by identifiers that did not found a profile.
        decides = (*decides, table.normalise, table.region)
    if table.indexes:
        decides = (*decides, sorted(table.indexes))
    return fingerprint(decides)


class Writing(NamedTuple):
    """A snapshot on its way from a source to a directory.

    Args:
        table: the table.
        prepared: its source, opened for the kept columns and those that say when a row was written.
        kept: the columns to keep.
        into: an empty directory.
        file: the name of the rows' file.
        now_ms: the clock when the source was opened.
        progress: told what is done.
        base: what an incremental refresh starts from; None: the source gives all rows.
    """

    table: Table
    prepared: Prepared
    kept: dict[str, ValueType | None]
    into: Path
    file: str
    now_ms: int
    progress: Progress
    base: Base | None = None

    def write(self) -> Written:
        """Reads the source and writes the rows' file.

        Raises:
            DefinitionError: the rows are not what the table asks for.
            OSError: the disk refuses.
        """
        source, problems, keys, readings = self.prepared
        try:
            with Spool(self.into / "spool", {name: source.types[name] for name in readings}) as spool:
                rows = self._spool(spool)
                self.progress("sorting", rows)
                ordering = self._read(spool, self.table.order_by) if self.table.order_by is not None else None
                problems.check()
                arranged = keys.arrange(ordering.column if ordering is not None else None)
                del ordering
                watermark = self._watermark(spool)
                merged = Merged(arranged, self._gone(spool, arranged), self.base.table if self.base else None)
                give_back_memory()
                if self.base is not None and not self._changes(spool, merged):
                    before = self.base.manifest
                    return Written(
                        before.rows,
                        before.blocked_rows,
                        before.columns,
                        before.fingerprint,
                        watermark,
                        rows,
                        file=False,
                    )
                types, digest = self._columns(spool, merged)
            texts = merged.keys(keys.texts()).arrow()
            asides = [self._aside(number) for number in range(len(self.kept))]
            write_rows(self.into / self.file, merged.profiles, texts, [taken_up(path) for path in asides])
            for path in asides:
                path.unlink()
            blocked = max(keys.blocked_rows, self.base.manifest.blocked_rows if self.base is not None else 0)
            return Written(len(merged.profiles), blocked, types, digest, watermark, rows)
        finally:
            give_back_memory()

    def _spool(self, spool: Spool) -> int:
        """Takes all that the source gives; returns how many rows that were."""
        source, problems, keys, readings = self.prepared
        incremental = self.table.incremental
        since = self.base.since(incremental) if self.base is not None and incremental is not None else None
        rows = 0
        for batch in source.batches(list(dict.fromkeys([self.table.key, *readings]))):
            if since is not None:
                declared = self.table.columns.get(since.column)
                batch = since.kept(batch, declared, problems, text=source.text)  # noqa: PLW2901 - what is left of it
            keys.add(batch.column(self.table.key))
            spool.add(batch)
            rows += batch.num_rows
            self.progress("reading", rows)
        spool.end()
        return rows

    def _watermark(self, spool: Spool) -> Watermark | None:
        incremental, problems = self.table.incremental, self.prepared.problems
        if incremental is None:
            return None
        read = self._read(spool, incremental.column)
        problems.check()
        assert read is not None, "a column without problems was not read"
        before = self.base.watermark if self.base is not None else None
        return mark(read, incremental, self.now_ms, before, problems)

    def _gone(self, spool: Spool, arranged: Arranged) -> Mask:
        """Which rows say that they were deleted."""
        flag = self.table.incremental.deleted if self.table.incremental is not None else None
        read = self._read(spool, flag) if flag is not None else None
        self.prepared.problems.check()
        if flag is None or read is None:
            return np.zeros(len(arranged.order), dtype=np.bool_)
        return flags_of(read, flag, self.prepared.problems)[arranged.order]

    def _changes(self, spool: Spool, merged: Merged) -> bool:
        """Whether what was read differs from the snapshot before."""
        if merged.changes_keys():
            return True
        for name in self.kept:
            read = self._read(spool, name)
            self.prepared.problems.check()
            if read is not None and merged.changes(name, read):
                return True
        return False

    def _columns(self, spool: Spool, merged: Merged) -> tuple[dict[str, ValueType], str]:
        """Converts and sorts one column after the other; returns their types and the fingerprint of the content."""
        digest = blake2b(digest_size=FINGERPRINT_BYTES)
        for part in merged.profiles.content():
            digest.update(part)
        types: dict[str, ValueType] = {}
        for number, name in enumerate(self.kept):
            self.progress(f"column {name}", len(merged.profiles))
            read = self._read(spool, name)
            if read is not None:
                types[name] = read.type
                digest.update(repr((name, read.type)).encode())
                self._put(read, name, merged, number, digest)
            del read
            give_back_memory()
        self.prepared.problems.check()
        return types, digest.hexdigest()

    def _read(self, spool: Spool, name: str) -> Read | None:
        """A column as it was read; None where it has problems, which are told in the end."""
        reading = self.prepared.reading(name)
        for array in spool.column(name):
            reading.add(array)
        return reading.finish()

    def _put(self, read: Read, name: str, merged: Merged, number: int, digest: Any) -> None:
        column = merged.column(name, read)
        for part in column.content():
            digest.update(part)
        put_aside(self._aside(number), *stored(name, read.type, column))

    def _aside(self, number: int) -> Path:
        return self.into / f"column-{number}"
