"""Records one at a time, when one of them is suspected of killing the process.

Owns: a consumer that hands out suspected records alone, after their marker is written (flows.deaths), and nothing more
until the shards have applied what was handed out.
Not here: the judgement who is suspected (flows.deaths), polling (flows.hub).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from confluent_kafka import Consumer, Message, TopicPartition

from flows.deaths import Deaths, Mode, Record

STASH = 500


class CarefulConsumer:
    """Stands between the hub and its consumer.

    Args:
        consumer: the real one.
        mode: what this run has to be careful with.
        deaths: writes the markers.
    """

    def __init__(self, consumer: Consumer, mode: Mode, deaths: Deaths) -> None:
        self.consumer = consumer
        self.careful = mode.careful
        self.alone = set(mode.alone)
        self.deaths = deaths
        self.stash: deque[Message] = deque()
        self.waiting = False
        self.tried = 0

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """As the consumer's."""
        self.consumer.assign(list(partitions))

    def close(self) -> None:
        """As the consumer's."""
        self.consumer.close()

    def consume(self, limit: int, timeout: float) -> list[Message]:
        """Some records that nobody suspects, or one that is; none while what was handed out is not applied."""
        if self.waiting:
            return []
        if not self.stash:
            self.stash.extend(self.consumer.consume(min(limit, STASH), timeout))
        out: list[Message] = []
        while self.stash:
            record = _record(self.stash[0])
            if record is not None and (self.careful or record in self.alone):
                if not out:
                    self.deaths.attempting(record)
                    self.alone.discard(record)
                    self.tried = 1
                    out.append(self.stash.popleft())
                break
            out.append(self.stash.popleft())
        self.waiting = bool(out)
        return out

    def applied(self) -> None:
        """What was handed out is applied."""
        self.waiting = False
        if self.tried:
            self.careful = self.deaths.progress(self.tried) and self.careful
            self.tried = 0


def _record(message: Message) -> Record | None:
    """Where a message stands; None for a notice that is no record."""
    if message.error() is not None:
        return None
    return Record(message.topic() or "", message.partition() or 0, message.offset() or 0)
