"""Real behaviour of many people, produced into a real Kafka before the job starts: the live job gives the replay's changes.

A replay knows an event's arrival as the greatest event time so far; these are the record times. So the two are to agree to
the last change, over all partitions and to the end of all windows.
Not here: that the replay is right (tests.integration.test_taobao); a log that is read while it grows (tests.crash).
"""

from __future__ import annotations

import csv
import gc
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgspec
import pytest
from confluent_kafka import Producer

from flows.replay import replay
from opportune.audiences.loader import load_project
from opportune.clock import wall_clock_ms
from opportune.event import instant_ms
from opportune.membership import MembershipChange
from tests.crash.judgement import check_written, ends_of, read_all
from tests.crash.running import running_job, until
from tests.crash.scene import make_topics, report
from tests.integration import taobao
from tests.kafka.broker import Kafka
from tests.oracle.engine import told, warehouse

PARTITIONS = 4


@pytest.fixture
def behaviour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data; where it is not there, some that looks like it."""
    if taobao.BEHAVIOUR.exists():
        return
    choose, at = random.Random(1), 1_511_000_000
    with (tmp_path / "behaviour.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("user_id", "item_id", "category_id", "behavior", "ts"))
        for _ in range(20_000):
            at += choose.randrange(8)
            person, kind = choose.randrange(2_000), choose.choices(("pv", "cart", "fav", "buy"), (80, 10, 5, 5))[0]
            writer.writerow((1_000_000 + person, choose.randrange(500), choose.randrange(20), kind, at))
    monkeypatch.setattr(taobao, "BEHAVIOUR", tmp_path / "behaviour.csv")


class Sent(msgspec.Struct):
    """What of a message says when it arrives, and in which partition."""

    timestamp: str
    userId: str | int = ""  # noqa: N815 - the message's name
    anonymousId: str = ""  # noqa: N815 - the message's name


def arriving(raws: list[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Partition, record time and value of each message: all of a person in one partition."""
    decode, watermark = msgspec.json.Decoder(Sent).decode, 0
    for raw in raws:
        sent = decode(raw)
        watermark = max(watermark, instant_ms(sent.timestamp))
        yield crc32(f"{sent.userId}{sent.anonymousId}".encode()) % PARTITIONS, watermark, raw


def produce(bootstrap_servers: str, topic: str, raws: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap_servers, "enable.idempotence": True, "linger.ms": 20})
    for partition, time_ms, raw in arriving(raws):
        while True:
            try:
                producer.produce(topic, raw, partition=partition, timestamp=time_ms)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0


@pytest.fixture
def many_objects() -> Iterator[None]:
    """A million changes are kept: the collector would look at all of them again and again."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("behaviour", "many_objects")
def test_live_equals_replay(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    directory = tmp_path / "project"
    shutil.copytree(taobao.PROJECT, directory)
    taobao.write_customers(directory / "customers.csv")
    settings = directory / "opportune.yml"
    settings.write_text(settings.read_text().replace("name: taobao", f"name: {topic_prefix}"))
    raws = list(taobao.messages())
    topic, memberships = f"{topic_prefix}.events", f"{topic_prefix}.memberships"
    make_topics(kafka.bootstrap_servers, {topic: "CreateTime"}, PARTITIONS, retention_ms="-1")
    produce(kafka.bootstrap_servers, topic, raws)
    with running_job(directory, kafka.bootstrap_servers) as job:
        job.start()
        job.wait_running(60)
        began = wall_clock_ms()
        # Meanwhile; and until now, when the last window has long ended.
        project = load_project(directory)
        expected = replay(project, raws, tables=warehouse(project, directory), until_ms=began)
        until(
            lambda: sum(ends_of(kafka.bootstrap_servers, memberships).values()) >= len(expected.changes),
            "there are as many changes as in the replay",
            200,
        )
        until(lambda: job.log_time_ms() > began, "time has come to the present")
        assert job.terminate()[0] == 0
        refused = job.status()["rejected"]
    written = [
        msgspec.json.decode(message.value() or b"", type=MembershipChange)
        for message in read_all(kafka.bootstrap_servers, memberships)
    ]
    assert check_written(written) == 0, "nothing is repeated"
    changes = sorted(told(written))
    differing = next((pair for pair in zip(changes, told(expected.changes), strict=False) if pair[0] != pair[1]), None)
    assert differing is None, f"the live job's, the replay's: {differing}"
    assert len(changes) == len(expected.changes)
    assert refused == expected.refused
    causes = Counter(change.cause for change in changes)
    report(f"{len(raws)} records, {len(changes)} changes {dict(causes)}")
