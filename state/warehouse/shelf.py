"""Where the snapshots of one table lie, and which of them holds.

Owns: the directory of a table::

    0001763978400123/         a snapshot: rows.arrow, manifest.json; the greatest number is the newest
    0001763978999000.held/    one that waits for a confirmation
    new-4711/                 one that a process is making; whoever holds the lock removes what others left
    lock                      held (flock) by the one process that refreshes
    last.json                 how the last refresh ended
    watermark.json            how far the source was read by refreshes that changed nothing, and of which snapshot

Invariant: a snapshot appears by a rename, whole and durable. It is not removed while a process reads it (a shared flock
on its manifest) or while it is one of the two newest.
Not here: what is in a snapshot (state.warehouse.snapshot), making one (state.warehouse.refreshing).
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote

import msgspec

from opportune.errors import StateError, TransientError
from state.warehouse.manifest import (
    MANIFEST,
    VERSION_DIGITS,
    Manifest,
    Watermark,
    damaged,
    read_manifest,
    sync_directory,
    version_text,
    write_durably,
)

KEPT = 2
HELD = ".held"
LAST = "last.json"
READ = "watermark.json"
Outcome: TypeAlias = Literal["published", "unchanged", "held", "failed"]


class Last(msgspec.Struct, frozen=True):
    """How the last refresh of a table ended.

    Args:
        at_ms: when, by the clock of the process.
        outcome: ``published``, ``unchanged``, ``held`` or ``failed``.
        version: of the snapshot that it made, where it made one.
        error: what went wrong, for people.
        seconds: how long it took.
    """

    at_ms: int
    outcome: Outcome
    version: str = ""
    error: str = ""
    seconds: float = 0.0


class _Read(msgspec.Struct, frozen=True):
    """How far the source of the snapshot ``version`` was read."""

    version: str
    watermark: Watermark


class Pin:
    """A snapshot that is read: it is not removed before ``release``."""

    def __init__(self, directory: Path) -> None:
        self._handle = os.open(directory / MANIFEST, os.O_RDONLY)
        fcntl.flock(self._handle, fcntl.LOCK_SH)

    def release(self) -> None:
        """It is not read any more."""
        os.close(self._handle)


class Shelf:
    """The snapshots of one table.

    Args:
        warehouse: the directory of all tables of a state directory.
        table: the table's name.
    """

    def __init__(self, warehouse: Path, table: str) -> None:
        self.table = table
        self.directory = warehouse / quote(table, safe="")

    def path(self, version: str) -> Path:
        """Where a version lies, or would."""
        return self.directory / version

    def versions(self) -> list[str]:
        """The versions that may come into force, in order."""
        return sorted(name for name in self._names() if _is_version(name))

    def newest(self) -> Manifest | None:
        """The manifest of the newest snapshot; None where there is none.

        Raises:
            StateError: it is damaged.
        """
        versions = self.versions()
        # One that was confirmed was renamed only: its manifest still has the reason why it waited.
        return msgspec.structs.replace(read_manifest(self.path(versions[-1])), held="") if versions else None

    def held(self) -> Manifest | None:
        """The snapshot that waits for a confirmation, if one does."""
        names = sorted(name for name in self._names() if name.endswith(HELD) and _is_version(name[: -len(HELD)]))
        return read_manifest(self.directory / names[-1]) if names else None

    def held_path(self, manifest: Manifest) -> Path:
        """Where the snapshot lies that waits for a confirmation."""
        return self.directory / (manifest.version + HELD)

    def last(self) -> Last | None:
        """How the last refresh ended; None where there was none, or nobody knows."""
        try:
            return msgspec.json.decode((self.directory / LAST).read_bytes(), type=Last)
        except (OSError, msgspec.DecodeError):
            return None

    def note(self, last: Last) -> None:
        """Writes down how a refresh ended; where even that fails (a full disk), the log has it."""
        try:
            write_durably(self.directory / LAST, msgspec.json.encode(last))
        except OSError:
            return

    def watermark(self, manifest: Manifest) -> Watermark | None:
        """How far the source of a snapshot was read, by the refresh that made it or by later ones that changed nothing."""
        try:
            read = msgspec.json.decode((self.directory / READ).read_bytes(), type=_Read)
        except (OSError, msgspec.DecodeError):
            return manifest.watermark
        return read.watermark if read.version == manifest.version else manifest.watermark

    def read_on(self, manifest: Manifest, watermark: Watermark) -> None:
        """Notes that the source holds nothing else up to a watermark than a snapshot; the lock must be held."""
        if watermark != self.watermark(manifest):
            write_durably(self.directory / READ, msgspec.json.encode(_Read(manifest.version, watermark)))

    @contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[None]:
        """One process at a time; a second one waits, and takes over when the first one is done, or dead.

        Raises:
            TransientError: another one holds the lock and ``wait`` is false.
            StateError: the directory cannot be written.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StateError(
                f"the directory of warehouse snapshots {self.directory} cannot be written: {error.strerror}"
            ) from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise TransientError(f"table {self.table!r}: another process refreshes it; try again") from error
            yield
        finally:
            os.close(handle)

    def begin(self) -> Path:
        """An empty directory for a new snapshot; the lock must be held."""
        for name in self._names():
            if name.startswith("new-"):
                shutil.rmtree(self.directory / name, ignore_errors=True)
        new = self.directory / f"new-{os.getpid()}"
        new.mkdir()
        return new

    def next_version(self, now_ms: int) -> str:
        """A version above every one that is there, whatever the clock says."""
        taken = [name.removesuffix(HELD) for name in self._names() if _is_version(name.removesuffix(HELD))]
        last = self.last()
        taken += [last.version] if last is not None and last.version else []
        return version_text(max([now_ms, *(int(version) + 1 for version in taken)]))

    def publish(self, new: Path, manifest: Manifest) -> None:
        """Makes a finished directory the newest snapshot, or, where its manifest says so, the one that is held."""
        for old in self.directory.glob(f"*{HELD}"):
            shutil.rmtree(old, ignore_errors=True)
        new.rename(self.path(manifest.version + (HELD if manifest.held else "")))
        sync_directory(self.directory)

    def confirm(self) -> Manifest:
        """Lets the held snapshot come into force.

        Raises:
            StateError: none is held, or a newer one has come since.
        """
        with self.locked():
            held = self.held()
            if held is None:
                raise StateError(f"table {self.table!r}: no snapshot waits for a confirmation")
            versions = self.versions()
            if versions and versions[-1] > held.version:
                raise StateError(
                    f"table {self.table!r}: a newer snapshot than the held one is there; refresh again instead"
                )
            self.path(held.version + HELD).rename(self.path(held.version))
            sync_directory(self.directory)
            return held

    def reject(self) -> None:
        """Removes the held snapshot; the lock must be held."""
        for old in self.directory.glob(f"*{HELD}"):
            shutil.rmtree(old, ignore_errors=True)

    def prune(self, kept: Callable[[str], bool] = lambda version: False) -> list[str]:
        """Removes snapshots that nobody reads and that are not among the newest; returns them.

        Args:
            kept: whether a version is to stay although nobody reads it now.
        """
        removed = []
        for version in self.versions()[:-KEPT]:
            if kept(version) or _is_read(self.path(version)):
                continue
            gone = self.directory / f"new-{version}"
            self.path(version).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
            removed.append(version)
        return removed

    def pin(self, version: str) -> Pin:
        """Keeps a snapshot from being removed.

        Raises:
            StateError: it is not there.
        """
        try:
            return Pin(self.path(version))
        except OSError as error:
            raise damaged(self.path(version), f"it is not there ({error.strerror})") from error

    def _names(self) -> list[str]:
        try:
            return [path.name for path in self.directory.iterdir()]
        except FileNotFoundError:
            return []


def shelves(warehouse: Path, tables: Iterable[str]) -> dict[str, Shelf]:
    """The shelf of each table, by name."""
    return {name: Shelf(warehouse, name) for name in tables}


def _is_version(name: str) -> bool:
    return len(name) == VERSION_DIGITS and name.isascii() and name.isdigit()


def _is_read(directory: Path) -> bool:
    try:
        handle = os.open(directory / MANIFEST, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
