"""What keeps the mailbox topic from growing for ever: records that every copy of the state has read are deleted.

Owns: from when on mail is of no use, and deleting it. A shard's mail is read by that shard only; what it has applied and
synced is asked for again only by an older copy of its state. So what was applied ``keep_ms`` ago is deleted, and a copy of the
state that is older cannot be restored: its start says so (flows.topic_positions).
Invariant: nothing is deleted that is not durably applied; a process that starts counts the time anew.
Not here: what shards have applied (flows.actor), whether the topic fits (flows.topics).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Thread

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from flows.actor import Actor
from opportune.clock import Clock, monotonic_ms

log = logging.getLogger(__name__)

NOTES = 100
"""So many times within ``keep_ms`` it is noted how far the shards have read."""
INTERVAL_LEAST_MS = 1_000
REQUEST_S = 30.0


def trims_of(admin: AdminClient, topic: str, keep_ms: int, actors: Sequence[Actor]) -> list[MailboxTrim]:
    """What deletes the mail of a process' shards: nothing where it is kept for ever (-1); arguments as ``MailboxTrim``."""

    def read() -> dict[int, int]:
        return {actor.shard: actor.mail_read for actor in actors}

    return [] if keep_ms < 0 else [MailboxTrim(admin, topic, read, keep_ms, monotonic_ms)]


class MailboxTrim:
    """Deletes what was read long ago.

    Args:
        admin: a client; others may share it.
        topic: name of the mailbox topic.
        read: by shard, the offset below which its mail is applied and synced.
        keep_ms: how long mail is kept after that.
        clock: milliseconds that only go on.
    """

    def __init__(
        self,
        admin: AdminClient,
        topic: str,
        read: Callable[[], Mapping[int, int]],
        keep_ms: int,
        clock: Clock,
    ) -> None:
        self._admin = admin
        self._topic = topic
        self._read = read
        self._keep_ms = keep_ms
        self._clock = clock
        self._noted: deque[tuple[int, dict[int, int]]] = deque()
        self._deleted: dict[int, int] = {}
        self._told = False
        self._stop = Event()
        self._thread = Thread(target=self._run, name="mailbox-trim", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; waits at most a second for a request under way."""
        self._stop.set()
        self._thread.join(1.0)

    def due(self) -> dict[int, int]:
        """Notes how far the shards have read; returns, by partition, the offset below which nothing is of use any more."""
        now = self._clock()
        self._noted.append((now, dict(self._read())))
        old: dict[int, int] = {}
        while self._noted and self._noted[0][0] <= now - self._keep_ms:
            old = self._noted.popleft()[1]
        return {partition: offset for partition, offset in old.items() if offset > self._deleted.get(partition, 0)}

    def trim(self) -> None:
        """Deletes what is due. Raises ``KafkaException``: the broker is away, or does not allow it; nothing is lost."""
        offsets = self.due()
        if not offsets:
            return
        asked = [TopicPartition(self._topic, partition, offset) for partition, offset in offsets.items()]
        for place, answer in self._admin.delete_records(asked, request_timeout=REQUEST_S).items():
            answer.result()
            self._deleted[place.partition] = offsets[place.partition]
        self._told = False

    def _run(self) -> None:
        while not self._stop.wait(max(INTERVAL_LEAST_MS, self._keep_ms // NOTES) / 1_000):
            try:
                self.trim()
            except KafkaException as error:
                if not self._told:
                    log.warning(
                        "mail that was read long ago cannot be deleted (%s): the mailbox topic %s grows. Allow the job to "
                        "delete its records (DELETE on the topic), or delete old ones yourself.",
                        error, self._topic,
                    )  # fmt: skip
                self._told = True
