"""The watchdog: a process that hangs ends, with the stacks of all its threads on standard error.

Owns: the decision that a process hangs. Two watches, because a hang may hold the interpreter's lock:

    a thread        no ``feed`` for the limit: stacks, exit code WATCHDOG
    faulthandler    a timer outside the interpreter, pushed on by that thread; fires when the thread itself cannot run
                    for twice the limit: stacks, exit code 1

Not here: who feeds it (whoever drives the loop), who starts the process again (flows.supervisor).
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Callable
from threading import Event, Thread

from flows.exit_codes import WATCHDOG
from opportune.clock import Clock, monotonic_ms


def end_process(code: int) -> None:
    """Dumps the stacks of all threads and ends the process without clean-up: what hangs would hang that too."""
    sys.stderr.write("watchdog: no progress, the process ends. Stacks of all threads:\n")
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    sys.stderr.flush()
    os._exit(code)


class Watchdog:
    """Ends the process when nobody feeds it.

    Args:
        limit_ms: how long without ``feed`` is a hang.
        clock: a clock that never goes back, milliseconds.
        end: ends the process with a code.
        native: also watch from outside the interpreter; off where faulthandler's timer is in use.
    """

    def __init__(
        self,
        limit_ms: int,
        clock: Clock = monotonic_ms,
        end: Callable[[int], None] = end_process,
        *,
        native: bool = True,
    ) -> None:
        self._limit_ms = limit_ms
        self._clock = clock
        self._end = end
        self._native = native
        self._fed_ms = clock()
        self._stop = Event()
        self._thread = Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begins to watch."""
        self.feed()
        self._thread.start()

    def feed(self) -> None:
        """Says that the process makes progress, or waits for something on purpose. Costs a clock read."""
        self._fed_ms = self._clock()

    def stop(self) -> None:
        """Ends the watch."""
        self._stop.set()
        self._thread.join()

    def look(self, late_ms: int = 0) -> None:
        """Judges now.

        Args:
            late_ms: how much later this look comes than it should; a process that was suspended has not hung.
        """
        if late_ms > self._limit_ms // 2:
            self.feed()
        elif self._clock() - self._fed_ms >= self._limit_ms:
            self._end(WATCHDOG)

    def _run(self) -> None:
        pause_ms = max(10, self._limit_ms // 10)
        while True:
            if self._native:
                faulthandler.dump_traceback_later(2 * self._limit_ms / 1_000, exit=True)
            before = self._clock()
            stopped = self._stop.wait(pause_ms / 1_000)
            if stopped:
                break
            self.look(self._clock() - before - pause_ms)
        if self._native:
            faulthandler.cancel_dump_traceback_later()
