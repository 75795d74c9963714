"""Delivery of outbox messages: one producer a process, and a defined end for every message.

Owns: producing, waiting for a broker that is away, and what happens to a message that the broker refuses for good:

    refused          tried once more, alone, since a broker refuses a batch as a whole
    refused alone    into the dead letters as ``refused_by_broker``
    refused there    cut to 64 KiB, tried again, then counted and dropped

Invariant: ``flush`` returns only when every message produced before it is in Kafka or has met that end; in all other cases
it raises, the process ends, and the outbox produces everything again. No line of the log carries a key or a value.
Not here: the outbox (state.outbox), the sink of the dataflow (flows.sinks).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from flows.dead_letters import CUT_BYTES, PREFIX, dead_letter
from flows.kafka_config import ClientConfig
from flows.kafka_errors import translated
from opportune.clock import monotonic_ms
from opportune.errors import OpportuneError, TransientError
from opportune.settings import Kafka
from state.outbox import OutboxMessage

log = logging.getLogger(__name__)

REPEAT_MS = 5_000
"""How often a wait for the broker is told."""
SLICE_S = 0.1
"""How long one wait may block before the watchdog is fed and a stop is noticed."""
REFUSALS = frozenset({
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.POLICY_VIOLATION,
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    KafkaError._BAD_MSG,
})  # fmt: skip
"""The broker (or the client before it) will never take this message."""


STOP_MS = 3_000
"""So long is the broker waited for when a stop was asked for; what is left is repeated at the next start."""


class Delivery:
    """Produces outbox messages. Belongs to one thread.

    Args:
        config: properties of the producer (``flows.kafka_config.producer_config``).
        kafka: the broker, for messages.
        dead_letters: name of the dead letters topic.
        feed: called while the broker is waited for, so that the watchdog sees a process that waits, not one that hangs.
        stopping: whether the process was asked to end; then little is waited for.
    """

    def __init__(
        self,
        config: ClientConfig,
        kafka: Kafka,
        dead_letters: str,
        feed: Callable[[], None] = lambda: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._producer = Producer({**config, "error_cb": self._trouble})
        # A list of pairs of text and bytes is what it takes; its type hints ask for a list of wider pairs.
        self._produce: Callable[..., None] = self._producer.produce
        self._kafka = kafka
        self._dead_letters = dead_letters
        self._feed = feed
        self._stopping = stopping
        self._refused: deque[tuple[OutboxMessage, str]] = deque()
        self._broken: OpportuneError | None = None
        self._heard: str = ""
        self._waiting_ms: int | None = None
        self._told_ms = 0
        self._stop_ms: int | None = None
        self.produced = 0
        """Messages handed to the producer."""
        self.refused_by_broker = 0
        """Messages that went to the dead letters because the broker refused them."""
        self.dropped = 0
        """Messages that the broker refused as dead letters too."""

    def produce(self, messages: Sequence[OutboxMessage]) -> None:
        """Hands messages to the producer; they are delivered in order by partition.

        Blocks while the producer's queue is full. Raises ``TransientError`` if the process is stopping meanwhile.
        """
        produce, failed = self._produce, self._failed_delivery
        for message in messages:
            # Few are as many as the queue has room for: the exception is the rare case.
            try:
                produce(
                    message.topic,
                    message.value,
                    message.key,
                    message.partition,
                    # A failed message comes back without its headers, so the callback keeps the one that we know.
                    on_delivery=partial(failed, message),
                    headers=message.headers,
                )
            except BufferError:
                self._produce_when_room(message)
            except KafkaException as error:
                self._refused_here(message, error)
        self.produced += len(messages)
        self._producer.poll(0)

    def flush(self) -> None:
        """Blocks until everything produced is delivered or has met its end.

        Raises:
            TransientError: undelivered messages remain: a stop was asked for, or the producer broke. The outbox has them.
            ConfigurationError: the account may not write, or a topic is gone.
        """
        while True:
            self._drain()
            if not self._refused:
                return
            self._end_of(*self._refused.popleft())

    def pending(self) -> int:
        """Messages that are not delivered yet."""
        return len(self._producer) + len(self._refused)

    def _drain(self) -> None:
        while self._producer.flush(SLICE_S):
            self._wait()
        self._waiting_ms = None
        self._check()

    def _wait(self) -> None:
        """One round of waiting for the broker: everybody who looks at this process must see that it waits."""
        self._check()
        self._feed()
        if self._stopping() and self._stop_ms is None:
            self._stop_ms = monotonic_ms()
        if self._stop_ms is not None and monotonic_ms() - self._stop_ms >= STOP_MS:
            raise TransientError(f"stopped with {len(self._producer)} messages not delivered; the outbox repeats them.")
        now = monotonic_ms()
        if self._waiting_ms is None:
            self._waiting_ms = self._told_ms = now
        elif now - self._told_ms >= REPEAT_MS:
            self._told_ms = now
            log.warning(
                "waiting for Kafka at %s to take %d messages, %d s so far. %s",
                self._kafka.bootstrap_servers,
                len(self._producer),
                (now - self._waiting_ms) // 1_000,
                self._heard,
            )

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _produce_when_room(self, message: OutboxMessage) -> None:
        while True:
            self._producer.poll(SLICE_S)
            self._wait()
            try:
                self._produce_one(message)
            except BufferError:
                continue
            except KafkaException as error:
                self._refused_here(message, error)
            self._waiting_ms = None
            return

    def _refused_here(self, message: OutboxMessage, error: KafkaException) -> None:
        """The client itself refuses a message that no broker could take; nothing is tried again."""
        found = error.args[0]
        if found.code() not in REFUSALS:
            raise translated(error, self._kafka, f"write to {message.topic}") from error
        self._to_dead_letters(message, found.name())

    def _produce_one(self, message: OutboxMessage) -> None:
        failed = partial(self._failed_delivery, message)
        self._produce(
            message.topic,
            message.value,
            message.key,
            message.partition,
            on_delivery=failed,
            headers=message.headers,
        )

    def _failed_delivery(self, message: OutboxMessage, error: KafkaError | None, _: Message) -> None:
        """Called by ``poll`` and ``flush`` for every message that could not be delivered."""
        if error is None:
            return
        if error.code() in REFUSALS:
            self._refused.append((message, error.name()))
        elif self._broken is None:
            self._broken = translated(error, self._kafka, f"write to {message.topic}")

    def _trouble(self, error: KafkaError) -> None:
        self._heard = error.str()
        if error.fatal():
            self._broken = TransientError(f"the producer cannot go on: {error.str()}. A restart makes a new one.")

    def _end_of(self, message: OutboxMessage, reason: str) -> None:
        """Everything else is delivered: the refused message goes alone, then to the dead letters."""
        if self._delivered_alone(message):
            return
        self._to_dead_letters(message, reason)

    def _to_dead_letters(self, message: OutboxMessage, reason: str) -> None:
        log.error(
            "the broker refuses a message of %d bytes for %s[%d] for good: %s",
            len(message.value or b""),
            message.topic,
            message.partition,
            reason,
        )
        if message.topic != self._dead_letters:
            letter = dead_letter(
                "refused_by_broker", reason, message.topic, message.partition, -1, message.value, message.key,
                message.headers, to=self._dead_letters,
            )  # fmt: skip
        else:
            letter = _cut(message)
        if self._delivered_alone(letter) or (
            message.topic != self._dead_letters and self._delivered_alone(_cut(letter))
        ):
            self.refused_by_broker += 1
            return
        self.dropped += 1
        log.error("the broker refuses it as a dead letter too (%s): it is dropped and counted", self._dead_letters)

    def _delivered_alone(self, message: OutboxMessage) -> bool:
        self._drain()
        others, self._refused = self._refused, deque()
        try:
            self._produce_one(message)
            self._drain()
        except KafkaException as error:
            if error.args[0].code() not in REFUSALS:
                raise translated(error, self._kafka, f"write to {message.topic}") from error
            self._refused = others
            return False
        delivered = not self._refused
        self._refused = others
        return delivered


def _cut(message: OutboxMessage) -> OutboxMessage:
    """The smallest dead letter that still says what happened: our own headers and the beginning of the value."""
    ours = [(name, value) for name, value in message.headers if name.startswith(PREFIX)]
    value = message.value
    if value is not None and len(value) > CUT_BYTES:
        value = value[:CUT_BYTES]
        ours = [pair for pair in ours if pair[0] != PREFIX + "cut"] + [(PREFIX + "cut", b"true")]
    return OutboxMessage(topic=message.topic, partition=-1, key=None, value=value, headers=ours)
