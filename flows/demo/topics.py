"""The topics of a demo: their names, and their end on a broker that is not ours.

Owns: the deletion of what a demo made. Invariant: only topics with the prefix of this demo are deleted.
Not here: which topics a job has, how it makes them, and the prefix (flows.topics).
"""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from flows.kafka_config import admin_config
from flows.kafka_errors import kafka_error
from flows.topics import wanted
from opportune.settings import Settings

DELETE_SECONDS = 3.0


def delete(settings: Settings, prefix: str) -> list[str]:
    """Delete the topics of a demo from a real broker.

    Args:
        settings: the demo's, whose topics have the prefix.
        prefix: only names that begin with it are touched.

    Returns:
        The names that could not be deleted, which the person who ran the demo has to delete.
    """
    names = [each.name for each in wanted(settings)]
    assert prefix, "a demo's topics have a prefix"
    assert all(name.startswith(prefix) for name in names), "a demo deletes nothing but its own"
    left = []
    admin = AdminClient(admin_config(settings.kafka))
    answers = admin.delete_topics(names, operation_timeout=DELETE_SECONDS, request_timeout=DELETE_SECONDS)
    for name, answer in answers.items():
        try:
            answer.result(DELETE_SECONDS)
        except KafkaException as error:
            if kafka_error(error).code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                left.append(name)
        except TimeoutError:
            left.append(name)
    return left
