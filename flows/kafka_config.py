"""Configurations of the Kafka clients: what is fixed, what is measured, what the project may add.

Owns: every librdkafka property that Opportune sets, with its reason. Invariant: ``kafka.properties`` of opportune.yml may
add to them (security, timeouts) and never undo one that exactness rests on.
Not here: reaching the broker and what its errors mean (flows.kafka_errors), topics (flows.topics).
Property names: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from opportune.errors import ConfigurationError
from opportune.settings import Kafka

BOOTSTRAP_VARIABLE = "OPPORTUNE_KAFKA_BOOTSTRAP_SERVERS"
"""Environment variable that replaces ``kafka.bootstrap_servers``."""

ClientConfig: TypeAlias = dict[str, Any]
"""Keyword properties as confluent-kafka takes them."""

RESERVED = frozenset({
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "isolation.level",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "transactional.id",
    "delivery.report.only.error",
    "enable.gapless.guarantee",
})  # fmt: skip
"""Properties on which exactness or delivery rests; a project may not set them."""

_SHARED: ClientConfig = {
    "client.id": "opportune",
    # Pushing client metrics to the broker costs and serves nobody here.
    "enable.metrics.push": False,
    # Idle connections that a broker closes are normal; what matters comes through the error callback.
    "log.connection.close": False,
    "log_level": 2,
    "reconnect.backoff.max.ms": 2_000,
}
_CONSUMER: ClientConfig = {
    # Partitions are assigned, never subscribed; the client insists on a name.
    "group.id": "opportune",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # A position that the broker no longer has is never silently replaced: it is an error.
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    # Its default of 1000 makes consume() wait a second whenever the queue was full.
    "fetch.queue.backoff.ms": 2,
    "fetch.wait.max.ms": 10,
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 32_768,
}
_PRODUCER: ClientConfig = {
    "enable.idempotence": True,
    "acks": "all",
    "compression.type": "lz4",
    "linger.ms": 2,
    # A broker that is away is waited for: what is in the queue is in the outbox too, and must not be given up.
    "message.timeout.ms": 0,
    "queue.buffering.max.messages": 500_000,
    "queue.buffering.max.kbytes": 131_072,
    # What a record may weigh is the topic's decision, not the client's.
    "message.max.bytes": 64 * 1_048_576,
    "delivery.report.only.error": True,
}


def with_environment(kafka: Kafka, environment: Mapping[str, str]) -> Kafka:
    """The settings with what the environment replaces.

    Args:
        kafka: ``kafka`` of opportune.yml.
        environment: usually ``os.environ``.
    """
    servers = environment.get(BOOTSTRAP_VARIABLE, "").strip()
    return msgspec.structs.replace(kafka, bootstrap_servers=servers) if servers else kafka


def admin_config(kafka: Kafka) -> ClientConfig:
    """Properties of an administrative client. Raises ``ConfigurationError`` for a reserved property."""
    return _merged(kafka, {})


def consumer_config(kafka: Kafka) -> ClientConfig:
    """Properties of a consumer with assigned partitions. Raises ``ConfigurationError`` for a reserved property."""
    return _merged(kafka, _CONSUMER)


def producer_config(kafka: Kafka, batch_bytes: int = 1_000_000) -> ClientConfig:
    """Properties of the process's producer. Raises ``ConfigurationError`` for a reserved property.

    Args:
        kafka: the broker.
        batch_bytes: the largest batch that every topic accepts (``TopicSet.batch_bytes``): the broker refuses a batch as
            a whole, so a batch over a topic's limit would take innocent records with it.
    """
    return _merged(kafka, {**_PRODUCER, "batch.size": min(batch_bytes, 1_000_000)})


def _merged(kafka: Kafka, ours: ClientConfig) -> ClientConfig:
    reserved = sorted(RESERVED.intersection(kafka.properties))
    if reserved:
        hint = "use kafka.bootstrap_servers" if "bootstrap.servers" in reserved else "remove it"
        raise ConfigurationError(
            f"kafka.properties of opportune.yml sets {', '.join(reserved)}, which Opportune sets itself: {hint}."
        )
    if not kafka.bootstrap_servers.strip():
        raise ConfigurationError(
            f"kafka.bootstrap_servers of opportune.yml is empty: give it HOST:PORT, or set {BOOTSTRAP_VARIABLE}."
        )
    return {**_SHARED, **ours, **kafka.properties, "bootstrap.servers": kafka.bootstrap_servers}
