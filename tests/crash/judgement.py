"""What must hold of a run, however often it was killed: the log read back, against what a subscriber has seen.

Owns: the subscriber that reads along, reading topics to their end, and the comparison with the reference evaluator.
Not here: how the job was ended (tests.crash.running).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from threading import Event, Thread
from typing import Any

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from flows.kafka_config import consumer_config
from flows.subscriber import Subscriber
from opportune.audiences.loader import load_project
from opportune.membership import MembershipChange
from opportune.settings import Kafka
from state.warehouse import columns_of
from tests.crash.running import until
from tests.oracle import Change, Outcome, Record, Tables, live
from tests.oracle.engine import told


class ReadingAlong:
    """The package's subscriber in a thread of its own, from the topic's beginning; keeps the news in order.

    Args:
        bootstrap_servers: of the broker.
        topic: the memberships topic, which is there.
    """

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._subscriber = Subscriber(consumer_config(Kafka(bootstrap_servers=bootstrap_servers)), topic)
        self._stop = Event()
        self._thread = Thread(target=self._run, name="subscriber", daemon=True)
        self.news: list[MembershipChange] = []
        self.known = self._subscriber.known
        self.failed: BaseException | None = None
        self._thread.start()

    def stop_at_end(self) -> None:
        """Ends the reading when it has come to the ends that the topic has now."""
        ends = ends_of(self._bootstrap_servers, self._topic)
        until(lambda: self.failed or self._has_read(ends), "the subscriber reads the topic to its end", 60)
        self._stop.set()
        self._thread.join(20)
        self._subscriber.close()
        if self.failed is not None:
            raise AssertionError("the subscriber failed") from self.failed

    def _has_read(self, ends: dict[int, int]) -> bool:
        return all(self.known.positions.get(partition, 0) >= end for partition, end in ends.items())

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.news += self._subscriber.poll(0.1)
        except Exception as error:  # handed to the thread of the test
            self.failed = error


def ends_of(bootstrap_servers: str, topic: str) -> dict[int, int]:
    """The offset after the last record, by partition."""
    consumer = Consumer(consumer_config(Kafka(bootstrap_servers=bootstrap_servers)))
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return {one: consumer.get_watermark_offsets(TopicPartition(topic, one), timeout=10)[1] for one in partitions}
    finally:
        consumer.close()


def read_all(bootstrap_servers: str, topic: str) -> list[Message]:
    """All records of a topic, in order of each partition."""
    ends = ends_of(bootstrap_servers, topic)
    consumer = Consumer({**consumer_config(Kafka(bootstrap_servers=bootstrap_servers)), "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in ends])
    found: list[Message] = []
    reading = set(ends)

    def all_read() -> bool:
        for message in consumer.consume(10_000, 0.1):
            if message.error() is not None:
                reading.discard(message.partition() or 0)
            else:
                found.append(message)
        return not reading

    until(all_read, f"{topic} is read to its end", 60)
    consumer.close()
    return sorted(found, key=lambda message: (message.partition() or 0, message.offset() or 0))


@dataclass
class Verdict:
    """What a run came to: figures for the report."""

    events: int
    people: int
    changes: int
    repeats: int
    refused: Counter[str]
    duplicates: int


def expected_of(
    project: Path,
    bootstrap_servers: str,
    topics: Iterable[str],
    end_ms: int,
    tables: Tables | None = None,
    rows_ms: int | None = None,
) -> tuple[Outcome, int]:
    """What the reference evaluator makes of the topics as they are, up to ``end_ms``, exclusive; and how many records."""
    messages = chain.from_iterable(read_all(bootstrap_servers, topic) for topic in topics)
    records = [Record(message.timestamp()[1], message.value() or b"") for message in messages]
    definitions = load_project(project, columns_of)
    return live(definitions, records, end_ms, tables, rows_ms), len(records)


def judge(
    project: Path,
    bootstrap_servers: str,
    name: str,
    topics: Iterable[str],
    reading: ReadingAlong,
    end_ms: int,
) -> Verdict:
    """Compares a run that has ended with the reference evaluator.

    Args:
        project: the project's directory.
        bootstrap_servers: of the broker.
        name: the project's, which begins the names of its topics.
        topics: the events topics.
        reading: has read the memberships topic to its end.
        end_ms: how far log time had come at the end, exclusive.
    """
    outcome, records = expected_of(project, bootstrap_servers, topics, end_ms)
    assert outcome.changes, "a run without a change shows nothing"
    same_changes(outcome, reading.news)
    same_members(outcome, reading.known.members)
    written = [(message.key(), message.value()) for message in read_all(bootstrap_servers, f"{name}.memberships")]
    repeats = check_written([msgspec.json.decode(value or b"", type=MembershipChange) for _, value in written])
    assert repeats == reading.known.repeats, "the subscriber drops the repeats and nothing else"
    check_dead_letters(outcome, read_all(bootstrap_servers, f"{name}.dead-letters"))
    return Verdict(records, outcome.profiles, len(outcome.changes), repeats, outcome.refused, outcome.duplicates)


def same_changes(outcome: Outcome, news: Iterable[MembershipChange]) -> None:
    """Each person's changes are the reference evaluator's, in their order; the first difference is told in full."""
    expected: dict[str, list[Change]] = defaultdict(list)
    seen: dict[str, list[Change]] = defaultdict(list)
    for change in outcome.changes:
        expected[change.profile].append(change)
    for each in news:
        seen[each.profile_id] += told([each])
    for profile in sorted(expected.keys() | seen.keys()):
        right = sorted(expected[profile], key=lambda change: change.version)
        if right != seen[profile]:
            missing = [change for change in right if change not in seen[profile]]
            surplus = [change for change in seen[profile] if change not in right]
            lines = "\n  ".join(map(str, seen[profile]))
            raise AssertionError(f"{profile}: missing {missing[:5]}, not expected {surplus[:5]}; seen\n  {lines}")


def same_members(outcome: Outcome, members: dict[str, set[str]]) -> None:
    """Who is in each audience at the end."""
    held = {audience: frozenset(who) for audience, who in members.items() if who}
    assert held == {audience: who for audience, who in outcome.members.items() if who}


def check_written(written: list[MembershipChange]) -> int:
    """Repeats are the same to the last byte, versions rise, entered and exited alternate. Returns the number of repeats."""
    by_id: dict[str, MembershipChange] = {}
    for change in written:
        first = by_id.setdefault(change.id, change)
        assert first == change, f"a repeat says something else: {first} and {change}"
    inside: dict[tuple[str, str], str] = {}
    versions: dict[str, int] = {}
    for change in sorted(by_id.values(), key=lambda change: (change.profile_id, change.version)):
        assert change.version > versions.get(change.profile_id, 0), f"versions rise: {change}"
        versions[change.profile_id] = change.version
        where = (change.profile_id, change.audience)
        assert inside.get(where, "exited") != change.change, f"entered and exited alternate: {change}"
        inside[where] = change.change
    return len(written) - len(by_id)


def check_dead_letters(outcome: Outcome, letters: list[Message]) -> None:
    """Each refused record is there, under its reason; a repeat has the identity of the first."""
    reasons: dict[tuple[bytes, bytes, bytes], bytes] = {}
    for letter in letters:
        headers = headers_of(letter)
        place = headers["opportune-topic"], headers["opportune-partition"], headers["opportune-offset"]
        assert reasons.setdefault(place, headers["opportune-reason"]) == headers["opportune-reason"]
    assert Counter(reason.decode() for reason in reasons.values()) == outcome.refused


def headers_of(message: Message) -> dict[str, bytes]:
    """A record's headers by name."""
    # The client's type hints know texts as values; it gives bytes.
    headers: Any = message.headers() or []
    return {name: value or b"" for name, value in headers}
