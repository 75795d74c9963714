"""All inputs of a process: polls, routes, gathers, and says how far log time has come.

Owns: the consumer, and the batches that shards are given. A poll of everything that waits is routed at once; while the
process is behind, several polls are gathered into one batch a shard, since a busy person then costs one read and one
write for many events; when it keeps up, every poll is handed over.
Invariant: a batch's spans and events agree: everything of a partition up to ``Span.next`` is in this batch or before.
Not here: arrivals and marks (flows.inputs), log time (flows.log_time), what a shard does (flows.actor), Bytewax
(flows.dataflow).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from flows.batch import Batch, Mail, Span
from flows.inputs import Input
from flows.log_time import LogTime
from flows.mail_time import MailTime
from opportune.clock import Clock, monotonic_ms
from opportune.decode import Event
from opportune.errors import RejectedEvent, StateError
from opportune.router import Router

POLL_RECORDS = 2_000
PACE_MS = 8
"""Batches follow each other no faster than this: each costs every shard a write."""
GATHER_MS = 1_000
GATHER_EVENTS = 30_000
"""A batch is handed over after this time, or with so many events, however far behind the process is."""
NEAR_MS = 500
"""Log time this close behind the clock is no lag: what waits is handed over at once, and what arrives while the shards
work is the next batch, larger the longer they work."""
PASSING = frozenset({
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.KAFKA_STORAGE_ERROR,
})  # fmt: skip
"""Errors after which the client goes on by itself."""


class Hub:
    """The inputs of a process.

    Args:
        consumer: of events; its partitions are assigned here.
        post: of mail and decisions, another consumer: so that a run of events is known by its partition alone.
        events: the inputs that events come from.
        mail: the inputs that mail and decisions come from: the mailbox's partitions and the control topic's.
        mailbox: the name of the mailbox topic: its partition is the number of the shard that gets it.
        router: routes events.
        shards: how many there are.
        log_time: judges the marks.
        quarantined: records that go to the dead letters unread, as (topic, partition, offset).
        clock: the wall clock.
        mail_time: up to when all mail has arrived: the shards' time waits for it.

    Attributes:
        records: records of events read.
    """

    def __init__(
        self,
        consumer: Consumer,
        post: Consumer,
        events: Sequence[Input],
        mail: Sequence[Input],
        mailbox: str,
        router: Router,
        shards: int,
        log_time: LogTime,
        quarantined: frozenset[tuple[str, int, int]],
        clock: Clock,
        *,
        mail_time: MailTime,
    ) -> None:
        self.consumer = consumer
        self.post_consumer = post
        self.events = events
        self.mail = mail
        self.mailbox = mailbox
        self.router = router
        self.shards = shards
        self.log_time = log_time
        self.mail_time = mail_time
        self.quarantined = quarantined
        self.clock = clock
        self.inputs = {(one.topic, one.partition): one for one in (*events, *mail)}
        self.one_topic = len({one.topic for one in events}) == 1
        self.records = 0
        self.told_ms = self.read_ms = -1
        self.gathered_ms = 0
        self._empty()
        consumer.assign([TopicPartition(one.topic, one.partition, one.read) for one in events])
        post.assign([TopicPartition(one.topic, one.partition, one.read) for one in mail])

    def _empty(self) -> None:
        self.gathered: list[list[Event]] = [[] for _ in range(self.shards)]
        self.deliver = [shard.append for shard in self.gathered]
        self.letters: list[list[tuple[Any, RejectedEvent]]] = [[] for _ in range(self.shards)]
        self.post: list[list[Mail]] = [[] for _ in range(self.shards)]
        self.spans: dict[tuple[str, int], Span] = {}

    def gather(self) -> list[tuple[int, Batch]]:
        """Reads what waits.

        Returns:
            A batch for each shard, or nothing where nothing was read and time has not moved on.
        """
        self._poll_mail()
        if self._interval_ms() > PACE_MS and min(self.read_ms, self.mail_time.now()) > self.told_ms:
            # Timers of the batch before have waited for it to be applied, and need not wait until the next one is large.
            return self.batches()
        while self.poll():
            if self._is_full():
                break
        else:
            if not self._is_full():
                return []
        self.gathered_ms = monotonic_ms()
        return self.batches()

    def _is_full(self) -> bool:
        """Whether what was gathered is to be handed over."""
        if sum(map(len, self.gathered)) >= GATHER_EVENTS:
            return True
        return monotonic_ms() - self.gathered_ms >= self._interval_ms()

    def _interval_ms(self) -> int:
        """How long is gathered: the further behind the clock, the longer."""
        behind = self.clock() - min(
            (one.mark_ms for one in self.events if one.mark_ms and not one.at_end), default=1 << 60
        )
        return max(PACE_MS, min((behind - NEAR_MS) // 4, GATHER_MS))

    def poll(self, limit: int = POLL_RECORDS) -> int:
        """Reads and routes at most ``limit`` records; returns how many."""
        messages = self.consumer.consume(limit, 0)
        if not messages:
            return 0
        errors = list(map(Message.error, messages))
        ends: list[Message] = []
        if any(errors):
            ends = [message for message, error in zip(messages, errors, strict=True) if self._is_end(message, error)]
            messages = [message for message, error in zip(messages, errors, strict=True) if error is None]
        now = self.clock()
        start = 0
        for _, run in groupby(map(Message.partition, messages) if self.one_topic else map(place, messages)):
            stop = start + len(list(run))
            one = self.inputs[place(messages[start])]
            self.records += stop - start
            self._hand_over(one, *one.take(messages[start:stop], now))
            start = stop
        for message in ends:
            one = self.inputs[place(message)]
            self._hand_over(one, *one.end(message.offset() or 0))
        return len(messages)

    def _poll_mail(self) -> None:
        """Reads mail and decisions that wait."""
        messages = self.post_consumer.consume(POLL_RECORDS, 0)
        for message in messages:
            error = message.error()
            if error is None and (*place(message), message.offset() or 0) in self.quarantined:
                refusal = RejectedEvent("poison", "it ended the process each time it was applied")
                self.letters[(message.partition() or 0) % self.shards].append((message, refusal))
                self._move_mail(self.inputs[place(message)], message.offset() or 0)
            elif error is None:
                self._take_mail(self.inputs[place(message)], message)
            elif self._is_end(message, error):
                self.inputs[place(message)].at_end = True

    def _is_end(self, message: Message, error: KafkaError | None) -> bool:
        if error is None:
            return False
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            return True
        if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise StateError(
                f"{message.topic()}[{message.partition()}]: the broker no longer has the record that is to be read next: "
                "it expired before it was read, or the topic lost its end. Start again: the start says which, and what to do."
            )
        if code not in PASSING:
            raise KafkaException(error)
        return False

    def _hand_over(self, one: Input, records: list[Message], arrivals: list[int]) -> None:
        """Routes records of one partition, and moves its span."""
        span = self.spans.get((one.topic, one.partition))
        if records:
            first = records[0].offset() or 0
            values = list(map(Message.value, records))
            if self.quarantined:
                self._leave_out(one, records, values, arrivals)
            refused = self.router.route(records, values, arrivals, self.deliver)
            if refused:
                self.letters[one.partition % self.shards] += refused
            if span is None:
                self.spans[one.topic, one.partition] = Span(
                    one.topic, one.topic_id, one.partition, first, one.handed, one.floor_ms
                )
                return
        if span is not None:
            span.next, span.time_ms = one.handed, one.floor_ms

    def _leave_out(self, one: Input, records: list[Message], values: list[bytes | None], arrivals: list[int]) -> None:
        """Sends quarantined records to the dead letters, unread."""
        for place_ in reversed(range(len(records))):
            record = records[place_]
            if (one.topic, one.partition, record.offset() or 0) in self.quarantined:
                refusal = RejectedEvent("poison", "it ended the process each time it was applied")
                self.letters[one.partition % self.shards].append((record, refusal))
                del records[place_], values[place_], arrivals[place_]

    def _take_mail(self, one: Input, record: Message) -> None:
        """Mail goes to the shard whose partition it is in, decisions go to all."""
        offset = record.offset() or 0
        piece = Mail(
            one.topic_id, one.partition, offset, record.value() or b"", max(0, min(record.timestamp()[1], self.clock()))
        )
        for shard in [one.partition] if one.topic == self.mailbox else range(self.shards):
            self.post[shard].append(piece)
        self._move_mail(one, offset)

    def _move_mail(self, one: Input, offset: int) -> None:
        one.read = one.handed = offset + 1
        one.at_end = False
        span = self.spans.get((one.topic, one.partition))
        if span is None:
            self.spans[one.topic, one.partition] = Span(one.topic, one.topic_id, one.partition, offset, offset + 1, 0)
        else:
            span.next = offset + 1

    def batches(self) -> list[tuple[int, Batch]]:
        """What was gathered, by shard; empty where there is nothing to say."""
        read_ms = self.log_time.now()
        time_ms = min(read_ms, self.mail_time.now())
        if not self.spans and time_ms <= self.told_ms and read_ms <= self.read_ms:
            return []
        self.told_ms, self.read_ms = max(time_ms, self.told_ms), max(read_ms, self.read_ms)
        spans = list(self.spans.values())
        out = [
            (
                shard,
                Batch(self.told_ms, spans, self.gathered[shard], self.letters[shard], self.post[shard], self.read_ms),
            )
            for shard in range(self.shards)
        ]
        self._empty()
        return out


def place(message: Message) -> tuple[str, int]:
    """Topic and partition of a record."""
    return message.topic() or "", message.partition() or 0
