"""How many requests a second a key may make.

Owns: the generic cell rate algorithm (ITU-T I.371): one instant for each key, and a second's worth at once.
Not here: which key a request has (api.keys).
"""

from __future__ import annotations

from api.keys import Key
from opportune.clock import Clock


class Allowances:
    """What is left to each key.

    Args:
        clock: monotonic milliseconds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next_ms: dict[str, float] = {}

    def take(self, key: Key) -> int:
        """Counts one request; returns 0 where the key may make it, else the seconds to wait."""
        if not key.per_second:
            return 0
        now = self._clock()
        due = max(self._next_ms.get(key.id, 0.0), now)
        if due - now >= 1000:
            return int((due - now - 1000) / 1000) + 1
        self._next_ms[key.id] = due + 1000 / key.per_second
        return 0
