"""What was refused lately, for the person who connects a client.

Owns: the last refusals, in memory. Invariant: no value of an event is kept: the place in the batch, the word and the
source are enough to find it in the client. Not here: counts (api.metrics).
"""

from __future__ import annotations

from collections import deque

import msgspec

KEPT = 200


class Refusal(msgspec.Struct, frozen=True):
    """One refused request or message: when (ISO 8601), the source, the place in the batch, a word and a sentence."""

    at: str
    source: str
    index: int | None
    code: str
    message: str


class Refusals:
    """The last refusals, newest last."""

    def __init__(self) -> None:
        self._kept: deque[Refusal] = deque(maxlen=KEPT)

    def add(self, refusal: Refusal) -> None:
        """Keeps one, and lets the oldest go."""
        self._kept.append(refusal)

    def last(self) -> list[Refusal]:
        """All that are kept."""
        return list(self._kept)
