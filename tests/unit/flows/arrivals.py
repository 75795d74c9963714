"""Records as a consumer hands them out, and a consumer that hands out what it is told to.

Owns: ``record`` and ``end`` (the client's own Message, which can be made for tests), ``Handed``, which stands for the
client of Kafka, and the accounting that makes a run careful.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import KafkaError, Message, TopicPartition

from flows.deaths import Deaths, Mode
from opportune.settings import Poison


def record(offset: int, stamp_ms: int, value: bytes = b"", partition: int = 0, topic: str = "events") -> Message:
    """A record with its timestamp."""
    return Message(topic=topic, partition=partition, offset=offset, value=value, timestamp=(1, stamp_ms))


def notice(code: int, offset: int = 0, partition: int = 0, topic: str = "events") -> Message:
    """What a consumer says that is no record, such as the end of a partition."""
    return Message(topic=topic, partition=partition, offset=offset, error=KafkaError(code))


def after_hard_deaths(directory: Path) -> tuple[Deaths, Mode]:
    """The accounting of a worker that died again and again without a word, so that this run is careful."""
    while True:
        deaths = Deaths(directory, Poison(), lambda: 0)
        mode = deaths.start({"p": 0}, ["p"])
        if mode.careful:
            return deaths, mode


def end(offset: int, partition: int = 0, topic: str = "events") -> Message:
    """The end of a partition: a next record would be at the offset."""
    return notice(KafkaError._PARTITION_EOF, offset, partition, topic)


class Handed:
    """A consumer that hands out messages, poll by poll.

    Args:
        polls: what each poll gives; nothing once they are used up.
    """

    def __init__(self, *polls: Sequence[Message]) -> None:
        self.polls = deque(list(poll) for poll in polls)
        self.assigned: list[tuple[str, int, int]] = []
        self.asked = 0
        self.closed = False

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """As the client's."""
        self.assigned = [(one.topic, one.partition, one.offset) for one in partitions]

    def consume(self, limit: int, timeout: float) -> list[Message]:
        """As the client's; never waits."""
        assert timeout == 0
        self.asked += 1
        if not self.polls:
            return []
        poll = self.polls.popleft()
        if len(poll) > limit:
            self.polls.appendleft(poll[limit:])
        return poll[:limit]

    def close(self) -> None:
        """As the client's."""
        self.closed = True
