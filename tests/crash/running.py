"""The real job as a process tree, and the ways to end it.

Owns: starting ``opportune run`` (supervisor and worker) on a project, finding its worker, killing either, and looking at
what a death left behind. Every wait is for a condition, with a deadline.
Invariant: nothing that was started here outlives the block of ``running_job``.
Not here: projects and events (tests.crash.project, tests.crash.traffic), what must hold (tests.crash.judgement).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event
from typing import Any

import psutil

from flows.metrics import read_status
from opportune.cli.run import KILL_VARIABLE
from opportune.clock import monotonic_ms
from state.outbox import Outbox
from state.rocks import Memory, RocksStore, shared_memory

ROOT = Path(__file__).resolve().parents[2]
RUNNING = "running: "
"""What a worker writes into its log when it begins to read."""


def until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Waits for a condition and returns its value; fails, saying what it was, after so many seconds."""
    pause, deadline = Event(), monotonic_ms() + int(seconds * 1_000)
    while not (found := condition()):
        assert monotonic_ms() < deadline, f"in {seconds} s it did not come about: {what}"
        pause.wait(0.02)
    return found


class RunningJob:
    """One project's job, started and ended as often as a test likes.

    Args:
        project: its directory; the state goes into ``state`` of it.
        bootstrap_servers: of the broker.
        environment: added to that of the process.
        arguments: added to the command line.
    """

    def __init__(
        self,
        project: Path,
        bootstrap_servers: str,
        environment: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.project = project
        self.state = project / "state"
        self.log = project / "job.log"
        self._command = ["run", str(project), "--bootstrap-servers", bootstrap_servers, "--state", str(self.state)]
        self._command += arguments
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._workers: list[int] = []
        self._mark = 0
        self._memory: Memory | None = None

    @property
    def supervisor(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        assert self._supervisor is not None, "the job was started"
        return self._supervisor

    def start(self, kill_at: str = "", arguments: tuple[str, ...] = ()) -> None:
        """Starts the supervisor.

        Args:
            kill_at: ``POINT:COUNT``: each worker kills itself there.
            arguments: for this start only.
        """
        environment = {**self.environment, **({KILL_VARIABLE: kill_at} if kill_at else {})}
        self._mark = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-m", "opportune.cli.main", *self._command, *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def said(self) -> str:
        """The log since the last start."""
        with self.log.open("rb") as log:
            log.seek(self._mark)
            return log.read().decode(errors="replace")

    def wait_said(self, text: str, seconds: float = 40.0) -> str:
        """Waits until the log since the last start has a text; returns that log."""
        try:
            until(lambda: text in self.said() or self.has_ended(), f"the job says {text!r}", seconds)
            assert text in self.said(), f"the job ended with {self.supervisor.poll()} and never said {text!r}"
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said()[-6_000:]}") from error
        return self.said()

    def wait_running(self, seconds: float = 40.0) -> None:
        """Waits until the worker reads."""
        self.wait_said(RUNNING, seconds)

    def has_ended(self) -> bool:
        """Whether the supervisor has ended."""
        return self.supervisor.poll() is not None

    def worker(self) -> int | None:
        """The process id of a worker that lives and was not returned before."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.supervisor.pid).children():
                if child.pid not in self._workers and child.status() != psutil.STATUS_ZOMBIE:
                    return int(child.pid)
        return None

    def next_worker(self) -> int:
        """Waits for a worker that was not returned before; its process id."""
        found = until(lambda: self.worker() or self.has_ended(), "the supervisor starts a worker")
        assert not self.has_ended(), f"the supervisor ended with {self.supervisor.poll()}\n{self.said()[-6_000:]}"
        self._workers.append(found)
        # What it says is its own from here on.
        self._mark = self.log.stat().st_size
        return int(found)

    def wait_dead(self, worker: int, seconds: float = 40.0) -> None:
        """Waits for the end of a worker."""
        try:
            until(lambda: is_dead(worker), "the worker is dead", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said()[-6_000:]}") from error

    def freeze(self) -> None:
        """Stops the supervisor for a while, so that a worker that dies is not started again."""
        os.kill(self.supervisor.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets the supervisor go on."""
        os.kill(self.supervisor.pid, signal.SIGCONT)

    def kill_supervisor(self) -> None:
        """SIGKILL, for the supervisor alone."""
        self.supervisor.kill()
        self.supervisor.wait(20)

    def kill_all(self) -> None:
        """SIGKILL for supervisor and workers."""
        with contextlib.suppress(psutil.NoSuchProcess):
            workers = psutil.Process(self.supervisor.pid).children(recursive=True)
            self.kill_supervisor()
            for worker in workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
            until(lambda: all(is_dead(worker.pid) for worker in workers), "the workers are dead")

    def terminate(self, seconds: float = 15.0) -> tuple[int, float]:
        """SIGTERM to the supervisor. Returns its exit code and how long it took, seconds."""
        began = monotonic_ms()
        self.supervisor.terminate()
        return self.ended(seconds), (monotonic_ms() - began) / 1_000

    def ended(self, seconds: float = 40.0) -> int:
        """Waits for the end of the supervisor; its exit code."""
        try:
            return self.supervisor.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the job does not end\n{self.said()[-6_000:]}") from None

    def status(self) -> dict[str, Any]:
        """The status file's content; empty before its first."""
        return read_status(self.state) or {}

    def log_time_ms(self) -> int:
        """How far log time has come, as the status file says; 0 where it does not."""
        return min(self.status().get("shard_ms", {"": 0}).values(), default=0)

    def outbox_entries(self) -> int:
        """How many entries a dead worker's outboxes hold. Looks at a copy: what the job finds, only the job has opened."""
        self._memory = self._memory or shared_memory(8 << 20, 8 << 20)
        with tempfile.TemporaryDirectory(dir=self.project, ignore_cleanup_errors=True) as beside:
            found = 0
            for shard in sorted((self.state / "shards").iterdir()):
                copy = Path(beside) / shard.name
                shutil.copytree(shard, copy, ignore=shutil.ignore_patterns("LOCK"))
                found += _entries(copy, self._memory)
        return found


def _entries(shard: Path, memory: Memory) -> int:
    store = RocksStore(shard, memory)
    outbox = Outbox(store)
    found = outbox.last - outbox.first + 1
    store.close()
    return found


def is_dead(pid: int) -> bool:
    """Whether a process has ended, also where nobody has asked for its exit code yet."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@contextlib.contextmanager
def running_job(
    project: Path,
    bootstrap_servers: str,
    environment: Mapping[str, str] | None = None,
    arguments: tuple[str, ...] = (),
) -> Iterator[RunningJob]:
    """A ``RunningJob``, not started; whatever of it runs at the end of the block is killed."""
    job = RunningJob(project, bootstrap_servers, environment, arguments)
    try:
        yield job
    finally:
        if job._supervisor is not None and not job.has_ended():
            job.kill_all()
