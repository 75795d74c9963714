"""The processes that are measured: the calibrator, and ``opportune run``.

Owns: how each is started and stopped, and how its progress is read. What ``opportune run`` says of itself is read from
status.json in its state directory, and nowhere else (``Status``).
Not here: what is measured of them (bench.meter).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

from bench.kafka import BenchError, ends

STOP_SECONDS: Final = 30
LOG_LINES: Final = 12


class _Process:
    """A process of ours whose output goes to a log file."""

    name = ""
    log_name = "log"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def _start(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        with (self.directory / self.log_name).open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **(environment or {})}
            )

    def ended(self) -> str | None:
        assert self._process is not None, "not started"
        code = self._process.poll()
        return None if code is None else f"exit code {code}\n{self.log_tail()}"

    def stop(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise BenchError(f"{self.name} did not end within {STOP_SECONDS} s of SIGTERM\n{self.log_tail()}") from None

    def log_tail(self) -> str:
        """The last lines of what it printed."""
        log = self.directory / self.log_name
        return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:]) if log.exists() else ""


class Calibrator(_Process):
    """The plain Bytewax flow.

    Args:
        directory: for its recovery store and progress; is made.
        bootstrap: address of the broker.
        events: topic of events.
        changes: topic for its changes.
        plans_csv: user_id, plan.
    """

    name = "calibrator"

    def __init__(self, directory: Path, bootstrap: str, events: str, changes: str, plans_csv: Path) -> None:
        directory.mkdir(parents=True)
        super().__init__(directory)
        self._bootstrap, self._changes = bootstrap, changes
        self._arguments = [bootstrap, events, changes, str(plans_csv), str(directory)]

    @property
    def progress_file(self) -> Path:
        return self.directory / "progress"

    def start(self) -> None:
        self._start([sys.executable, "-m", "bench.calibrator", *self._arguments])

    def progress(self) -> int:
        try:
            return int(self.progress_file.read_text())
        except FileNotFoundError:
            return 0

    def changes(self) -> int:
        return sum(ends(self._bootstrap, self._changes).values())


class Status(msgspec.Struct):
    """What the measurements need of ``opportune run``'s status.json; it may say more.

    Args:
        applied: the next offset to apply, by ``topic/partition``.
        changes: membership changes emitted.
        rejected: refused records by reason.
    """

    applied: dict[str, int] = {}
    changes: int = 0
    rejected: dict[str, int] = {}


class Opportune(_Process):
    """``opportune run`` over a project directory.

    Args:
        name: of the job, for tables.
        project: the project directory.
        bootstrap: address of the broker.
        memberships: topic of its changes.
    """

    def __init__(self, name: str, project: Path, bootstrap: str, memberships: str) -> None:
        super().__init__(project)
        self.name = name
        self.memberships = memberships
        self._bootstrap = bootstrap

    @property
    def progress_file(self) -> Path:
        return self.directory / "state" / "status.json"

    def start(self) -> None:
        self._start([sys.executable, "-m", "opportune.cli.main", "run", str(self.directory)])

    def status(self) -> Status:
        """The newest status; zeros before there is one."""
        try:
            return msgspec.json.decode(self.progress_file.read_bytes(), type=Status)
        except FileNotFoundError:
            return Status()

    def progress(self) -> int:
        return sum(max(0, offset) for offset in self.status().applied.values())

    def changes(self) -> int:
        return sum(ends(self._bootstrap, self.memberships).values())
