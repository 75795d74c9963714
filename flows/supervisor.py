"""The supervisor: starts the worker, starts it again, and ends it.

Owns: the life of one child process. The worker runs in a session of its own, so that a terminal's Ctrl-C reaches it once,
from here; it holds the reading end of a pipe whose writing end only the supervisor has, so that it sees the supervisor die,
however it dies (``die_with_supervisor``).

    exit code                     answer
    CLEAN, CONFIGURATION, STATE   the supervisor ends with it
    PLANNED_RESTART               started again at once
    anything else, a signal       started again after 0.2 s, twice as long each time, 10 s at most; a worker that ran for a
                                  minute begins anew

Not here: what the codes mean (flows.exit_codes), which record kills (flows.deaths).
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Thread
from types import FrameType

from flows.exit_codes import FINAL, ORPHANED, PLANNED_RESTART
from opportune.clock import Clock, monotonic_ms

log = logging.getLogger(__name__)

PIPE_VARIABLE = "OPPORTUNE_SUPERVISOR_FD"
"""Environment variable that tells the worker the number of its end of the pipe."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)
BACKOFF_MIN_MS, BACKOFF_MAX_MS = 200, 10_000
HEALTHY_MS = 60_000


def supervise(
    command: Sequence[str],
    *,
    grace_ms: int = 10_000,
    environment: Mapping[str, str] | None = None,
    clock: Clock = monotonic_ms,
    on_start: Callable[[int], None] = lambda _: None,
) -> int:
    """Runs a worker until it ends for good or a SIGTERM or SIGINT arrives. Call from the main thread.

    A signal is handed on; the worker has ``grace_ms`` to end, then it and what it started are killed. A second signal kills
    at once.

    Args:
        command: the worker's command line.
        grace_ms: time to end after a signal.
        environment: the worker's environment; None is this process's own.
        clock: a clock that never goes back, milliseconds.
        on_start: called with the process id of each worker.

    Returns:
        The exit code for this process: the worker's, or 128 and the number of the signal that killed it.
    """
    supervisor = _Supervisor(
        command, grace_ms, dict(os.environ if environment is None else environment), clock, on_start
    )
    before = {number: signal.signal(number, supervisor.on_signal) for number in SIGNALS}
    try:
        return supervisor.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def die_with_supervisor(environment: Mapping[str, str], end: Callable[[int], None] = os._exit) -> None:
    """Ends this process when its supervisor is gone. For workers, at their start; without a supervisor it does nothing.

    Args:
        environment: usually ``os.environ``.
        end: ends the process with a code.
    """
    found = environment.get(PIPE_VARIABLE)
    if found is None:
        return
    descriptor = int(found)
    os.set_inheritable(descriptor, False)

    def watch() -> None:
        # Nothing is ever written: the read ends when the last writing end is closed, that is, when the supervisor is gone.
        while os.read(descriptor, 1):
            pass
        end(ORPHANED)

    Thread(target=watch, name="supervisor-watch", daemon=True).start()


class _Supervisor:
    def __init__(
        self,
        command: Sequence[str],
        grace_ms: int,
        environment: dict[str, str],
        clock: Clock,
        on_start: Callable[[int], None],
    ) -> None:
        self._command = list(command)
        self._grace_ms = grace_ms
        self._environment = environment
        self._clock = clock
        self._on_start = on_start
        self._asked = Event()
        self._signals: list[int] = []
        self._handed_on = 0
        self._reading, self._writing = os.pipe()

    def on_signal(self, number: int, _: FrameType | None) -> None:
        """Only notes the signal: a handler may run between any two steps of ``run``."""
        self._signals.append(number)
        self._asked.set()

    def run(self) -> int:
        backoff_ms = BACKOFF_MIN_MS
        try:
            while True:
                started = self._clock()
                code = self._one_life()
                if self._asked.is_set() or code in FINAL:
                    return code if code >= 0 else 128 - code
                if code == PLANNED_RESTART:
                    log.info("the worker asked to be started again")
                    continue
                if self._clock() - started >= HEALTHY_MS:
                    backoff_ms = BACKOFF_MIN_MS
                log.error("the worker ended with %s; it is started again in %.1f s", _told(code), backoff_ms / 1_000)
                if self._asked.wait(backoff_ms / 1_000):
                    return code if code >= 0 else 128 - code
                backoff_ms = min(2 * backoff_ms, BACKOFF_MAX_MS)
        finally:
            os.close(self._reading)
            os.close(self._writing)

    def _one_life(self) -> int:
        worker = subprocess.Popen(
            self._command,
            env={**self._environment, PIPE_VARIABLE: str(self._reading)},
            pass_fds=(self._reading,),
            start_new_session=True,
        )
        self._on_start(worker.pid)
        deadline: int | None = None
        while True:
            try:
                return worker.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                pass
            # A snapshot: signals may arrive while they are handed on.
            received = len(self._signals)
            if received > self._handed_on:
                if deadline is None:
                    deadline = self._clock() + self._grace_ms
                    log.info("stopping the worker")
                else:
                    deadline = self._clock()
                worker.send_signal(self._signals[received - 1])
                self._handed_on = received
            if deadline is not None and self._clock() >= deadline:
                log.error("the worker does not end: it is killed")
                _kill_session(worker.pid)
                return worker.wait()


def _kill_session(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        # It ended between the look and the kill.
        log.debug("the worker was gone already")


def _told(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
