"""A request to stop, made by a signal handler and looked at by the main thread.

Owns: ``Stop``. threading.Event would not do: its lock is not re-entrant, and a handler runs inside the thread that waits.
Not here: who asks (flows.worker, flows.supervisor), who ends (flows.job).
"""

from __future__ import annotations

import time

SLICE_S = 0.05


class Stop:
    """Set once, never cleared."""

    __slots__ = ("asked",)

    def __init__(self) -> None:
        self.asked = False

    def set(self) -> None:
        """Asks to stop; safe in a signal handler."""
        self.asked = True

    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self.asked

    def wait(self, seconds: float) -> bool:
        """Waits until a stop is asked for, at most so long; says whether it was."""
        end = time.monotonic() + seconds
        while not self.asked and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, SLICE_S))
        return self.asked
