from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, ResourceType

from flows.demo.broker import EmbeddedCluster
from flows.end_marks import EndMarks
from flows.kafka_config import admin_config
from flows.kafka_errors import connect
from flows.stop import Stop
from flows.topic_positions import check_positions
from flows.topic_watch import TopicWatch
from flows.topics import OVERHEAD_BYTES, prepare
from opportune.clock import wall_clock_ms
from opportune.errors import ConfigurationError, StateError, TransientError
from opportune.settings import Kafka, Settings, State, Topics
from tests.kafka.broker import Kafka as RunningKafka


def settings_of(address: str, prefix: str, **topics: object) -> Settings:
    names = {kind: f"{prefix}.{kind}" for kind in ("memberships", "dead_letters", "mailbox", "control")}
    return Settings(
        kafka=Kafka(bootstrap_servers=address),
        topics=Topics(events=(f"{prefix}.events",), **{**names, "partitions": 3, **topics}),  # type: ignore[arg-type]  # by name
        state=State(shards=4),
    )


@pytest.fixture
def settings(kafka: RunningKafka, topic_prefix: str) -> Settings:
    return settings_of(kafka.bootstrap_servers, topic_prefix)


@pytest.fixture
def admin(settings: Settings) -> AdminClient:
    return connect(settings.kafka, Stop(), patience_ms=30_000)


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    pause, deadline = Stop(), wall_clock_ms() + seconds * 1_000
    while not condition():
        assert wall_clock_ms() < deadline, "it did not come about"
        pause.wait(0.05)


def make(admin: AdminClient, name: str, partitions: int, **config: str) -> None:
    new = NewTopic(name, partitions, 1, config={key.replace("_", "."): value for key, value in config.items()})
    admin.create_topics([new])[name].result()
    until(lambda: name in admin.list_topics(timeout=5).topics)


def delete(admin: AdminClient, name: str) -> None:
    admin.delete_topics([name])[name].result()
    until(lambda: name not in admin.list_topics(timeout=5).topics)


def config_of(admin: AdminClient, name: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, name)
    return {key: entry.value for key, entry in admin.describe_configs([resource])[resource].result().items()}


def produce(settings: Settings, topic: str, partition: int, count: int) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    for _ in range(count):
        producer.produce(topic, b"{}", partition=partition)
    assert producer.flush(20) == 0


def test_what_is_missing_is_made_as_it_must_be(settings: Settings, admin: AdminClient) -> None:
    found = prepare(settings, admin, Stop())
    events, names = found.events[0], settings.topics
    assert [topic.partitions for topic in (events, found.memberships, found.mailbox, found.control)] == [3, 3, 4, 1]
    assert (events.log_append_time, events.starts, events.ends) == (True, (0, 0, 0), (0, 0, 0))
    assert found.batch_bytes == 1_000_000
    ids = {topic.topic_id for topic in (*found.read(), found.memberships, found.dead_letters)}
    assert {len(each) for each in ids} == {16}
    assert len(ids) == 5
    assert config_of(admin, names.memberships)["cleanup.policy"] == "compact"
    assert config_of(admin, names.dead_letters)["retention.ms"] == str(30 * 86_400_000)
    for name in (names.mailbox, names.control):
        kept = config_of(admin, name)
        assert (kept["cleanup.policy"], kept["retention.ms"], kept["retention.bytes"]) == ("delete", "-1", "-1")
        assert int(kept["max.message.bytes"]) == settings.event_bytes_max + OVERHEAD_BYTES


def test_what_is_there_is_taken_with_its_ends(settings: Settings, admin: AdminClient) -> None:
    first = prepare(settings, admin, Stop())
    produce(settings, settings.topics.events[0], 1, 5)
    again = prepare(settings, admin, Stop())
    assert again.events[0].ends == (0, 5, 0)
    assert [topic.topic_id for topic in again.read()] == [topic.topic_id for topic in first.read()]
    assert check_positions({(first.events[0].topic_id, 1): 5}, again) == []


def test_a_topic_made_anew_is_refused(settings: Settings, admin: AdminClient) -> None:
    first = prepare(settings, admin, Stop())
    watch = TopicWatch(admin, first)
    assert watch.look() is None
    delete(admin, settings.topics.events[0])
    assert watch.look() is None
    again = prepare(settings, admin, Stop())
    assert "deleted and made anew" in (watch.look() or "")
    topic_id = first.events[0].topic_id
    with pytest.raises(StateError, match=f"{settings.topics.events[0]}.*deleted and made anew"):
        check_positions({(topic_id, 0): 3}, again, names={topic_id: settings.topics.events[0]})


def test_new_partitions_are_found(settings: Settings, admin: AdminClient) -> None:
    watch = TopicWatch(admin, prepare(settings, admin, Stop()), interval_ms=50)
    watch.start()
    assert watch.added() is None
    name = settings.topics.events[0]
    admin.create_partitions([NewPartitions(name, 5)])[name].result()
    until(lambda: watch.added() is not None)
    watch.stop()
    assert watch.added() == f"the topic {name} has 5 partitions instead of 3"
    assert prepare(settings, admin, Stop()).events[0].partitions == 5


