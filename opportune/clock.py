"""The one place that reads a clock.

Owns: wall-clock reads. Everything else is given a ``Clock``. Not here: log time, which is computed from what was read
(flows.hub).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], int]
"""Returns milliseconds since the epoch, UTC."""


def wall_clock_ms() -> int:
    """Now, in milliseconds since the epoch, by this machine's clock."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Milliseconds from an arbitrary start that never go back; for durations."""
    return time.monotonic_ns() // 1_000_000
