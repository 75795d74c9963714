"""``opportune replay`` of the events topics of a real Kafka: as a file of the same events, and as the job that read them.

Owns: the order over partitions, what is refused, and what is said where something is not there.
Not here: replays of files (tests.unit.flows.test_replay), that the job is right (tests.integration).
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from flows import replay_topics
from opportune.cli.main import main
from opportune.clock import wall_clock_ms
from tests.crash.judgement import read_all
from tests.crash.running import running_job, until
from tests.crash.scene import make_topics
from tests.kafka.broker import Kafka
from tests.oracle.instants import write_instant

PARTITIONS = 3
BEGIN = 1_772_000_000_000
AUDIENCES = [
    {"name": "looking", "when": {"event": "Viewed", "times": ">= 3", "within": "10 minutes"}},
    {
        "name": "left_cart",
        "when": {"all": [{"event": "Added", "within": "1 hour"}], "none": [{"event": "Ordered", "within": "1 hour"}]},
    },
    {"name": "buyer", "when": {"event": "Ordered", "times": ">= 2"}},
]


class Arriving(NamedTuple):
    """A record: topic, partition, timestamp in milliseconds, and the message."""

    topic: str
    partition: int
    at_ms: int
    value: bytes


@pytest.fixture
def project(tmp_path: Path, topic_prefix: str) -> Path:
    """A project with two events topics of its own."""
    directory = tmp_path / "project"
    (directory / "audiences").mkdir(parents=True)
    settings = {
        "name": topic_prefix,
        "topics": {"events": [f"{topic_prefix}.web", f"{topic_prefix}.app"], "partitions": PARTITIONS},
        "clock": {"lateness": "2 hours"},
    }
    (directory / "opportune.yml").write_text(json.dumps(settings))
    (directory / "audiences" / "all.yml").write_text(json.dumps(AUDIENCES))
    return directory


def log(prefix: str, many: int) -> list[Arriving]:
    """Events of some people, in order of arrival; late ones, repeats, ties and what is refused among them."""
    choose, at_ms, made = random.Random(7), BEGIN, list[Arriving]()
    for number in range(many):
        at_ms += choose.choice((0, 0, 1, 999, 20_000))
        person = f"p{choose.randrange(many // 20)}"
        message: dict[str, Any] = {
            "type": "track",
            "event": choose.choice(("Viewed", "Viewed", "Viewed", "Added", "Ordered", "Ignored")),
            "messageId": f"m{number - choose.randrange(40) // 39}",
            "userId": person,
            "timestamp": write_instant(at_ms - choose.choice((0, 0, 0, 5_000, 8_000_000))),
        }
        value = json.dumps(message).encode() if number % 97 else b"{no json"
        topic = f"{prefix}.{('web', 'app')[hash_of(person) % 2]}"
        made.append(Arriving(topic, hash_of(person) // 2 % PARTITIONS, at_ms, value))
    return made


def hash_of(person: str) -> int:
    """A number that is the same in every process."""
    return sum(person.encode())


def produce(bootstrap_servers: str, records: Sequence[Arriving]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap_servers, "enable.idempotence": True})
    for one in records:
        producer.produce(one.topic, one.value, partition=one.partition, timestamp=one.at_ms)
    assert producer.flush(60) == 0


@pytest.fixture
def topics(kafka: Kafka, topic_prefix: str) -> AdminClient:
    """Both topics, with the producers' times."""
    kinds = dict.fromkeys((f"{topic_prefix}.web", f"{topic_prefix}.app"), "CreateTime")
    return make_topics(kafka.bootstrap_servers, kinds, PARTITIONS, retention_ms="-1")


def replay(directory: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["replay", str(directory), *arguments])


def told(lines: str) -> list[dict[str, Any]]:
    """Changes without the instant at which they were written."""
    changes = [json.loads(line) for line in lines.splitlines()]
    for change in changes:
        del change["emitted_at"]
    return changes


@pytest.mark.usefixtures("topics")
def test_topics_give_what_a_file_in_order_of_arrival_gives(
    kafka: Kafka, topic_prefix: str, project: Path, tmp_path: Path
) -> None:
    records = log(topic_prefix, 3_000)
    produce(kafka.bootstrap_servers, records)
    # In a file the watermark is the arrival where an event of that time came before: one that nobody reads.
    lines = []
    for one in records:
        clock = {"type": "track", "event": "Tick", "userId": "clock", "timestamp": write_instant(one.at_ms)}
        lines += [json.dumps(clock).encode(), one.value]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines))
    until_ = write_instant(records[-1].at_ms + 86_400_000)
    file = replay(project, "--events", str(tmp_path / "events.jsonl"), "--until", until_)
    topics = replay(project, "--bootstrap-servers", kafka.bootstrap_servers, "--until", until_)
    assert (file.exit_code, topics.exit_code) == (0, 0), topics.output
    expected = told(file.stdout)
    assert len(expected) > 500
    assert told(topics.stdout) == expected
    summary = topics.stderr.splitlines()[0]
    assert summary.startswith("events 3000,")
    assert "not_json 31" in summary
    assert "too_late" in summary
    assert summary.partition("refused")[2] == file.stderr.splitlines()[0].partition("refused")[2]


