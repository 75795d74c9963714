"""Requests that people be forgotten, as whoever makes them sees it: the control topic, written and read from outside of the job.

Owns: ``ErasureLog``, which appends requests and says how far each has come. It knows nothing but the topic, so it works where
there is no state, and says the same to everybody.
Invariants: a request is named once Kafka has it; identifiers go in as digests, so the topic, which is kept for ever, has none.
Not here: what is done about a request (flows.identity.forgetting), when it is complete (flows.erasures).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Literal

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from flows.control import Decided, Erased, Forget, Forgotten, decode_decision, encode_decision
from flows.kafka_config import ClientConfig, consumer_config, producer_config
from flows.kafka_errors import translated
from flows.topics import Topic
from opportune.clock import Clock, monotonic_ms
from opportune.errors import RejectedEvent, StateError, TransientError
from opportune.event import instant_ms, iso_text
from opportune.identity import digest_of
from opportune.settings import DAY_MS, Settings

WAIT_MS = 10_000
DEAD_LETTERS_MS = 30 * DAY_MS
"""So long a dead letters topic that the job has made keeps its records."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How far a request has come. Instants are ISO 8601.

    Args:
        request: its name.
        state: ``pending``: somebody is still to be forgotten; ``erased``: everybody was, and mail of them may be on its way;
            ``complete``.
        requested_at: when Kafka had the request: events that arrived up to then are forgotten.
        completed_at: since when it is complete.
        profiles: how many profiles were forgotten.
        suppressed_until: so long the events stay refused, should topics be read again.
        message_ids_until: hashes of message ids are kept until then at most; they name nobody.
        dead_letters_until: refused records of before the request are in the dead letters topic until then at most.
    """

    request: str
    state: Literal["pending", "erased", "complete"]
    requested_at: str
    completed_at: str | None
    profiles: int
    suppressed_until: str
    message_ids_until: str
    dead_letters_until: str


class _Request:
    """What the topic tells of a request."""

    def __init__(self, forget: Forget, at_ms: int) -> None:
        self.at_ms = at_ms
        self.waiting = set(forget.identifiers)
        self.profiles: set[str] = set()
        self.until = at_ms
        self.completed_ms: int | None = None

    def hear(self, told: Forgotten) -> None:
        """Somebody was forgotten."""
        self.waiting.discard(told.asked)
        if told.profile:
            self.profiles.add(told.profile)
        self.until = max(self.until, told.until)
        self.completed_ms = None


class ErasureLog:
    """Requests of a project. For any thread; ``close`` it.

    Args:
        settings: of the project, names of topics filled in.
        clock: the wall clock.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = Lock()
        self._producer: Producer | None = None
        self._reader: _Reader | None = None
        self._requests: dict[str, _Request] = {}

    def ask(self, identifiers: Sequence[str], /) -> str:
        """Asks that whoever has these identifiers (``namespace:value``, normalised) be forgotten; returns the request's name.

        Raises:
            TransientError: Kafka does not have it; nothing is asked.
            ConfigurationError: the account may not write the control topic.
        """
        request = secrets.token_hex(12)
        digests = [digest_of(text).hex() for text in dict.fromkeys(identifiers)]
        decision = Forget(request=request, identifiers=digests, at=iso_text(self._clock()))
        failed: list[KafkaError] = []
        with self._lock:
            if self._producer is None:
                config = producer_config(self._settings.kafka)
                # Whoever asks waits for the answer, and hears of it where there is none.
                self._producer = Producer(
                    {**config, "message.timeout.ms": WAIT_MS, "delivery.report.only.error": False, "linger.ms": 0}
                )
            self._producer.produce(
                self._settings.topics.control,
                encode_decision(decision),
                partition=0,
                on_delivery=lambda error, _: failed.append(error) if error is not None else None,
            )
            left = self._producer.flush(WAIT_MS / 1_000 + 5)
        if failed:
            raise translated(KafkaException(failed[0]), self._settings.kafka, "write the request")
        if left:
            raise TransientError("Kafka does not take the request: nothing was asked. Try again.")
        return request

    def status(self, request: str, /) -> Asked | None:
        """How far a request has come; None where the topic has none of that name. Raises as ``ask``."""
        with self._lock:
            if self._reader is None:
                self._reader = _Reader(consumer_config(self._settings.kafka), self._settings.topics.control)
            for decided in self._reader.news():
                self._take(decided)
            known = self._requests.get(request)
        return self._asked(request, known) if known is not None else None

    def close(self) -> None:
        """Leaves the broker."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()

    def _take(self, decided: Decided) -> None:
        erasure = decided.erasure
        if isinstance(erasure, Forget):
            self._requests.setdefault(erasure.request, _Request(erasure, _time_of(decided)))
            return
        known = self._requests.get(erasure.request)
        if known is not None and isinstance(erasure, Forgotten):
            known.hear(erasure)
        elif known is not None and isinstance(erasure, Erased):
            known.completed_ms = _time_of(decided)

    def _asked(self, request: str, known: _Request) -> Asked:
        done = known.completed_ms
        settings = self._settings
        return Asked(
            request=request,
            state="pending" if known.waiting else "erased" if done is None else "complete",
            requested_at=iso_text(known.at_ms),
            completed_at=None if done is None else iso_text(done),
            profiles=len(known.profiles),
            suppressed_until=iso_text(known.until + settings.erasure.remember_ms),
            message_ids_until=iso_text(known.until + settings.dedupe.period_ms),
            dead_letters_until=iso_text(known.at_ms + DEAD_LETTERS_MS),
        )


def last_generation(config: ClientConfig, control: Topic) -> int:
    """The highest generation that the control topic tells of, 0 where it tells of none. Raises ``TransientError``."""
    if not control.ends[0]:
        return 0
    reader = _Reader(config, control.name)
    try:
        for _ in reader.news():
            pass
        return reader.generation
    finally:
        reader.close()


class _Reader:
    """Reads the erasures of a control topic on, from its beginning.

    Attributes:
        generation: the highest that any decision told of so far.
    """

    def __init__(self, config: ClientConfig, topic: str) -> None:
        self._topic = topic
        self._consumer = Consumer({**config, "enable.partition.eof": True})
        self._consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        self._end = 0
        self.generation = 0

    def news(self) -> Iterator[Decided]:
        """What came since the last time, up to the end that the topic has now. Raises ``TransientError``."""
        try:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(self._topic, 0), timeout=WAIT_MS / 1_000)
        except KafkaException as error:
            raise TransientError(
                f"the control topic {self._topic} cannot be read: {error.args[0].str()}. Has the job run on this broker?"
            ) from error
        deadline = monotonic_ms() + WAIT_MS
        while self._end < end:
            message = self._consumer.poll(0.1)
            if monotonic_ms() > deadline:
                raise TransientError(f"the control topic {self._topic} cannot be read to its end now. Try again.")
            if message is None:
                continue
            found, offset = message.error(), message.offset() or 0
            if found is not None:
                if found.code() == KafkaError._PARTITION_EOF:
                    self._end = max(self._end, offset)
                continue
            self._end = offset + 1
            deadline = monotonic_ms() + WAIT_MS
            try:
                decision = decode_decision(message.value() or b"")
            except (RejectedEvent, StateError):
                # The job judges what is in the topic; here it is no request that we know.
                continue
            self.generation = max(self.generation, decision.generation)
            if isinstance(decision, Forget | Forgotten | Erased):
                yield Decided(decision, offset, max(0, message.timestamp()[1]))

    def close(self) -> None:
        """Leaves the broker."""
        self._consumer.close()


def read_erasures(config: ClientConfig, topic: str) -> list[Decided]:
    """All that a control topic tells of people who were forgotten. Raises ``TransientError``."""
    reader = _Reader(config, topic)
    try:
        return list(reader.news())
    finally:
        reader.close()


def _time_of(decided: Decided) -> int:
    return decided.time_ms or instant_ms(getattr(decided.erasure, "at", "1970-01-01"))
