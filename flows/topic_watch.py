"""Changes of the topics while the job runs.

Owns: the periodic look at partition counts and topic ids. The job answers a finding with a planned restart
(``flows.exit_codes.PLANNED_RESTART``): at its start new partitions are taken in, and a topic that was made anew is refused.
Not here: that judgement (flows.topics, flows.topic_positions).
"""

from __future__ import annotations

import logging
from threading import Event, Thread

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from flows.topics import TopicSet, partition_counts, topic_ids

log = logging.getLogger(__name__)


class TopicWatch:
    """Compares the topics with those that the job started with, every ``interval_ms``.

    A broker that is away is no finding, nor is a topic that cannot be seen at the moment; of that the log tells once.

    Args:
        admin: a client; the watch may share it.
        topics: what the job started with.
        interval_ms: time between two looks.
        embedded: the broker has no topic ids (see ``flows.topics.prepare``).
    """

    def __init__(
        self, admin: AdminClient, topics: TopicSet, interval_ms: int = 30_000, *, embedded: bool = False
    ) -> None:
        self._admin = admin
        watched = (*topics.read(), topics.memberships, topics.dead_letters)
        self._expected = {topic.name: (topic.topic_id, topic.partitions) for topic in watched}
        self._missed: set[str] = set()
        self._interval_s = interval_ms / 1_000
        self._embedded = embedded
        self._stop = Event()
        self._finding: str | None = None
        self._thread = Thread(target=self._run, name="topic-watch", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the looking, waits at most a second for a look under way."""
        self._stop.set()
        self._thread.join(1.0)

    def added(self) -> str | None:
        """What was found, as a sentence for the log, or None. Costs an attribute read."""
        return self._finding

    def look(self) -> str | None:
        """One look at the broker. Raises ``KafkaException``."""
        names = list(self._expected)
        if self._embedded:
            counts = partition_counts(names, self._admin)
            found = {name: (self._expected[name][0], count) for name, count in counts.items()}
        else:
            found = topic_ids(names, self._admin)
        self._miss({name for name in names if name not in found})
        for name, (topic_id, partitions) in found.items():
            known_id, known = self._expected[name]
            if topic_id != known_id:
                return f"the topic {name} was deleted and made anew"
            if partitions != known:
                return f"the topic {name} has {partitions} partitions instead of {known}"
        return None

    def _miss(self, missing: set[str]) -> None:
        for name in sorted(missing - self._missed):
            log.error(
                "the topic %s is not there any more: what is for it waits. If it was deleted, stop the job and see "
                "docs/operations.md; if it is made anew, the job ends and says what it lacks.", name,
            )  # fmt: skip
        self._missed = missing

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self._finding = self.look()
            except KafkaException as error:
                log.debug("no look at the topics: %s", error)
