"""When tables are refreshed while the job runs, and how shards learn of it.

Owns: a thread that starts ``opportune warehouse refresh`` for a table whose time has come, as a process of its own (reading
millions of rows beside the flow would hold it up), and that looks for newer snapshots, whoever made them. What it finds
the job puts on the control topic (``announcements``).
Invariants: at most one process a table; a failure is told and tried again after a while, and changes nothing; at the end no
process is left.
Not here: refreshing (state.warehouse), what a decision does (flows.refresh).
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import msgspec

from flows.exit_codes import CLEAN, HELD
from flows.snapshots import TableSnapshots
from opportune.clock import Clock

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""So often it looks for newer snapshots."""
RETRY_MS = 30_000
"""After a failure, the next try; or the table's interval, where that is shorter."""
END_S = 5.0
HUNG_MS = 3_600_000
"""A refresh that takes longer is ended: its source hangs."""
NICE = 10
ERROR_CHARS_MAX = 2_000


class TableRefreshes:
    """The refreshes of a running job.

    Args:
        project: the project directory.
        state: the state directory.
        snapshots: the project's.
        announced: the versions that all shards know.
        monotonic: milliseconds that never go back.
    """

    def __init__(
        self, project: Path, state: Path, snapshots: TableSnapshots, announced: Mapping[str, str], monotonic: Clock
    ) -> None:
        self._project = project
        self._state = state
        self._snapshots = snapshots
        self._announced = dict(announced)
        self._monotonic = monotonic
        self._found: dict[str, str] = {}
        self._lock = Lock()
        self._stop = Event()
        # Every start begins with a refresh: the source may have changed while nothing ran.
        self._due: dict[str, int | None] = dict.fromkeys(snapshots.tables, 0)
        self._began: dict[str, int] = {}
        self._held: dict[str, str] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._thread = Thread(target=self._run, name="refreshes", daemon=True)
        self.failures = 0

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends, and every refresh that runs: what it has done so far means nothing."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def announcements(self) -> dict[str, str]:
        """Versions that are to be put in force, each handed out once."""
        if not self._found:
            return {}
        with self._lock:
            found, self._found = self._found, {}
        return found

    def status(self) -> dict[str, Any]:
        """Of each table: the newest snapshot, what is held back, and how the last refresh ended; for the status file."""
        return {name: self._status(name) for name in self._snapshots.tables}

    def _status(self, name: str) -> dict[str, Any]:
        shelf, manifest = self._snapshots.shelves[name], self._snapshots.manifest(name)
        last, held = shelf.last(), None
        try:
            held = shelf.held()
        except Exception:  # whatever is wrong with what is held back, the status says the rest
            log.exception("table %s: what is held back cannot be read", name)
        return {
            "version": manifest.version if manifest is not None else None,
            "rows": manifest.rows if manifest is not None else None,
            "refreshed_ms": manifest.refreshed_ms if manifest is not None else None,
            "held": held.held if held is not None else None,
            "last": msgspec.to_builtins(last) if last is not None else None,
        }

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            for name in self._snapshots.tables:
                self._look(name)
                self._refresh(name)

    def _look(self, name: str) -> None:
        try:
            versions = self._snapshots.shelves[name].versions()
        except OSError as error:
            log.warning("table %s: its snapshots cannot be listed: %s", name, error)
            return
        if versions and versions[-1] > self._announced.get(name, ""):
            manifest = self._snapshots.manifest(name)
            if manifest is None or manifest.version <= self._announced.get(name, ""):
                return
            self._announced[name] = manifest.version
            with self._lock:
                self._found[name] = manifest.version
            log.info(
                "table %s: snapshot %s, %d rows, %d of them changed, %d gone", name, manifest.version,
                manifest.rows, manifest.changed_rows, manifest.lost_rows,
            )  # fmt: skip

    def _refresh(self, name: str) -> None:
        """Starts the table's refresh when its time has come, and sees how one that runs has ended."""
        process = self._running.get(name)
        if process is None:
            due = self._due[name]
            if due is not None and self._monotonic() >= due:
                self._began[name] = self._monotonic()
                self._running[name] = self._begin(name)
            return
        if process.poll() is None:
            if self._monotonic() - self._began[name] > HUNG_MS:
                log.error("table %s: the refresh takes longer than %d s; it is ended", name, HUNG_MS // 1000)
                process.kill()
            return
        del self._running[name]
        every = self._snapshots.tables[name].refresh_ms
        self._due[name] = self._monotonic() + every if every is not None else None
        said = process.communicate()[0].decode("utf-8", "replace").strip()[-ERROR_CHARS_MAX:]
        if process.returncode not in (CLEAN, HELD):
            self.failures += 1
            self._due[name] = self._monotonic() + min(RETRY_MS, every or RETRY_MS)
            log.error("table %s: the refresh failed, the last good snapshot stays in force: %s", name, said)
        elif process.returncode == HELD and said != self._held.get(name):
            # Once, not at every interval.
            log.warning("%s", said)
        self._held[name] = said

    def _begin(self, name: str) -> subprocess.Popen[bytes]:
        # nice: events come first.
        command = [
            "nice",
            "-n",
            str(NICE),
            sys.executable,
            "-m",
            "opportune.cli.main",
            "warehouse",
            "refresh",
            str(self._project),
        ]
        command += ["--state", str(self._state), "--table", name, "--quiet", "--with-parent"]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
