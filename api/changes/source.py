"""The memberships topic, read once for all readers of the stream.

Owns: the consumer of the process, its thread, and what becomes of its records: repeats and tombstones are left out, the rest
goes to the hub in order. It begins an hour back, or further where that is cheap, so that readers can come again after this
process was started anew, and repeats of what came before are known.
Invariants: a batch is handed on when the one before it was taken, so that nothing piles up; a place is never skipped: where
the topic is another one, or a position is no longer there, everything begins anew and the readers are told.
Not here: readers (api.changes.hub), what Kafka's client is told beside (flows.kafka_config, by way of the command line).
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import CancelledError
from threading import Event, Thread
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from api.changes.entry import Entry, event_of
from api.changes.hub import Hub
from api.changes.position import TOPIC_DIGITS
from api.changes.repeats import Repeats
from api.topic import described
from opportune.clock import Clock
from opportune.membership import MembershipChange

log = logging.getLogger(__name__)

HOUR_MS = 3_600_000
PAST_MAX = 1_000_000
"""Changes that are read of the past at most, over all partitions."""
BATCH = 500
POLL_S = 0.02
ASK_S = 10.0
AGAIN_S = 1.0


class Restart(Exception):
    """The topic is to be read anew."""


class ChangesSource:
    """Reads the topic on a thread of its own.

    Args:
        config: properties of librdkafka for the project's consumers.
        admin: and for asking what a topic is.
        topic: the memberships topic.
        hub: takes the changes.
        clock: wall clock, milliseconds.

    Attributes:
        unreadable: records that are no membership changes.
        repeats: changes that had been seen.
    """

    def __init__(self, config: dict[str, Any], admin: dict[str, Any], topic: str, hub: Hub, clock: Clock) -> None:
        self.unreadable = 0
        self.repeats = 0
        self._config = config
        self._admin = admin
        self._topic = topic
        self._hub = hub
        self._clock = clock
        self._decode = msgspec.json.Decoder(MembershipChange).decode
        self._stopped = Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = Thread(target=self._run, name="changes", daemon=True)

    def start(self) -> None:
        """Starts to read; called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        """Stops to read."""
        self._stopped.set()
        await asyncio.to_thread(self._thread.join, ASK_S)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                consumer = Consumer({**self._config, "enable.partition.eof": True})
                try:
                    self._follow(consumer)
                finally:
                    consumer.close()
            except CancelledError:
                return  # the event loop ends
            except Restart as reason:
                log.warning("the memberships topic is read anew: %s", reason)
            except KafkaException as error:
                log.warning("the memberships topic cannot be read: %s", error)
            self._stopped.wait(AGAIN_S)

    def _follow(self, consumer: Consumer) -> None:
        """Reads until the service stops. Raises ``Restart``, ``KafkaException``."""
        topic, count = self._described()
        offsets, since_ms = self._start(consumer, count)
        consumer.assign([TopicPartition(self._topic, number, offset) for number, offset in enumerate(offsets)])
        self._hand_on(self._begin(topic, offsets, since_ms))
        repeats, unread = Repeats(), set(range(count))
        looked_ms = self._clock()
        while not self._stopped.is_set():
            messages = consumer.consume(BATCH, POLL_S)
            entries = [entry for message in messages if (entry := self._entry(message, offsets, unread)) is not None]
            news = [entry for entry in entries if repeats.is_news(entry.change)]
            self.repeats += len(entries) - len(news)
            if not unread:
                repeats.loaded()
            if messages:
                self._hand_on(self._take(news, tuple(offsets), loaded=not unread))
            if self._clock() - looked_ms > HOUR_MS // 60:
                looked_ms = self._clock()
                if self._described() != (topic, count):
                    raise Restart("it has another id, or more partitions")

    async def _begin(self, topic: str, offsets: list[int], since_ms: int) -> None:
        self._hub.begin(topic, offsets, since_ms)

    async def _take(self, entries: list[Entry], offsets: tuple[int, ...], *, loaded: bool) -> None:
        self._hub.take(entries, offsets, loaded=loaded)

    def _hand_on(self, work: Any) -> None:
        """Runs in the event loop, and waits for it."""
        assert self._loop is not None, "started"
        try:
            asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except RuntimeError as error:
            work.close()
            raise CancelledError from error

    def _described(self) -> tuple[str, int]:
        """The beginning of the topic's id, and how many partitions it has."""
        topic_id, partitions = described(self._admin, self._topic)
        return topic_id.hex()[:TOPIC_DIGITS], partitions

    def _start(self, consumer: Consumer, count: int) -> tuple[list[int], int]:
        """Where to begin in each partition, and since when (milliseconds) everything is read."""
        hour_ago = self._clock() - HOUR_MS
        wanted = [TopicPartition(self._topic, number, hour_ago) for number in range(count)]
        offsets, whole = [], True
        for found in consumer.offsets_for_times(wanted, timeout=ASK_S):
            low, high = consumer.get_watermark_offsets(TopicPartition(self._topic, found.partition), timeout=ASK_S)
            of_hour = found.offset if found.offset >= 0 else high
            kept = high - self._hub.settings.history_max // count
            least = high - PAST_MAX // count
            whole = whole and of_hour >= least
            offsets.append(max(low, least, min(of_hour, kept)))
        return offsets, hour_ago if whole else self._clock()

    def _entry(self, message: Message, offsets: list[int], unread: set[int]) -> Entry | None:
        """The change of a record; None where it has none. Notes how far the partition has been read."""
        error, partition, offset = message.error(), message.partition(), message.offset()
        assert partition is not None, "a record has a partition"
        if error is not None:
            self._judge(error, partition, unread)
            return None
        assert offset is not None, "a record has an offset"
        offsets[partition] = offset + 1
        value = message.value()
        if value is None:
            return None  # a key that exited long ago is let go by the topic
        try:
            change = self._decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.unreadable += 1
            log.warning("%s[%d] at offset %d is no membership change", self._topic, partition, offset)
            return None
        return Entry(partition, offset, message.timestamp()[1], change, event_of(change, value))

    def _judge(self, error: KafkaError, partition: int, unread: set[int]) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            unread.discard(partition)
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise Restart("its position is no longer there")
        elif not error.retriable() and code not in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
            raise KafkaException(error)
