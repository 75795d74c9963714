from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource, run_main
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from flows.delivery import Delivery
from flows.kafka_config import producer_config
from flows.sinks import MembershipSink
from opportune.clock import wall_clock_ms
from opportune.errors import ConfigurationError, TransientError
from opportune.settings import Kafka
from state.outbox import OutboxMessage
from tests.kafka.broker import Broker
from tests.kafka.broker import Kafka as RunningKafka


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    pause, deadline = Event(), wall_clock_ms() + seconds * 1_000
    while not condition():
        assert wall_clock_ms() < deadline, "it did not come about"
        pause.wait(0.05)


@pytest.fixture
def topics(kafka: RunningKafka, topic_prefix: str) -> tuple[str, str]:
    out, dead = f"{topic_prefix}.out", f"{topic_prefix}.dead"
    make(kafka.bootstrap_servers, {out: "20000", dead: "200000"})
    return out, dead


def make(address: str, topics: dict[str, str]) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    new = [NewTopic(name, 2, 1, config={"max.message.bytes": limit}) for name, limit in topics.items()]
    for future in admin.create_topics(new).values():
        future.result()
    until(lambda: set(topics) <= set(admin.list_topics(timeout=5).topics))


def delivery_to(
    address: str,
    dead: str,
    feed: Callable[[], None] = lambda: None,
    stopping: Callable[[], bool] = lambda: False,
    properties: dict[str, Any] | None = None,
) -> Delivery:
    kafka = Kafka(bootstrap_servers=address)
    return Delivery({**producer_config(kafka, 20_000), **(properties or {})}, kafka, dead, feed, stopping)


def message(topic: str, value: bytes, partition: int = 0) -> OutboxMessage:
    return OutboxMessage(topic, partition, b"key", value, [("h", b"1")])


def deliver(delivery: Delivery, messages: list[OutboxMessage]) -> None:
    delivery.produce(messages)
    delivery.flush()


