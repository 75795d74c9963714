"""Topics that change under the job, and brokers that are not there: refused or taken in, never silence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from tests.crash.judgement import ReadingAlong
from tests.crash.running import until
from tests.crash.scene import make_topics
from tests.integration.small_job import SmallJob, small_job
from tests.kafka.broker import Kafka


@pytest.fixture
def small(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> Iterator[SmallJob]:
    """A job of two events topics, ``NAME.events`` and ``NAME.more``, which looks at them every second."""
    topics = (f"{topic_prefix}.events", f"{topic_prefix}.more")
    directory = tmp_path / "project"
    with small_job(directory, kafka.bootstrap_servers, topic_prefix, topics=topics) as made:
        settings = directory / "opportune.yml"
        settings.write_text(settings.read_text().replace("topics: {", "topics: {watch: 1 second, "))
        yield made


def begun(small: SmallJob) -> ReadingAlong:
    """Starts the job, and has one event of each topic counted."""
    small.job.start()
    small.job.wait_running()
    reading = small.reading()
    small.count("ann")
    small.count("bob", topic=f"{small.name}.more")
    small.wait_counted(reading, "ann", 1)
    small.wait_counted(reading, "bob", 1)
    return reading


def delete_topic(admin: AdminClient, topic: str) -> None:
    admin.delete_topics([topic])[topic].result()
    until(lambda: topic not in admin.list_topics(timeout=5).topics, "the topic is gone")


@pytest.mark.timeout(150)
def test_lost_records_are_refused(small: SmallJob) -> None:
    """A topic that was made anew while the job was down, and another whose retention has passed what was applied."""
    reading = begun(small)
    assert small.job.terminate()[0] == 0
    more = f"{small.name}.more"
    small.count("bob", topic=more)
    small.count("bob", topic=more)
    admin = AdminClient({"bootstrap.servers": small.bootstrap_servers})
    delete_topic(admin, small.events)
    make_topics(small.bootstrap_servers, {small.events: "LogAppendTime"}, 3)
    for future in admin.delete_records([TopicPartition(more, 0, 2)]).values():
        future.result()
    small.job.start()
    assert small.job.ended() == 65
    said = small.job.said()
    assert "deleted and made anew" in said
    assert f"{more}[0]: 1 records that were not applied yet are gone" in said
    assert "--accept-loss" in said
    small.count("ann")
    small.job.start(arguments=("--accept-loss",))
    small.job.wait_running()
    small.wait_counted(reading, "bob", 2)
    small.wait_counted(reading, "ann", 2)
    assert "accepted: " in small.job.said()
    assert small.job.terminate()[0] == 0
    # What was accepted once is no news at the next start.
    small.job.start()
    small.job.wait_running()
    small.count("ann")
    small.wait_counted(reading, "ann", 3)
    assert small.job.terminate()[0] == 0
    reading.stop_at_end()


@pytest.mark.timeout(150)
def test_topics_that_change_while_the_job_runs(small: SmallJob) -> None:
    """Partitions that are added are taken in by a planned restart; a topic that is made anew is refused by one."""
    reading = begun(small)
    admin = AdminClient({"bootstrap.servers": small.bootstrap_servers})
    for future in admin.create_partitions([NewPartitions(small.events, 5)]).values():
        future.result()
    until(lambda: len(admin.list_topics(timeout=5).topics[small.events].partitions) == 5, "there are five")
    small.reconnect()
    small.count("cid", 4)
    small.wait_counted(reading, "cid", 1)
    assert "has 5 partitions instead of 3" in small.job.said()
    small.count("ann")
    small.wait_counted(reading, "ann", 2)
    until(small.is_read, "time goes on")
    assert small.job.status()["left_out"] == 0
    delete_topic(admin, f"{small.name}.more")
    make_topics(small.bootstrap_servers, {f"{small.name}.more": "LogAppendTime"}, 3)
    # Whoever notices first, the consumer or the watch, ends the job; the start knows what happened.
    assert small.job.ended() == 65
    assert "the worker ended" not in small.job.said(), "restarts were planned"
    small.job.start()
    assert small.job.ended() == 65
    assert "deleted and made anew" in small.job.said()
    reading.stop_at_end()


@pytest.mark.timeout(60)
def test_missing_topics_that_may_not_be_made(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    with small_job(tmp_path / "project", kafka.bootstrap_servers, topic_prefix) as small:
        settings = small.job.project / "opportune.yml"
        settings.write_text(settings.read_text().replace("topics: {", "topics: {create: false, "))
        small.job.start()
        assert small.job.ended() == 78
        said = small.job.said()
    assert f"missing topics: {topic_prefix}.events" in said
    assert "topics.create" in said


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("address", "says"), [("127.0.0.1:1", "refused"), ("no-such-host.invalid:9092", "unknown host")]
)
def test_broker_that_is_not_there(tmp_path: Path, address: str, says: str) -> None:
    """The job waits, says for what, and ends at once when asked to."""
    with small_job(tmp_path / "project", address, "t-nobody") as small:
        small.job.start()
        small.job.wait_said("Waiting for it.")
        assert says in small.job.said()
        assert "kafka.bootstrap_servers" in small.job.said()
        code, seconds = small.job.terminate()
    assert code == 0
    assert seconds < 10


@pytest.mark.timeout(150)
def test_a_memberships_topic_that_is_lost_is_no_quiet_loss(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    """Who is in was told there and is told nowhere else: the job does not go on as if nothing had happened."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    with small_job(tmp_path / "project", kafka.bootstrap_servers, topic_prefix) as small:
        settings = small.job.project / "opportune.yml"
        settings.write_text(settings.read_text().replace("topics: {", "topics: {watch: 1 second, "))
        small.job.start()
        small.job.wait_running()
        reading = small.reading()
        small.count("ann")
        small.wait_counted(reading, "ann", 1)
        reading.stop_at_end()
        delete_topic(admin, f"{small.name}.memberships")
        small.job.wait_said(f"the topic {small.name}.memberships is not there any more")
        assert small.job.terminate()[0] == 0
        for _ in range(2):
            small.job.start()
            assert small.job.ended() == 65
            assert "it lacks what was told before" in small.job.said()
        small.job.start(arguments=("--accept-loss",))
        small.job.wait_running()
        assert "accepted: " in small.job.said()
        small.count("bea")
        anew = small.reading()
        small.wait_counted(anew, "bea", 1)
        assert small.job.terminate()[0] == 0
        small.job.start()
        small.job.wait_running()
        small.count("bea")
        small.wait_counted(anew, "bea", 2)
        anew.stop_at_end()
        assert small.job.terminate()[0] == 0
