"""A refresh: a table's source becomes the newest snapshot, or nothing changes and everybody can see why.

Owns: the sequence, which has one instant at which the new snapshot is there (a rename)::

    lock -> read, validate, write beside -> fsync -> compare with the last one -> manifest, fsync -> rename -> note -> prune

Invariant: on any failure, a killed process included, the last good snapshot stays the newest one. A refresh whose content
equals the last snapshot's makes none.
Not here: reading a source (state.warehouse.writing), when a refresh begins and how shards learn of it (flows.refresher).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import msgspec

from opportune.audiences.schema import Table, ValueType
from opportune.audiences.warehouse_file import extra_columns
from opportune.clock import Clock
from opportune.errors import DefinitionError, OpportuneError, StateError, TransientError
from state.warehouse.differences import Figures, figures
from state.warehouse.guard import objection
from state.warehouse.incremental import Base, is_due
from state.warehouse.loading import prepare
from state.warehouse.manifest import ROWS, Manifest, checksum, read_manifest, verify, write_manifest
from state.warehouse.secondary import build_indexes
from state.warehouse.secrets import masked
from state.warehouse.shelf import Last, Outcome, Shelf
from state.warehouse.snapshot import open_snapshot
from state.warehouse.writing import Progress, Writing, Written, definition_of, kept_columns


class Refreshed(NamedTuple):
    """How a refresh ended: the newest or held snapshot, and how it differs from the one before (None: there was none)."""

    outcome: Outcome
    manifest: Manifest
    figures: Figures | None


class Refresher:
    """Refreshes one table.

    Args:
        table: its definition.
        directory: the project directory.
        shelf: where its snapshots lie.
        used: the columns that conditions use.
        clock: the wall clock, for versions.
        progress: told what is done.
        on_point: called at the named points of the work; tests end the process there.
    """

    def __init__(
        self,
        table: Table,
        directory: Path,
        shelf: Shelf,
        used: list[str],
        clock: Clock,
        *,
        progress: Progress = lambda step, rows: None,
        on_point: Callable[[str], None] = lambda point: None,
    ) -> None:
        self.table = table
        self.directory = directory
        self.shelf = shelf
        self.used = used
        self.kept = kept_columns(table, used)
        self.definition = definition_of(table, self.kept)
        self.clock = clock
        self.progress = progress
        self.on_point = on_point

    def refresh(
        self,
        *,
        dry_run: bool = False,
        unguarded: bool = False,
        full: bool = False,
        wait: bool = True,
        look: Callable[[Path, Refreshed], None] = lambda directory, done: None,
    ) -> Refreshed:
        """Reads the source and publishes what it has.

        Args:
            dry_run: nothing is published, not even held.
            unguarded: whatever the guard says, publish.
            full: all rows are read, also where the table is incremental.
            wait: for another process that refreshes the same table.
            look: called with the directory of a new snapshot before it is published, or in a dry run removed.

        Raises:
            DefinitionError: the source or its rows are not what the definition asks for.
            TransientError: the source cannot be reached, the disk is full, or another process refreshes.
            StateError: the directory of snapshots cannot be used.
        """
        began = monotonic()
        with self.shelf.locked(wait=wait):
            try:
                with _disk(self.shelf.directory):
                    done = self._refresh(dry_run=dry_run, unguarded=unguarded, full=full, look=look)
            except OpportuneError as error:
                if not dry_run:
                    self._note("failed", "", str(error), began)
                raise
            if not dry_run:
                self._note(done.outcome, done.manifest.version, done.manifest.held, began)
                self.shelf.prune()
        return done

    def current(self) -> Manifest | None:
        """The newest snapshot, where it is one of this definition."""
        newest = self.shelf.newest()
        return newest if newest is not None and newest.definition == self.definition else None

    def fits(self, directory: Path) -> bool:
        """Whether a snapshot is one of this definition."""
        return read_manifest(directory).definition == self.definition

    def _note(self, outcome: Outcome, version: str, error: str, began: float) -> None:
        seconds = round(monotonic() - began, 3)
        self.shelf.note(Last(self.clock(), outcome, version, error, seconds))

    def _refresh(
        self, *, dry_run: bool, unguarded: bool, full: bool, look: Callable[[Path, Refreshed], None]
    ) -> Refreshed:
        new = self.shelf.begin()
        try:
            refreshed_ms = self.clock()
            written = self._written(new, refreshed_ms, full=full)
            self.on_point("written")
            if not written.file:
                return self._read_on(written, dry_run=dry_run)
            manifest = self._manifest(new, written, refreshed_ms)
            done = self._judge(new, manifest, unguarded=unguarded)
            if done.outcome != "unchanged":
                look(new, done)
            if dry_run:
                return done
            if done.outcome == "unchanged":
                return self._read_on(written, dry_run=dry_run) if not done.manifest.held else done
            build_indexes(new, self.table.indexes)
            self.on_point("before_publish")
            self.shelf.publish(new, done.manifest)
            self.on_point("published")
            return done
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _written(self, new: Path, now_ms: int, *, full: bool) -> Written:
        """Reads what is new where that is possible; what an incremental read cannot take, a full one judges."""
        base = None if full else self._base(now_ms)
        if base is not None:
            try:
                return self._read(new, now_ms, base)
            except DefinitionError:
                self.progress("reading all rows", 0)
                shutil.rmtree(new)
                new.mkdir()
        return self._read(new, now_ms, None)

    def _read(self, new: Path, now_ms: int, base: Base | None) -> Written:
        kept: dict[str, ValueType | None] = self.kept
        since = None
        if base is not None and self.table.incremental is not None:
            kept = {name: base.manifest.columns[name] for name in kept}
            since = base.since(self.table.incremental)
        prepared = prepare(self.table, self.directory, kept, extra=extra_columns(self.table), since=since)
        return Writing(self.table, prepared, kept, new, ROWS, now_ms, self.progress, base).write()

    def _base(self, now_ms: int) -> Base | None:
        """What an incremental refresh can start from; None where all rows have to be read."""
        incremental = self.table.incremental
        if incremental is None:
            return None
        try:
            manifest = self.current()
            watermark = self.shelf.watermark(manifest) if manifest is not None else None
            if manifest is None or watermark is None or watermark.column != incremental.column:
                return None
            if is_due(incremental, watermark, now_ms):
                return None
            # A byte that turned would otherwise be taken over, with a new checksum.
            table = open_snapshot(self.shelf.path(manifest.version), used=list(self.kept), checked=True)
        except StateError:
            return None
        return Base(manifest, table, watermark)

    def _read_on(self, written: Written, *, dry_run: bool) -> Refreshed:
        """Nothing has changed: the newest snapshot holds, and is known to be read further."""
        newest = self.shelf.newest()
        assert newest is not None, "a snapshot that was just compared with is gone"
        if not dry_run:
            self.shelf.reject()
            if written.watermark is not None:
                self.shelf.read_on(newest, written.watermark)
        return Refreshed("unchanged", newest, None)

    def _manifest(self, new: Path, written: Written, refreshed_ms: int) -> Manifest:
        rows = new / ROWS
        handle = os.open(rows, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
        self.on_point("synced")
        return Manifest(
            table=self.table.name,
            namespace=self.table.namespace,
            version=self.shelf.next_version(refreshed_ms),
            fingerprint=written.fingerprint,
            definition=self.definition,
            rows=written.rows,
            blocked_rows=written.blocked_rows,
            columns=written.columns,
            source=masked(self.table.source),
            refreshed_ms=refreshed_ms,
            bytes=rows.stat().st_size,
            checksum=checksum(rows),
            watermark=written.watermark,
            read_rows=written.read_rows,
        )

    def _judge(self, new: Path, manifest: Manifest, *, unguarded: bool) -> Refreshed:
        """Compares with the snapshot before, and writes the manifest."""
        before = self._before()
        if before is not None and _same(before, manifest) and self._holds(before):
            return Refreshed("unchanged", before, None)
        found = None
        if before is not None:
            self.progress("comparing", manifest.rows)
            write_manifest(new, manifest)
            old = open_snapshot(self.shelf.path(before.version), used=[n for n in self.used if n in before.columns])
            found = figures(old, open_snapshot(new, used=self.used))
            if self._holds(before) and self._is_equal(new, found, before):
                return Refreshed("unchanged", before, None)
            held = "" if unguarded else objection(found, self.table.guard)
            changed = found.changed + found.added
            manifest = msgspec.structs.replace(manifest, held=held, changed_rows=changed, lost_rows=found.gone)
        waiting = self.shelf.held()
        if manifest.held and waiting is not None and _same(waiting, manifest):
            return Refreshed("unchanged", waiting, found)
        write_manifest(new, manifest)
        return Refreshed("held" if manifest.held else "published", manifest, found)

    def _is_equal(self, new: Path, found: Figures, before: Manifest) -> bool:
        """Whether content is equal that has another fingerprint, because it is laid out in another way."""
        if found.changed or found.added or found.gone or before.definition != self.definition:
            return False
        others = sorted(self.kept.keys() - set(self.used))
        if not others:
            return True
        rest = figures(open_snapshot(self.shelf.path(before.version), used=others), open_snapshot(new, used=others))
        return not rest.changed

    def _before(self) -> Manifest | None:
        """The last good snapshot; None where there is none that is whole, which nothing can be compared with."""
        for version in reversed(self.shelf.versions()):
            try:
                manifest = read_manifest(self.shelf.path(version))
                verify(self.shelf.path(version), manifest)
            except (StateError, OSError):
                continue
            # As Shelf.newest has it: a version that lies here waits no more, whatever its manifest says of before.
            return msgspec.structs.replace(manifest, held="")
        return None

    def _holds(self, before: Manifest) -> bool:
        """Whether nothing newer lies there, which would be a damaged snapshot that has to be replaced."""
        return before.version == self.shelf.versions()[-1]


def _same(one: Manifest, other: Manifest) -> bool:
    return one.fingerprint == other.fingerprint and one.definition == other.definition


@contextmanager
def _disk(directory: Path) -> Iterator[None]:
    """Errors of the system as ours."""
    try:
        yield
    except OSError as error:
        if error.errno == ENOSPC:
            what = f"the disk of {directory} is full; free some space. The last good snapshot stays in force"
        else:
            what = f"writing a snapshot into {directory} failed: {error}. The last good snapshot stays in force"
        raise TransientError(what) from error
