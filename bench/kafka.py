"""The broker of a measurement and what lies in its topics before a job starts.

Owns: finding or starting a real Kafka (tests.kafka.broker), topics of a measurement (unique names, deleted afterwards),
filling a topic fast, reading a topic from its beginning to its end.
Invariant: nothing listens on, or talks to, anything but loopback unless an address is given.
Not here: what the events are (bench.events).
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from bench.events import Events, Numbers, Traffic, partition

PARTITIONS = 12
STEP = 50_000
ENDS_SECONDS_MAX = 10.0


class BenchError(Exception):
    """A measurement could not be made; the text says what to do."""


@contextmanager
def broker(address: str | None = None) -> Iterator[str]:
    """Yields the bootstrap address of a running Kafka; starts one, and ends it again, where none is given.

    Args:
        address: HOST:PORT of a broker to use; without it ``KAFKA_BOOTSTRAP_SERVERS``, without that one is started.

    Raises:
        BenchError: the broker did not start.
    """
    known = address or os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if known:
        yield known
        return
    command = [sys.executable, "-m", "tests.kafka.broker"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if ":" not in line:
            raise BenchError(
                f"no broker: `{' '.join(command)}` said {line!r}; run it by hand, or give --bootstrap-servers HOST:PORT"
            )
        yield line
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


class Topics:
    """The topics of one measurement; ``close`` deletes them.

    Args:
        bootstrap: address of the broker.
    """

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.prefix = f"bench-{secrets.token_hex(4)}"
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._made: list[str] = []

    def create(self, name: str, partitions: int = PARTITIONS, **config: str) -> str:
        """Makes a topic and returns its full name.

        Args:
            name: what it is for.
            partitions: how many.
            config: topic settings, with ``_`` for each dot.
        """
        topic = f"{self.prefix}-{name}"
        settings = {key.replace("_", "."): value for key, value in config.items()}
        self._admin.create_topics([NewTopic(topic, partitions, 1, config=settings)])[topic].result(30)
        self._made.append(topic)
        return topic

    def close(self) -> None:
        """Deletes every topic whose name has the prefix, also those that a job made."""
        found = [t for t in self._admin.list_topics(timeout=10).topics if t.startswith(self.prefix)]
        if found:
            for future in self._admin.delete_topics(found).values():
                future.exception(30)


def producer(bootstrap: str, linger_ms: float = 20) -> Producer:
    """A producer as services have them: keys spread by Kafka's own hash, lz4, all replicas acknowledge."""
    config: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "linger.ms": linger_ms,
        "compression.type": "lz4",
        "partitioner": "murmur2_random",
        "queue.buffering.max.messages": 2_000_000,
        "queue.buffering.max.kbytes": 1_000_000,
        "enable.metrics.push": False,
    }
    return Producer(config)


class Filler:
    """Puts runs of events into a topic.

    Args:
        bootstrap: address of the broker.
        topic: where to.
        by_slot: partitions follow the slots of people (as in topics that Opportune fills) instead of Kafka's hash.
        linger_ms: how long the producer gathers.
    """

    def __init__(self, bootstrap: str, topic: str, by_slot: bool = False, linger_ms: float = 20) -> None:
        self._topic, self._by_slot = topic, by_slot
        self._producer = producer(bootstrap, linger_ms)
        self._partitions: dict[bytes, int] = {}
        self._failed: list[KafkaError] = []
        self.sent = 0

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failed.append(error)

    def _partition(self, key: bytes) -> int:
        found = self._partitions.get(key)
        if found is None:
            found = self._partitions[key] = partition(key, PARTITIONS)
        return found

    def put(self, events: Events) -> None:
        """Hands events over; record time is event time."""
        produce, topic, delivered = self._producer.produce, self._topic, self._delivered
        for i, (value, key, t) in enumerate(zip(events.values, events.keys, events.times_ms.tolist(), strict=True)):
            where = self._partition(key) if self._by_slot else -1
            while True:
                try:
                    produce(topic, value, key, where, delivered, timestamp=t)
                    break
                except BufferError:
                    self._producer.poll(0.05)
            if i % 1000 == 0:
                self._producer.poll(0)
        self._producer.poll(0)
        self.sent += len(events.values)

    def finish(self) -> None:
        """Waits until everything is delivered.

        Raises:
            BenchError: something was not.
        """
        left = self._producer.flush(120)
        if left or self._failed:
            raise BenchError(f"{left} events undelivered, {len(self._failed)} refused: is the broker's disk full?")


def fill(
    bootstrap: str,
    topic: str,
    traffic: Traffic,
    times_ms: Numbers,
    *,
    by_slot: bool = False,
    people: Numbers | None = None,
    start: int = 0,
) -> float:
    """Fills a topic with a run of a traffic's events.

    Args:
        bootstrap: address of the broker.
        topic: where to.
        traffic: the events.
        times_ms: the time of each, never going back.
        by_slot: see ``Filler``.
        people: who acts in each, instead of whom the traffic's activity says.
        start: number of the first event.

    Returns:
        The mean size of a message, bytes.
    """
    filler, size = Filler(bootstrap, topic, by_slot), 0
    for first in range(0, len(times_ms), STEP):
        part = slice(first, first + STEP)
        events = traffic.build(start + first, times_ms[part], None if people is None else people[part])
        size += sum(map(len, events.values))
        filler.put(events)
    filler.finish()
    return size / max(1, len(times_ms))


def ends(bootstrap: str, topic: str) -> dict[int, int]:
    """The end offset of each partition of a topic; empty where the topic is missing."""
    admin, until = AdminClient({"bootstrap.servers": bootstrap}), time.monotonic() + ENDS_SECONDS_MAX
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # confluent-kafka types only a part of its admin
    while True:
        try:
            found = admin.list_topics(topic, timeout=10).topics[topic]
            if found.error is not None:
                return {}
            asked = {TopicPartition(topic, p): latest for p in found.partitions}
            return {at.partition: future.result(10).offset for at, future in admin.list_offsets(asked).items()}
        except KafkaException:
            # A topic just made has partitions without a leader for a moment.
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def reader(bootstrap: str, topic: str, *, from_end: bool = False) -> Consumer:
    """A consumer of all partitions of a topic, tuned as ENGINE says consumers must be (no wait when its queue was full)."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 2,
            "fetch.wait.max.ms": 5,
            "enable.metrics.push": False,
        }
    )
    last = ends(bootstrap, topic)
    consumer.assign([TopicPartition(topic, p, last[p] if from_end else 0) for p in last])
    return consumer


def read_all(bootstrap: str, topic: str, each: Callable[[Message], None], seconds_max: float = 300) -> int:
    """Reads a topic from its beginning to the end that it has now; returns the number of records."""
    last = {p: end for p, end in ends(bootstrap, topic).items() if end}
    consumer, count, until = reader(bootstrap, topic), 0, time.monotonic() + seconds_max
    try:
        while any(_behind(consumer, topic, last)) and time.monotonic() < until:
            for message in consumer.consume(5000, 0.5):
                if message.error() is None:
                    each(message)
                    count += 1
    finally:
        consumer.close()
    return count


def _behind(consumer: Consumer, topic: str, last: dict[int, int]) -> Iterable[bool]:
    for at in consumer.position([TopicPartition(topic, p) for p in last]):
        yield at.offset < last[at.partition]
