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

from opportune.audiences.schema import Table
from opportune.clock import Clock
from opportune.errors import OpportuneError, StateError, TransientError
from state.warehouse.differences import Figures, figures
from state.warehouse.guard import objection
from state.warehouse.loading import prepare
from state.warehouse.manifest import ROWS, Manifest, checksum, read_manifest, write_manifest
from state.warehouse.secondary import build_indexes
from state.warehouse.secrets import masked
from state.warehouse.shelf import Last, Outcome, Shelf
from state.warehouse.snapshot import open_snapshot
from state.warehouse.writing import Progress, Written, definition_of, kept_columns, write_table


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

    def refresh(self, *, dry_run: bool = False, unguarded: bool = False, wait: bool = True) -> Refreshed:
        """Reads the source and publishes what it has.

        Args:
            dry_run: nothing is published, not even held.
            unguarded: whatever the guard says, publish.
            wait: for another process that refreshes the same table.

        Raises:
            DefinitionError: the source or its rows are not what the definition asks for.
            TransientError: the source cannot be reached, the disk is full, or another process refreshes.
            StateError: the directory of snapshots cannot be used.
        """
        began = monotonic()
        with self.shelf.locked(wait=wait):
            try:
                with _disk(self.shelf.directory):
                    done = self._refresh(dry_run=dry_run, unguarded=unguarded)
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

    def _refresh(self, *, dry_run: bool, unguarded: bool) -> Refreshed:
        new = self.shelf.begin()
        try:
            refreshed_ms = self.clock()
            prepared = prepare(self.table, self.directory, self.kept)
            written = write_table(self.table, prepared, self.kept, new, ROWS, self.progress)
            self.on_point("written")
            manifest = self._manifest(new, written, refreshed_ms)
            done = self._judge(new, manifest, unguarded=unguarded)
            if dry_run or done.outcome == "unchanged":
                return done
            build_indexes(new, self.table.indexes)
            self.on_point("before_publish")
            self.shelf.publish(new, done.manifest)
            self.on_point("published")
            return done
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _manifest(self, new: Path, written: Written, refreshed_ms: int) -> Manifest:
        rows = new / ROWS
        handle = os.open(rows, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
        self.on_point("synced")
        return Manifest(
            table=self.table.name,
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
        )

    def _judge(self, new: Path, manifest: Manifest, *, unguarded: bool) -> Refreshed:
        """Compares with the snapshot before, and writes the manifest."""
        before = self._before()
        if before is not None and _same(before, manifest):
            self.shelf.reject()
            return Refreshed("unchanged", before, None)
        found = None
        if before is not None:
            self.progress("comparing", manifest.rows)
            write_manifest(new, manifest)
            old = open_snapshot(self.shelf.path(before.version), used=[n for n in self.used if n in before.columns])
            found = figures(old, open_snapshot(new, used=self.used))
            held = "" if unguarded else objection(found, self.table.guard)
            changed = found.changed + found.added
            manifest = msgspec.structs.replace(manifest, held=held, changed_rows=changed, lost_rows=found.gone)
        waiting = self.shelf.held()
        if manifest.held and waiting is not None and _same(waiting, manifest):
            return Refreshed("unchanged", waiting, found)
        write_manifest(new, manifest)
        return Refreshed("held" if manifest.held else "published", manifest, found)

    def _before(self) -> Manifest | None:
        """The snapshot before; None where there is none or it is damaged, which nothing can be compared with."""
        try:
            return self.shelf.newest()
        except StateError:
            return None


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
