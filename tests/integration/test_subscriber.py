from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from flows.kafka_config import BOOTSTRAP_VARIABLE, consumer_config
from flows.subscriber import Memberships, Subscriber
from opportune.clock import wall_clock_ms
from opportune.errors import StateError, TransientError
from opportune.identity import shard_of
from opportune.membership import MembershipChange
from opportune.settings import Kafka
from tests.kafka.broker import Kafka as RunningKafka

ROOT = Path(__file__).resolve().parents[2]
A, B = "01" * 16, "fe" * 16


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    pause, deadline = Event(), wall_clock_ms() + seconds * 1_000
    while not condition():
        assert wall_clock_ms() < deadline, "it did not come about"
        pause.wait(0.05)


class Topic:
    """A memberships topic, with what the engine writes into it."""

    def __init__(self, address: str, name: str) -> None:
        self.kafka, self.name = Kafka(bootstrap_servers=address), name
        admin = AdminClient({"bootstrap.servers": address})
        admin.create_topics([NewTopic(name, 3, 1, config={"cleanup.policy": "compact"})])[name].result()
        until(lambda: name in admin.list_topics(timeout=5).topics)
        self._producer = Producer({"bootstrap.servers": address})

    def write(self, profile: str, audience: str, what: str, version: int, **more: object) -> None:
        change = {
            "id": f"{profile}/{version}", "audience": audience, "change": what, "profile_id": profile,
            "identifiers": {"user_id": ["someone"]}, "at": "2026-01-01T00:00:00.000Z",
            "emitted_at": "2026-01-01T00:00:00.000Z", "cause": "event", "version": version, "definition_version": "d",
            **more,
        }  # fmt: skip
        self._send(profile, audience, msgspec.json.encode(change))

    def forget(self, profile: str, audience: str) -> None:
        self._send(profile, audience, None)

    def subscriber(self, known: Memberships | None = None, *, from_end: bool = False) -> Subscriber:
        return Subscriber(consumer_config(self.kafka), self.name, known, from_end=from_end)

    def _send(self, profile: str, audience: str, value: bytes | None) -> None:
        partition = shard_of(bytes.fromhex(profile), 3)
        self._producer.produce(self.name, value, f"{profile}/{audience}".encode(), partition)
        assert self._producer.flush(20) == 0


@pytest.fixture
def topic(kafka: RunningKafka, topic_prefix: str) -> Topic:
    return Topic(kafka.bootstrap_servers, f"{topic_prefix}.memberships")


def news(subscriber: Subscriber, count: int) -> list[MembershipChange]:
    found: list[MembershipChange] = []
    deadline = wall_clock_ms() + 30_000
    while len(found) < count:
        assert wall_clock_ms() < deadline, "it did not come about"
        found += subscriber.poll(0.2)
    return found


def test_it_loads_and_follows(topic: Topic) -> None:
    topic.write(A, "x", "entered", 1)
    topic.write(A, "y", "entered", 2)
    topic.write(B, "x", "entered", 1)
    topic.write(A, "x", "exited", 3)
    subscriber = topic.subscriber()
    assert subscriber.load().members == {"x": {B}, "y": {A}}
    topic.write(A, "y", "entered", 2)
    topic.write(A, "x", "exited", 3)
    topic.write(A, "x", "entered", 4)
    topic.forget(B, "x")
    assert [(change.audience, change.version) for change in news(subscriber, 1)] == [("x", 4)]
    until(lambda: bool(subscriber.poll(0.1)) or subscriber.known.members["x"] == {A})
    assert (subscriber.known.changes, subscriber.known.repeats) == (5, 2)
    subscriber.close()


def test_a_compacted_topic_is_read_by_key(topic: Topic) -> None:
    # What compaction may leave in the middle of a repeat: the newest of x lies behind that of y.
    topic.write(A, "y", "entered", 2)
    topic.write(A, "x", "entered", 1)
    subscriber = topic.subscriber()
    assert subscriber.load().members == {"x": {A}, "y": {A}}
    topic.write(A, "y", "entered", 2)
    topic.write(A, "y", "exited", 3)
    assert [change.version for change in news(subscriber, 1)] == [3]
    subscriber.close()


def test_it_goes_on_where_it_was(topic: Topic) -> None:
    topic.write(A, "x", "entered", 1)
    first = topic.subscriber()
    kept = msgspec.json.encode(first.load())
    first.close()
    topic.write(A, "x", "entered", 1)
    topic.write(A, "x", "exited", 2)
    second = topic.subscriber(msgspec.json.decode(kept, type=Memberships))
    assert [change.version for change in news(second, 1)] == [2]
    assert second.known.members == {"x": set()}
    assert second.known.repeats == 1
    second.close()


def test_positions_that_are_gone_are_told(topic: Topic) -> None:
    subscriber = topic.subscriber(Memberships(positions={0: 99, 1: 99, 2: 99}))
    with pytest.raises(StateError, match="load from the beginning"):
        until(lambda: bool(subscriber.poll(0.2)))
    subscriber.close()


def test_another_topic_is_told(topic: Topic) -> None:
    topic._send(A, "x", b'{"no": "change"}')
    subscriber = topic.subscriber()
    with pytest.raises(StateError, match="no membership change"):
        subscriber.load()
    subscriber.close()
    with pytest.raises(TransientError, match=r"topics\.memberships"):
        Subscriber(consumer_config(topic.kafka), topic.name + ".gone")


def project(directory: Path, topic: Topic) -> Path:
    (directory / "audiences").mkdir()
    (directory / "opportune.yml").write_text(f"name: t\ntopics: {{memberships: {topic.name}}}\n")
    (directory / "audiences" / "x.yml").write_text("name: x\nwhen: {event: Viewed, times: '>= 1', within: ever}\n")
    return directory


def subscribe(directory: Path, topic: Topic, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "opportune.cli.main", "subscribe", str(directory), *options],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", BOOTSTRAP_VARIABLE: topic.kafka.bootstrap_servers},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_prints_changes_as_lines(topic: Topic, tmp_path: Path) -> None:
    for version in (1, 1, 2):
        topic.write(A, "x", "exited" if version == 2 else "entered", version)
    topic.write(A, "y", "entered", 3)
    process = subscribe(project(tmp_path, topic), topic, "--audience", "x", "--from-beginning")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGINT)
    rest, told = process.communicate(timeout=20)
    assert process.returncode == 0, told
    assert rest == ""
    assert [msgspec.json.decode(line, type=MembershipChange).version for line in lines] == [1, 2]
    assert told.splitlines()[-1] == "3 changes, 1 repeats dropped"


def test_the_command_refuses_an_unknown_audience(topic: Topic, tmp_path: Path) -> None:
    process = subscribe(project(tmp_path, topic), topic, "--audience", "z")
    _, told = process.communicate(timeout=20)
    assert process.returncode == 78
    assert "no audience z" in told
