"""Telling that Kafka is away: one line in the log when it goes, one when it is back.

Owns: the judgement of how long nobody has answered about the inputs' ends, and these two lines. The clients themselves say
nothing: they try again for ever, also where a broker hangs and no connection is lost.
Invariant: as many lines as absences, twice; none for an absence shorter than ``AWAY_MS``.
Not here: the requests (flows.end_marks), waiting for a broker at the start (flows.kafka_errors), messages that cannot be
delivered (flows.delivery).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

log = logging.getLogger(__name__)

AWAY_MS = 5_000
"""Requests time out after 2 seconds; an election of a leader takes less than this."""


class Absence:
    """Looks again and again at when the partitions were last heard of.

    Args:
        servers: ``kafka.bootstrap_servers``, for the lines.
    """

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._since_ms: int | None = None

    def look(self, now_ms: int, heard_ms: Sequence[int]) -> None:
        """Tells what has changed since the last look.

        Args:
            now_ms: by a clock that never goes back.
            heard_ms: when the end of each partition was last told, or the asking began.
        """
        silent = [heard for heard in heard_ms if now_ms - heard >= AWAY_MS]
        if silent and self._since_ms is None:
            self._since_ms = min(silent)
            log.warning(
                "Kafka at %s has not answered for %d seconds about %d of %d partitions of events: nothing is read from them, "
                "and where it is all of them no timer fires. The job goes on by itself when the broker is back; see whether it "
                "runs and can be reached.",
                self._servers,
                (now_ms - self._since_ms) // 1_000,
                len(silent),
                len(heard_ms),
            )
        elif not silent and self._since_ms is not None:
            away_ms, self._since_ms = now_ms - self._since_ms, None
            log.info("Kafka at %s answers again, after %d seconds.", self._servers, away_ms // 1_000)
