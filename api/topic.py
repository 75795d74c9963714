"""What a topic of Kafka is: its id, and how many partitions it has.

Not here: reading it (api.changes.source), writing into it (api.collector.producer).
"""

from __future__ import annotations

from typing import Any

from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

ASK_S = 10.0


def described(config: dict[str, Any], topic: str) -> tuple[bytes, int]:
    """The id of a topic, 16 bytes, new with every topic that is made under a name; and its partitions.

    Args:
        config: properties of librdkafka for the project's administration.
        topic: its name.

    Raises:
        KafkaException: it is not there, or Kafka cannot be asked.
    """
    # Without a name of its own the client would be gone before the answer.
    client = AdminClient(config)
    found = client.describe_topics(TopicCollection([topic]), request_timeout=ASK_S)[topic].result()
    halves = (found.topic_id.get_most_significant_bits(), found.topic_id.get_least_significant_bits())
    return b"".join((half & (1 << 64) - 1).to_bytes(8, "big") for half in halves), len(found.partitions)
