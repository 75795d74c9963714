"""The events topics as a replay reads them: from their beginning, in the order in which a job takes time from them.

Owns: which stretch of each partition is read, its records merged by arrival over all partitions, and what is said where
something is not there. Arrivals are those of the job (flows.inputs): the record's timestamp, never behind an earlier record
of its partition, and never ahead of the clock at the start.
Invariants: nothing is committed or made at the broker; what is handed over never goes back in time; memory is bounded,
however unevenly the broker sends: a partition that is far ahead of the others pauses.
Not here: mail and decisions, which a replay makes itself; what the records mean (flows.replay).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from flows.control import Decided
from flows.erasure_log import read_erasures
from flows.hub import PASSING, place
from flows.inputs import HELD_MAX, Input
from flows.kafka_config import consumer_config
from flows.kafka_errors import connect, translated
from flows.stop import Stop
from flows.topics import bounds, offsets, partition_counts
from opportune.clock import Clock, monotonic_ms
from opportune.errors import ConfigurationError, OpportuneError, TransientError
from opportune.event import iso_text
from opportune.settings import Settings

PATIENCE_MS = 10_000
"""How long a broker may take to answer at first."""
SILENCE_MS = 30_000
"""How long it may send nothing of what it has."""
POLL_RECORDS = 5_000
POLL_S = 0.1
AHEAD_MAX = 20_000
"""A partition that has so many records waiting for others pauses."""
Arrived = tuple[int, int, Message]
"""Arrival, number of the partition, record."""


class _Stretch:
    """The records of one partition from an offset up to an end.

    Args:
        number: of the partition, in the order of topics and partitions: decides at one instant.
        input_: where it stands.
        end: the offset after the last record.
    """

    def __init__(self, number: int, input_: Input, end: int) -> None:
        self.number = number
        self.input = input_
        self.end = end
        self.done = input_.read >= end
        self.waiting: list[Arrived] = []
        self.paused = self.done
        input_.holds = False

    def take(self, run: Sequence[Message], clock_ms: int, until_ms: int) -> None:
        """Takes records that follow those before; what arrives after ``until_ms`` ends the stretch."""
        if self.done:
            return
        run = [message for message in run if (message.offset() or 0) < self.end]
        if run:
            records, arrivals = self.input.take(run, clock_ms)
            number = self.number
            self.waiting += [
                (arrival, number, record)
                for arrival, record in zip(arrivals, records, strict=True)
                if arrival <= until_ms
            ]
        self.done = not run or self.input.read >= self.end or self.input.floor_ms > until_ms


class TopicLog:
    """The events topics of a project.

    Args:
        settings: opportune.yml, with the names of the topics.
        from_ms: where to begin, milliseconds; None: at the beginning.
        until_ms: what arrives later is not read.
        clock: now.
        on_gap: told what is not there any more of what was asked for.

    Attributes:
        started_ms: the instant as of which the ends hold.
        records: how many there are to read, markers of transactions included.

    Raises:
        ConfigurationError: a topic is missing, or its beginning, without ``from_ms``, has expired.
        TransientError: the broker cannot be reached.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        from_ms: int | None,
        until_ms: int | None,
        clock: Clock,
        on_gap: Callable[[str], None],
    ) -> None:
        self.kafka = settings.kafka
        self.until_ms = until_ms
        self.stretches: list[_Stretch] = []
        admin = connect(self.kafka, Stop(), PATIENCE_MS)
        self.started_ms = clock()
        control = settings.topics.control
        try:
            gaps = self._find(settings.topics.events, from_ms, admin)
            self._control = control if partition_counts([control], admin).get(control) else None
        except KafkaException as error:
            raise translated(error, self.kafka, "read the events topics") from error
        self.records = sum(each.end - each.input.read for each in self.stretches)
        if gaps:
            text = "; ".join(gaps)
            if from_ms is None:
                raise ConfigurationError(
                    f"the topics do not reach back to their beginning: {text}. What those records did to people is not "
                    "known. Give --from INSTANT to replay what is there from then on, or keep events for longer "
                    "(topics.retention of opportune.yml, retention.ms of the topic)."
                )
            on_gap(f"{text}; people are as if nothing had happened before {iso_text(from_ms)}")

    def _find(self, names: Sequence[str], from_ms: int | None, admin: AdminClient) -> list[str]:
        """Finds the stretches; returns what of them is not there."""
        there = partition_counts(names, admin)
        lacking = [name for name in names if not there.get(name)]
        if lacking:
            raise ConfigurationError(
                f"there is no topic {', '.join(lacking)} at {self.kafka.bootstrap_servers}: name the events topics in "
                "topics.events of opportune.yml (--topic-prefix goes before), or give --events FILE."
            )
        gaps: list[str] = []
        for name in names:
            starts, ends = bounds(name, there[name], admin, Stop())
            firsts = starts if from_ms is None else self._firsts(name, ends, from_ms, admin)
            for partition, (start, first, end) in enumerate(zip(starts, firsts, ends, strict=True)):
                if start and first <= start:
                    gaps.append(f"of {name}[{partition}] the records below offset {start} have expired")
                self.stretches.append(_Stretch(len(self.stretches), Input(name, b"", partition, first, 0), end))
        return gaps

    def _firsts(self, name: str, ends: Sequence[int], from_ms: int, admin: AdminClient) -> list[int]:
        """By partition the offset of the first record with a timestamp of an instant or later, else the end."""
        spec = OffsetSpec.for_timestamp(from_ms)
        found = offsets(name, len(ends), spec, admin, Stop())
        return [first if 0 <= first < end else end for first, end in zip(found, ends, strict=True)]

    def forgotten(self) -> list[Decided]:
        """What the control topic tells of people who were forgotten, in order; nothing where there is none.

        Raises:
            TransientError: it cannot be read now.
        """
        return [] if self._control is None else read_erasures(consumer_config(self.kafka), self._control)

    def read(self) -> Iterator[tuple[list[Message], list[int]]]:
        """Reads the stretches.

        Yields:
            Records in order of arrival, at one arrival in order of topic, partition and offset, with their arrivals.

        Raises:
            TransientError: the broker has stopped sending.
            ConfigurationError: records expired before they were read.
        """
        open_ = {(each.input.topic, each.input.partition): each for each in self.stretches if not each.done}
        if not open_:
            return
        consumer = Consumer({**consumer_config(self.kafka), "enable.partition.eof": True})
        try:
            consumer.assign([TopicPartition(*where, each.input.read) for where, each in open_.items()])
            heard_ms = monotonic_ms()
            while not all(each.done for each in self.stretches):
                messages = consumer.consume(POLL_RECORDS, POLL_S)
                if messages:
                    heard_ms = monotonic_ms()
                elif monotonic_ms() - heard_ms > SILENCE_MS:
                    raise self._silence()
                self._take(messages, open_)
                self._pace(consumer)
                if ready := self._ready():
                    yield [record for _, _, record in ready], [arrival for arrival, _, _ in ready]
                    heard_ms = monotonic_ms()
            if ready := self._ready():
                yield [record for _, _, record in ready], [arrival for arrival, _, _ in ready]
        except KafkaException as error:
            raise translated(error, self.kafka, "read the events topics") from error
        finally:
            consumer.close()

    def _take(self, messages: Sequence[Message], open_: dict[tuple[str, int], _Stretch]) -> None:
        runs: dict[tuple[str, int], list[Message]] = {}
        ended: list[_Stretch] = []
        for message in messages:
            error = message.error()
            if error is None:
                runs.setdefault(place(message), []).append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.append(open_[place(message)])
            elif error.code() not in PASSING:
                raise self._trouble(message, error)
        until_ms = self.started_ms if self.until_ms is None else self.until_ms
        for where, run in runs.items():
            open_[where].take(run, self.started_ms, until_ms)
        for each in ended:
            each.done = True

    def _trouble(self, message: Message, error: KafkaError) -> OpportuneError:
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            return ConfigurationError(
                f"{message.topic()}[{message.partition()}]: the records to be read next have expired meanwhile: replay again, "
                "with --from INSTANT."
            )
        return translated(error, self.kafka, "read the events topics")

    def _silence(self) -> TransientError:
        left = [f"{each.input.topic}[{each.input.partition}]" for each in self.stretches if not each.done]
        return TransientError(
            f"{self.kafka.bootstrap_servers} has sent nothing of {', '.join(left)} for {SILENCE_MS // 1_000} seconds: "
            "see whether the partitions have leaders, and replay again."
        )

    def _frontier(self) -> int | None:
        """Up to when all that arrived was read, exclusive; None: for ever."""
        return min((each.input.mark_ms for each in self.stretches if not each.done), default=None)

    def _pace(self, consumer: Consumer) -> None:
        """Lets partitions that are ahead wait for those that time waits for."""
        frontier = self._frontier()
        for each in self.stretches:
            ahead = not each.done and frontier is not None and each.input.mark_ms > frontier
            pause = each.done or (ahead and len(each.waiting) > AHEAD_MAX)
            if pause != each.paused:
                where = [TopicPartition(each.input.topic, each.input.partition)]
                consumer.pause(where) if pause else consumer.resume(where)
                each.paused = pause

    def _ready(self) -> list[Arrived]:
        """Takes what nothing can come before any more; of an instant of very many records, what is there of it."""
        frontier = self._frontier()
        crowded = any(len(each.waiting) > HELD_MAX and not each.done for each in self.stretches)
        taken: list[Arrived] = []
        for each in self.stretches:
            if frontier is None:
                taken += each.waiting
                each.waiting = []
            elif each.waiting:
                # Not always in order: what claims to be of the future arrives at the clock, before records of earlier.
                limit = frontier + crowded
                taken += [one for one in each.waiting if one[0] < limit]
                each.waiting = [one for one in each.waiting if one[0] >= limit]
        taken.sort(key=itemgetter(0, 1))
        return taken