@pytest.mark.usefixtures("topics")
def test_topics_give_what_the_job_has_given(kafka: Kafka, topic_prefix: str, project: Path) -> None:
    records = log(topic_prefix, 1_500)
    produce(kafka.bootstrap_servers, records)
    with running_job(project, kafka.bootstrap_servers) as job:
        job.start()
        job.wait_running(60)
        began_ms = wall_clock_ms()
        until(lambda: job.log_time_ms() > began_ms, "time has come to the present", 60)
        assert job.terminate()[0] == 0
    written = [message.value() or b"" for message in read_all(kafka.bootstrap_servers, f"{topic_prefix}.memberships")]
    live = told(b"\n".join(written).decode())
    replayed = replay(project, "--bootstrap-servers", kafka.bootstrap_servers)
    assert replayed.exit_code == 0, replayed.output

    def in_order(changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(changes, key=lambda change: (change["at"], change["profile_id"], change["audience"]))

    assert len(live) > 200
    assert in_order(live) == told(replayed.stdout)


def test_a_part_of_the_time_is_read(kafka: Kafka, topic_prefix: str, project: Path, topics: AdminClient) -> None:
    records = [one for one in log(topic_prefix, 400) if b"Ordered" in one.value]
    produce(kafka.bootstrap_servers, records)
    middle, last = records[len(records) // 2].at_ms, records[-10].at_ms
    servers = ("--bootstrap-servers", kafka.bootstrap_servers)
    part = replay(project, *servers, "--from", write_instant(middle), "--until", write_instant(last))
    asked = sum(middle <= one.at_ms <= last for one in records)
    assert part.exit_code == 0
    assert part.stderr.startswith(f"events {asked},")
    # The beginning expires.
    admin, where = topics, records[0]
    admin.delete_records([TopicPartition(where.topic, where.partition, 2)])[
        TopicPartition(where.topic, where.partition)
    ].result()
    whole = replay(project, *servers)
    assert whole.exit_code == 78
    assert f"of {where.topic}[{where.partition}] the records below offset 2 have expired" in whole.stderr
    assert "--from INSTANT" in whole.stderr
    known = replay(project, *servers, "--from", "2026-01-01")
    assert known.exit_code == 0
    assert "have expired; people are as if nothing had happened before 2026-01-01T00:00:00.000Z" in known.stderr
    assert f"events {len(records) - 2}," in known.stderr


def test_nothing_is_left_at_the_broker(kafka: Kafka, topic_prefix: str, project: Path, topics: AdminClient) -> None:
    produce(kafka.bootstrap_servers, log(topic_prefix, 50))
    before = set(topics.list_topics(timeout=10).topics)
    assert replay(project, "--bootstrap-servers", kafka.bootstrap_servers).exit_code == 0
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "opportune"})
    (committed,) = consumer.committed([TopicPartition(f"{topic_prefix}.web", 0)], timeout=10)
    consumer.close()
    assert committed.offset < 0
    assert {name for name in set(topics.list_topics(timeout=10).topics) - before if topic_prefix in name} == set()


def test_a_partition_that_is_far_ahead_waits(
    kafka: Kafka, topic_prefix: str, project: Path, topics: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert topics is not None
    monkeypatch.setattr(replay_topics, "AHEAD_MAX", 10)
    monkeypatch.setattr(replay_topics, "POLL_RECORDS", 7)
    records = log(topic_prefix, 1_000)
    produce(kafka.bootstrap_servers, records)
    servers = ("--bootstrap-servers", kafka.bootstrap_servers)
    paced = replay(project, *servers)
    monkeypatch.undo()
    assert paced.exit_code == 0, paced.output
    assert paced.stderr.startswith("events 1000,")
    assert told(paced.stdout) == told(replay(project, *servers).stdout)


def test_what_is_not_there_is_said(kafka: Kafka, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = replay(project, "--bootstrap-servers", kafka.bootstrap_servers, "--topic-prefix", "other-")
    assert missing.exit_code == 78
    assert "there is no topic other-" in missing.stderr
    assert "topics.events" in missing.stderr
    monkeypatch.setattr(replay_topics, "PATIENCE_MS", 100)
    away = replay(project, "--bootstrap-servers", "127.0.0.1:1")
    assert away.exit_code == 75
    assert "cannot reach the Kafka broker at 127.0.0.1:1" in away.stderr