def records(address: str, topic: str) -> list[Message]:
    """Everything that is in both partitions of a topic."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "t", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(2)])
    found: list[Message] = []
    ends = 0
    while ends < 2:
        each = consumer.poll(10)
        assert each is not None, "the broker does not answer"
        if each.error() is None:
            found.append(each)
        else:
            ends += 1
    consumer.close()
    return found


def test_what_is_flushed_is_in_kafka_in_order(kafka: RunningKafka, topics: tuple[str, str]) -> None:
    out, dead = topics
    delivery = delivery_to(kafka.bootstrap_servers, dead)
    delivery.produce([message(out, b"%d" % number, number % 2) for number in range(2_000)])
    delivery.flush()
    assert (delivery.produced, delivery.pending()) == (2_000, 0)
    found = records(kafka.bootstrap_servers, out)
    for partition in range(2):
        values = [int(each.value() or b"") for each in found if each.partition() == partition]
        assert values == list(range(partition, 2_000, 2))
    assert found[0].headers() == [("h", b"1")]


@pytest.mark.parametrize("client_limit", [{}, {"message.max.bytes": 30_000}], ids=["broker", "client"])
def test_what_is_refused_for_good_becomes_a_dead_letter(
    kafka: RunningKafka, topics: tuple[str, str], client_limit: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    out, dead = topics
    delivery = delivery_to(kafka.bootstrap_servers, dead, properties={**client_limit, "compression.type": "none"})
    large = b"x" * 25_000 if not client_limit else b"x" * 31_000
    delivery.produce([message(out, b"1"), message(out, large), message(out, b"2"), message(out, b"3", 1)])
    delivery.flush()
    assert (delivery.refused_by_broker, delivery.dropped) == ((1, 0) if not client_limit else (0, 1))
    assert sorted(each.value() or b"" for each in records(kafka.bootstrap_servers, out)) == [b"1", b"2", b"3"]
    letters = records(kafka.bootstrap_servers, dead)
    if not client_limit:
        headers = dict(letters[0].headers() or ())
        assert letters[0].value() == large
        assert letters[0].key() == b"key"
        assert headers["opportune-reason"] == b"refused_by_broker"
        assert headers["opportune-detail"] == b"MSG_SIZE_TOO_LARGE"
        assert (headers["opportune-topic"], headers["opportune-size"]) == (out.encode(), b"25000")
        assert headers["h"] == b"1"
    assert not any("xxx" in line for line in caplog.messages)
    delivery.produce([message(out, b"4")])
    delivery.flush()


def test_a_dead_letter_that_is_refused_is_cut_and_then_dropped(kafka: RunningKafka, topic_prefix: str) -> None:
    cuts, drops = f"{topic_prefix}.cuts", f"{topic_prefix}.drops"
    make(kafka.bootstrap_servers, {cuts: "100000", drops: "5000"})
    large = b"x" * 150_000
    for dead, told in ((cuts, (1, 0)), (drops, (0, 1))):
        delivery = delivery_to(kafka.bootstrap_servers, dead, properties={"compression.type": "none"})
        delivery.produce([message(dead, large)])
        delivery.flush()
        assert (delivery.refused_by_broker, delivery.dropped) == told
    (letter,) = records(kafka.bootstrap_servers, cuts)
    assert len(letter.value() or b"") == 65_536


def test_a_topic_that_is_gone_ends_the_process(kafka: RunningKafka, topic_prefix: str) -> None:
    delivery = delivery_to(kafka.bootstrap_servers, "dead", properties={"topic.metadata.propagation.max.ms": 100})
    with pytest.raises((TransientError, ConfigurationError), match=f"{topic_prefix}.gone"):
        deliver(delivery, [message(f"{topic_prefix}.gone", b"1")])


def test_a_broker_that_is_away_is_waited_for(
    own_kafka: Broker, topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    out, fed = f"{topic_prefix}.out", list[int]()
    make(own_kafka.bootstrap_servers, {out: "100000", f"{topic_prefix}.dead": "100000"})
    delivery = delivery_to(own_kafka.bootstrap_servers, f"{topic_prefix}.dead", lambda: fed.append(1))
    delivery.produce([message(out, b"1")])
    delivery.flush()
    own_kafka.stop()
    delivery.produce([message(out, b"2")])
    flushing = Thread(target=delivery.flush)
    with caplog.at_level(logging.WARNING):
        flushing.start()
        until(lambda: any("waiting for Kafka" in line for line in caplog.messages))
        assert flushing.is_alive()
        assert len(fed) > 10
        own_kafka.start()
        flushing.join(30)
    assert not flushing.is_alive()
    assert [each.value() for each in records(own_kafka.bootstrap_servers, out)] == [b"1", b"2"]


@pytest.mark.parametrize("messages", [1, 1_000], ids=["flush", "full queue"])
def test_a_stop_ends_the_wait(messages: int) -> None:
    stop = Event()
    delivery = delivery_to("127.0.0.1:1", "dead", stop.set, stop.is_set, {"queue.buffering.max.messages": 500})
    with pytest.raises(TransientError, match="not delivered"):
        deliver(delivery, [message("out", b"1")] * messages)


def test_the_sink_delivers_before_the_epoch_ends(kafka: RunningKafka, topics: tuple[str, str]) -> None:
    out, dead = topics
    points: list[str] = []
    delivery = delivery_to(kafka.bootstrap_servers, dead)
    items = [(f"s{shard:04d}.1", [message(out, b"%d" % number)]) for number in range(20) for shard in (0, 7, 23)]
    flow = Dataflow("sinks")
    stream = op.input("in", flow, TestingSource(items, batch_size=5))
    op.output("out", stream, MembershipSink(delivery, on_point=points.append))
    run_main(flow)
    assert len(records(kafka.bootstrap_servers, out)) == 60
    assert delivery.pending() == 0
    assert points[0] == "after_produce"
    assert set(points) == {"after_produce", "after_flush"}


def test_the_parts_never_change() -> None:
    sink = MembershipSink(delivery_to("127.0.0.1:1", "dead"))
    assert sink.list_parts() == [f"out{number:02d}" for number in range(12)]
    assert [sink.part_fn(f"s{shard:04d}.9") for shard in (0, 11, 12, 30)] == [0, 11, 0, 6]
