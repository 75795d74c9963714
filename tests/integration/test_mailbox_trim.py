"""Mail that was read long ago is deleted from a real topic, and nothing else."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from flows.kafka_errors import connect
from flows.mailbox_trim import MailboxTrim
from flows.stop import Stop
from opportune.settings import Kafka
from tests.kafka.broker import Kafka as RunningKafka

KEEP_MS = 1_000


@pytest.fixture
def admin(kafka: RunningKafka) -> AdminClient:
    return connect(Kafka(bootstrap_servers=kafka.bootstrap_servers), Stop(), patience_ms=30_000)


def starts(address: str, topic: str) -> list[int]:
    """The first offset of both partitions."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": topic})
    try:
        return [consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[0] for partition in (0, 1)]
    finally:
        consumer.close()


def test_what_was_applied_long_ago_goes(kafka: RunningKafka, topic_prefix: str, admin: AdminClient) -> None:
    topic = f"{topic_prefix}.mailbox"
    admin.create_topics([NewTopic(topic, 2, 1, config={"retention.ms": "-1"})])[topic].result()
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for partition in (0, 1):
        for number in range(10):
            producer.produce(topic, b"%d" % number, partition=partition)
    producer.flush()
    now, read = 0, {0: 4, 1: 0}
    trim = MailboxTrim(admin, topic, lambda: read, KEEP_MS, lambda: now)
    trim.trim()
    assert starts(kafka.bootstrap_servers, topic) == [0, 0], "it was read only now"
    now, read = KEEP_MS, {0: 10, 1: 6}
    trim.trim()
    assert starts(kafka.bootstrap_servers, topic) == [4, 0], "what was read then, and not what has been since"
    now = 2 * KEEP_MS
    trim.trim()
    assert starts(kafka.bootstrap_servers, topic) == [10, 6]
    now = 3 * KEEP_MS
    assert trim.due() == {}, "all that was read is gone"
