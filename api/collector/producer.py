"""Events into Kafka, and the word that Kafka has them.

Owns: the producer, its bound of waiting records, and how acknowledgements come back into the event loop: one callback
counts a request's records down on the polling thread, and wakes its request once.
Invariants: ``send`` returns only when every record is acknowledged by all replicas in sync; a request that finds no room
is refused before any of it is handed on. Where a broker stays away longer than ``ride_ms`` the request fails as a whole:
some of it may be stored all the same, and a client that sends it again, with the same message ids, counts once.
Not here: what librdkafka is told beside (flows.kafka_config, by way of the command line), records (api.collector.messages).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from threading import Event, Thread
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from api.collector.answers import Refused
from api.collector.messages import Record
from api.settings import ServeSettings
from api.topic import described
from opportune.identity import shard_of

log = logging.getLogger(__name__)

POLL_S = 0.1
TOPIC_LOOK_S = 30.0
TOPIC_MISSING_LOOK_S = 1.0
RETRY_S = 2


class Delivery:
    """One request's records on their way. Called on the polling thread, once for each record.

    Only that thread writes ``done`` and only the event loop writes ``expected``; whoever sees them equal wakes the request.
    """

    __slots__ = ("done", "error", "expected", "future", "loop", "offsets")

    def __init__(self, expected: int, loop: asyncio.AbstractEventLoop) -> None:
        self.expected = expected
        self.done = 0
        self.loop = loop
        self.future: asyncio.Future[None] = loop.create_future()
        self.error: KafkaError | None = None
        self.offsets: dict[int, int] = {}

    def __call__(self, error: KafkaError | None, record: Any) -> None:
        """Counts one record; those of a partition come in order."""
        if error is not None:
            self.error = error
        else:
            self.offsets[record.partition()] = record.offset()
        self.done += 1
        if self.done >= self.expected:
            self.loop.call_soon_threadsafe(self.finish)

    def stop_at(self, handed: int, error: KafkaError) -> None:
        """No more than ``handed`` records went on their way."""
        self.error = error
        self.expected = handed
        if self.done >= handed:
            self.finish()

    def finish(self) -> None:
        """Wakes the request."""
        if not self.future.done():
            self.future.set_result(None)


class EventProducer:
    """The way to the events topic.

    Args:
        config: properties of librdkafka for the project's producers.
        topic: the events topic.
        settings: bounds.
        admin: properties for asking what the topic is.

    Attributes:
        partitions: of the topic; 0 while it is not known.
        topic_id: of the topic; empty while it is not known.
        waiting_records, waiting_bytes: handed to Kafka and not acknowledged.
    """

    def __init__(
        self, config: dict[str, Any], topic: str, settings: ServeSettings, admin: dict[str, Any] | None = None
    ) -> None:
        self.topic = topic
        self.topic_id = b""
        self._admin = admin
        self.settings = settings
        self.partitions = 0
        self.waiting_records = 0
        self.waiting_bytes = 0
        self._config = {
            **config,
            # Requests wait for the good word too; and a broker that is away is waited for so long.
            "delivery.report.only.error": False,
            "message.timeout.ms": settings.ride_ms,
            "queue.buffering.max.messages": settings.waiting_records_max * 2,
            "queue.buffering.max.kbytes": settings.waiting_bytes_max // 512,
        }
        self._producer = Producer(self._config)
        self._retired: list[Producer] = []
        self._stopped = Event()
        self._threads = [
            Thread(target=work, name=f"collector-{work.__name__}", daemon=True) for work in (self._poll, self._watch)
        ]

    def start(self) -> None:
        """Starts the threads that poll and that look for the topic."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Waits for what is on its way, at most for ``ride_ms``, and ends the threads."""
        self._producer.flush(self.settings.ride_ms / 1000)
        self._stopped.set()
        for thread in self._threads:
            thread.join(TOPIC_LOOK_S)

    async def send(self, records: Sequence[Record]) -> dict[int, int]:
        """Hands records to Kafka and waits until it has them.

        Returns:
            By partition, the offset of the last of them.

        Raises:
            Refused: 503: no room, no topic, or the broker did not acknowledge in time.
        """
        if not records:
            return {}
        size = sum(len(record.value) + len(record.key) for record in records)
        self._admit(len(records), size)
        delivery = Delivery(len(records), asyncio.get_running_loop())
        try:
            used = self._producer
            self._produce(records, delivery)
            await delivery.future
        finally:
            self.waiting_records -= len(records)
            self.waiting_bytes -= size
        if delivery.error is not None:
            self._renew(used, delivery.error)
            raise Refused(503, "not_stored", "Kafka did not acknowledge in time: send it again", RETRY_S)
        return delivery.offsets

    def _admit(self, records: int, size: int) -> None:
        settings = self.settings
        if not self.partitions:
            raise Refused(503, "no_topic", "the events topic is not there or cannot be reached: send it again", RETRY_S)
        room = settings.waiting_records_max - self.waiting_records >= records
        if not room or settings.waiting_bytes_max - self.waiting_bytes < size:
            raise Refused(503, "no_room", "too many events wait for Kafka: send it again", RETRY_S)
        self.waiting_records += records
        self.waiting_bytes += size

    def _produce(self, records: Sequence[Record], delivery: Delivery) -> None:
        produce, topic, partitions = self._producer.produce, self.topic, self.partitions
        for place, record in enumerate(records):
            try:
                produce(topic, record.value, record.key, shard_of(record.profile, partitions), delivery)
            except (BufferError, KafkaException) as error:
                delivery.stop_at(place, _kafka_error(error))
                return

    def _renew(self, used: Producer, error: KafkaError) -> None:
        """After a fatal error a producer never sends again: the next request gets a new one."""
        log.warning("Kafka did not store what was collected: %s", error.name())
        if used is self._producer and (error.fatal() or error.code() == KafkaError._FATAL):
            # Requests still wait for the words of the old one.
            self._retired.append(used)
            self._producer = Producer(self._config)

    def _poll(self) -> None:
        while not self._stopped.is_set():
            self._producer.poll(POLL_S)
            for retired in self._retired:
                retired.poll(0)

    def _watch(self) -> None:
        while not self._stopped.is_set():
            try:
                found = self._producer.list_topics(self.topic, timeout=5).topics.get(self.topic)
                if found is not None and found.error is None and found.partitions:
                    self.partitions = len(found.partitions)
                    self.topic_id = described(self._admin, self.topic)[0] if self._admin is not None else b""
            except KafkaException as error:
                log.warning("the events topic cannot be looked at: %s", error)
            self._stopped.wait(TOPIC_LOOK_S if self.partitions else TOPIC_MISSING_LOOK_S)


def _kafka_error(error: Exception) -> KafkaError:
    if isinstance(error, KafkaException) and error.args and isinstance(error.args[0], KafkaError):
        return error.args[0]
    return KafkaError(KafkaError._QUEUE_FULL)
