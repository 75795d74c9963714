from __future__ import annotations

import logging
import socket

import pytest
from confluent_kafka import KafkaError, KafkaException

from flows.kafka_errors import connect, translated
from flows.stop import Stop
from opportune.errors import ConfigurationError, TransientError
from opportune.settings import Kafka

KAFKA = Kafka(bootstrap_servers="broker:9092")


@pytest.mark.parametrize(
    ("code", "text", "kind", "setting"),
    [
        (KafkaError._AUTHENTICATION, "bad password", ConfigurationError, "sasl.password"),
        (KafkaError.SASL_AUTHENTICATION_FAILED, "bad password", ConfigurationError, "sasl.username"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "topic x", ConfigurationError, "sasl.username"),
        (KafkaError._SSL, "certificate verify failed", ConfigurationError, "ssl.ca.location"),
        (KafkaError._TRANSPORT, "SSL handshake failed: closed by peer", ConfigurationError, "ssl.ca.location"),
        (KafkaError._INVALID_ARG, "ssl.ca.location failed: no file", ConfigurationError, "ssl.ca.location"),
        (KafkaError._INVALID_ARG, 'No such configuration property: "x"', ConfigurationError, "kafka.properties"),
        (KafkaError._RESOLVE, "Name or service not known", TransientError, "kafka.bootstrap_servers"),
        (KafkaError._TRANSPORT, "Connection refused", TransientError, "kafka.bootstrap_servers"),
        (KafkaError._TIMED_OUT, "Timed out", TransientError, "security.protocol"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "unknown", TransientError, "topics"),
    ],
)
def test_every_trouble_names_its_setting(code: int, text: str, kind: type[Exception], setting: str) -> None:
    error = translated(KafkaException(KafkaError(code, text)), KAFKA, "do it")
    assert type(error) is kind
    assert setting in str(error)
    assert text in str(error)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        assert isinstance(port, int)
        return port


def test_a_broker_that_is_not_up_is_waited_for_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    kafka, stop = Kafka(bootstrap_servers=f"127.0.0.1:{free_port()}"), Stop()

    class Enough(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            del record
            stop.set()

    enough = Enough()
    logging.getLogger("flows.kafka_errors").addHandler(enough)
    try:
        with caplog.at_level(logging.WARNING), pytest.raises(TransientError, match=r"kafka\.bootstrap_servers"):
            connect(kafka, stop)
    finally:
        logging.getLogger("flows.kafka_errors").removeHandler(enough)
    assert len([line for line in caplog.messages if "Waiting for it" in line]) == 1


def test_who_waits_for_a_moment_only_is_told_once_by_the_error(caplog: pytest.LogCaptureFixture) -> None:
    kafka = Kafka(bootstrap_servers=f"127.0.0.1:{free_port()}")
    with caplog.at_level(logging.WARNING), pytest.raises(TransientError, match=r"kafka\.bootstrap_servers"):
        connect(kafka, Stop(), patience_ms=1_500)
    assert not [line for line in caplog.messages if "Waiting for it" in line]


def test_an_unknown_host_says_so() -> None:
    with pytest.raises(TransientError, match="unknown host"):
        connect(Kafka(bootstrap_servers="no-such-host.invalid:9092"), Stop(), patience_ms=0)


def test_a_stop_ends_the_wait() -> None:
    stop = Stop()
    stop.set()
    with pytest.raises(TransientError):
        connect(Kafka(bootstrap_servers=f"127.0.0.1:{free_port()}"), stop)


def test_a_wrong_property_ends_at_once() -> None:
    with pytest.raises(ConfigurationError, match="nonsense"):
        connect(Kafka(properties={"nonsense.property": "1"}), Stop())
