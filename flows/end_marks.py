"""Where partitions end, asked again and again: what lets an input that is read to its end vouch for time.

Owns: requests for the end offsets of all inputs, and the answer to "up to when has everything been read?". An answer to a
request sent at C0 that says ``end`` means: whoever has read up to ``end`` has read every record appended before C0.
Invariant: ``confirmed`` never returns an instant after which a record below ``next_offset`` may still appear.

Ends are those of the high watermark. A record that waits for its replicas lies behind it, so ``clock.skew_ms`` must also
cover the time that replication takes.

One request a leader, so that one broker that is away delays only its own partitions. By partition, the last answers are
kept as two ascending tuples (ends, instants sent); one entry an end, the newest instant of each. They are replaced, never
changed: readers need no lock.

A request that times out at a broker that hangs raises nothing: the client fills in the offset -1001 (``OFFSET_INVALID``), so
an answer without an offset is no answer.
Not here: what a mark does to log time (flows.log_time), telling that nobody answers (flows.absence).
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from threading import Event, Lock, Thread

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

from flows.absence import Absence
from flows.kafka_config import ClientConfig
from opportune.clock import Clock, monotonic_ms

log = logging.getLogger(__name__)

KEPT = 64
"""Answers kept a partition: about three seconds of a busy one."""
REQUEST_S = 2.0
FRESH_MS = 1_000
"""An end that was told longer ago than this, and the interval of the requests, is not where the partition ends now."""
REGROUP_MS = 30_000
"""How often the leaders of the partitions are looked up again."""


class EndMarks:
    """Asks for the ends of partitions every ``interval_ms``, in a thread of its own.

    Args:
        config: properties of an administrative client.
        partitions: topic and partition of each input; its place is the ``index`` of ``confirmed``.
        interval_ms: time between two requests.
        clock: the clock whose instants ``confirmed`` returns.
        monotonic: a clock that never goes back, milliseconds: for how long nobody has answered.
    """

    def __init__(
        self,
        config: ClientConfig,
        partitions: Sequence[tuple[str, int]],
        interval_ms: int,
        clock: Clock,
        monotonic: Clock = monotonic_ms,
    ) -> None:
        self._admin = AdminClient(config)
        self._partitions = tuple(partitions)
        self._interval_s = interval_ms / 1_000
        self._fresh_ms = interval_ms + FRESH_MS
        self._clock = clock
        self._monotonic = monotonic
        self._heard_ms = [monotonic()] * len(self._partitions)
        self._absence = Absence(str(config.get("bootstrap.servers", "")))
        self._tables: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((), ()) for _ in self._partitions]
        self._stop = Event()
        self._lanes: list[_Lane] = []
        self._grouped_ms = 0
        self._thread = Thread(target=self._run, name="end-marks", daemon=True)

    def start(self) -> None:
        """Begins to ask."""
        self._heard_ms = [self._monotonic()] * len(self._partitions)
        self._thread.start()

    def stop(self) -> None:
        """Ends the asking; answers that are under way are dropped."""
        self._stop.set()
        self._thread.join(REQUEST_S)

    def confirmed(self, index: int, next_offset: int) -> int | None:
        """Up to when this input is known to have been read.

        Args:
            index: the input.
            next_offset: the offset after the last record read.

        Returns:
            The newest instant (milliseconds, of ``clock``) at which a request was sent whose answer was an end not above
            ``next_offset``; None if there is none among the answers kept. It grows old while the broker is away.
        """
        ends, sents = self._tables[index]
        place = bisect_right(ends, next_offset)
        return sents[place - 1] if place else None

    def end(self, index: int) -> int | None:
        """The newest end that was told, or None: for lag."""
        ends, _ = self._tables[index]
        return ends[-1] if ends else None

    def fresh_end(self, index: int) -> int | None:
        """The end that was told just now, or None where nobody has answered for about a second: for "drained"."""
        return self.end(index) if self._monotonic() - self._heard_ms[index] <= self._fresh_ms else None

    def _answered(self, index: int, end: int, sent: int) -> None:
        self._heard_ms[index] = self._monotonic()
        ends, sents = self._tables[index]
        if ends and sent <= sents[-1]:
            return
        if not ends or end < ends[-1]:
            # An end that goes back belongs to a log that was cut: earlier answers are about records that are no more.
            self._tables[index] = ((end,), (sent,))
        elif end == ends[-1]:
            self._tables[index] = (ends, (*sents[:-1], sent))
        else:
            self._tables[index] = ((*ends[-KEPT + 1 :], end), (*sents[-KEPT + 1 :], sent))

    def _run(self) -> None:
        while not self._stop.is_set():
            self._regroup()
            for lane in self._lanes:
                lane.ask(self._clock())
            self._absence.look(self._monotonic(), self._heard_ms)
            self._stop.wait(self._interval_s)

    def _regroup(self) -> None:
        now = monotonic_ms()
        if self._lanes and now - self._grouped_ms < REGROUP_MS:
            return
        leaders: dict[int, list[int]] = {}
        known = self._leaders()
        for index, where in enumerate(self._partitions):
            leaders.setdefault(known.get(where, -1), []).append(index)
        self._grouped_ms = now
        # Answers to the lanes before are still taken: an older instant never replaces a newer one.
        self._lanes = [_Lane(self, indexes) for indexes in leaders.values()]

    def _leaders(self) -> dict[tuple[str, int], int]:
        try:
            topics = self._admin.list_topics(timeout=REQUEST_S).topics
        except KafkaException as error:
            log.debug("no leaders: %s", error)
            return {}
        return {
            (name, number): one.leader for name, topic in topics.items() for number, one in topic.partitions.items()
        }


class _Lane:
    """The partitions of one leader: one request at a time. ``_answer`` runs in the client's thread."""

    def __init__(self, marks: EndMarks, indexes: Sequence[int]) -> None:
        self._marks = marks
        self._places = {marks._partitions[index]: index for index in indexes}
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the client's class methods have no types
        self._request = {TopicPartition(topic, partition): latest for topic, partition in self._places}
        self._waiting = 0
        self._lock = Lock()

    def ask(self, sent: int) -> None:
        """Sends a request, unless one is under way."""
        if self._waiting:
            return
        self._waiting = len(self._request)
        try:
            futures = self._marks._admin.list_offsets(self._request, request_timeout=REQUEST_S)
        except KafkaException as error:
            log.debug("no request for ends: %s", error)
            self._waiting = 0
            return
        for where, future in futures.items():
            index = self._places[where.topic, where.partition]
            future.add_done_callback(partial(self._answer, index, sent))

    def _answer(self, index: int, sent: int, future: Future[ListOffsetsResultInfo]) -> None:
        try:
            end = future.result().offset
            if end >= 0:
                self._marks._answered(index, end, sent)
        except KafkaException as error:
            log.debug("no end of %s: %s", self._marks._partitions[index], error)
        finally:
            with self._lock:
                self._waiting -= 1