def test_nothing_is_made_where_that_is_not_wanted(kafka: RunningKafka, admin: AdminClient, topic_prefix: str) -> None:
    settings = settings_of(kafka.bootstrap_servers, topic_prefix, create=False)
    with pytest.raises(ConfigurationError, match=r"topics\.create") as refused:
        prepare(settings, admin, Stop())
    assert f"{topic_prefix}.mailbox" in str(refused.value)


def test_what_the_broker_does_not_let_us_make(kafka: RunningKafka, admin: AdminClient, topic_prefix: str) -> None:
    settings = settings_of(kafka.bootstrap_servers, topic_prefix, replication=99)
    with pytest.raises(ConfigurationError, match=r"topics\.replication"):
        prepare(settings, admin, Stop())


@pytest.mark.parametrize(
    ("kind", "partitions", "config", "complaint"),
    [
        ("mailbox", 3, {"retention_ms": "-1"}, r"3 partitions and must have 4.*state\.shards"),
        ("control", 2, {"retention_ms": "-1"}, "2 partitions and must have 1"),
        ("mailbox", 4, {"retention_ms": "1000"}, r"may lose records.*retention\.ms=1000"),
        ("mailbox", 4, {"retention_ms": "-1", "cleanup_policy": "compact"}, "may lose records"),
        ("mailbox", 4, {"retention_ms": "-1", "max_message_bytes": "5000"}, r"max\.message\.bytes"),
    ],
)
def test_a_topic_that_cannot_serve_is_refused(
    settings: Settings, admin: AdminClient, kind: str, partitions: int, config: dict[str, str], complaint: str
) -> None:
    make(admin, getattr(settings.topics, kind), partitions, **config)
    with pytest.raises(ConfigurationError, match=complaint):
        prepare(settings, admin, Stop())


def test_a_topic_that_serves_badly_is_warned_of(
    settings: Settings, admin: AdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    make(admin, settings.topics.memberships, 2)
    make(admin, settings.topics.dead_letters, 1, max_message_bytes="50000")
    with caplog.at_level(logging.WARNING):
        found = prepare(settings, admin, Stop())
    assert found.memberships.partitions == 2
    assert found.batch_bytes == 50_000
    assert [
        word for word in ("not compacted", "will be cut") if not any(word in line for line in caplog.messages)
    ] == []


def test_ends_are_confirmed_once_they_are_read(settings: Settings, admin: AdminClient) -> None:
    found = prepare(settings, admin, Stop())
    name = found.events[0].name
    marks = EndMarks(admin_config(settings.kafka), [(name, number) for number in range(3)], 20, wall_clock_ms)
    marks.start()
    try:
        until(lambda: None not in [marks.confirmed(number, 0) for number in range(3)])
        before = wall_clock_ms()
        produce(settings, name, 1, 7)
        after = wall_clock_ms()
        until(lambda: (marks.confirmed(1, 7) or 0) > after)
        unread = marks.confirmed(1, 6)
        assert unread is not None
        assert unread <= after
        assert marks.end(1) == 7
        until(lambda: (marks.confirmed(0, 0) or 0) > before)
    finally:
        marks.stop()


@pytest.fixture
def embedded(topic_prefix: str) -> Iterator[Settings]:
    kinds = {"events": 3, "memberships": 3, "dead_letters": 1, "mailbox": 4, "control": 1}
    cluster = EmbeddedCluster({f"{topic_prefix}.{kind}": partitions for kind, partitions in kinds.items()})
    yield settings_of(cluster.bootstrap_servers, topic_prefix)
    cluster.close()


def test_the_embedded_broker_is_taken_as_it_is(embedded: Settings) -> None:
    admin = connect(embedded.kafka, Stop(), patience_ms=10_000)
    found = prepare(embedded, admin, Stop(), embedded=True)
    assert (found.events[0].partitions, found.mailbox.partitions, found.events[0].ends) == (3, 4, (0, 0, 0))
    assert prepare(embedded, admin, Stop(), embedded=True).events[0].topic_id == found.events[0].topic_id
    marks = EndMarks(admin_config(embedded.kafka), [(found.events[0].name, 0)], 20, wall_clock_ms)
    marks.start()
    try:
        until(lambda: marks.confirmed(0, 0) is not None)
    finally:
        marks.stop()


def test_a_broker_that_is_away_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.topics.REQUEST_S", 0.5)
    gone = settings_of("127.0.0.1:1", "gone")
    with pytest.raises(TransientError, match=r"kafka\.bootstrap_servers"):
        prepare(gone, AdminClient({**admin_config(gone.kafka), "socket.timeout.ms": 500}), Stop())
