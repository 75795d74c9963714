"""Reaching the broker, and what its errors mean to whoever runs Opportune.

Owns: the translation of client and broker errors to a sentence that names the setting to look at, and to the class that
says whether waiting can help (TransientError) or not (ConfigurationError).
Not here: errors of single records that were produced (flows.delivery).
"""

from __future__ import annotations

import logging

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from flows.kafka_config import ClientConfig, admin_config
from flows.stop import Stop
from opportune.clock import monotonic_ms
from opportune.errors import ConfigurationError, OpportuneError, TransientError
from opportune.settings import Kafka

log = logging.getLogger(__name__)

REPEAT_MS = 5_000
"""How often a wait is told again."""

_SECURITY = "kafka.properties (security.protocol, sasl.mechanism, sasl.username, sasl.password)"
_TLS = "kafka.properties (security.protocol, ssl.ca.location, ssl.certificate.location, ssl.key.location)"
_AUTHORISATION = frozenset({
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
})  # fmt: skip
_AUTHENTICATION = frozenset({
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.ILLEGAL_SASL_STATE,
})  # fmt: skip


def kafka_error(error: KafkaException | KafkaError) -> KafkaError:
    """The KafkaError inside whatever the client raised or handed over."""
    found = error.args[0] if isinstance(error, KafkaException) else error
    assert isinstance(found, KafkaError), f"a Kafka client raised something else: {error!r}"
    return found


def translated(error: KafkaException | KafkaError, kafka: Kafka, doing: str) -> OpportuneError:
    """What a client's error means.

    Args:
        error: as raised by a client, or as given to its error callback.
        kafka: the broker, for the message.
        doing: what was tried, for example ``list the topics``.

    Returns:
        ``ConfigurationError`` where waiting cannot help, else ``TransientError``; to be raised by the caller.
    """
    found = kafka_error(error)
    code, text = found.code(), found.str()
    where = f"cannot {doing} at {kafka.bootstrap_servers}"
    if code in _AUTHENTICATION:
        return ConfigurationError(f"{where}: the broker refused the authentication: {text}. See {_SECURITY}.")
    if code in _AUTHORISATION:
        return ConfigurationError(
            f"{where}: not authorised: {text}. Give the account of {_SECURITY} the access, or choose another."
        )
    if code == KafkaError._SSL or "SSL handshake" in text or "ssl." in text:
        return ConfigurationError(f"{where}: TLS trouble: {text}. See {_TLS}, and the port in kafka.bootstrap_servers.")
    if code in (KafkaError._INVALID_ARG, KafkaError._UNSUPPORTED_FEATURE):
        return ConfigurationError(f"kafka.properties of opportune.yml: the Kafka client refuses a property: {text}.")
    if code == KafkaError._RESOLVE:
        return TransientError(f"{where}: unknown host: {text}. See kafka.bootstrap_servers.")
    if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION):
        return TransientError(f"{where}: a topic or partition is missing: {text}. See topics in opportune.yml.")
    return TransientError(
        f"{where}: {text}. See kafka.bootstrap_servers; where the broker is up, also kafka.properties.security.protocol."
    )


def connect(kafka: Kafka, stop: Stop, patience_ms: int | None = None) -> AdminClient:
    """A client of a broker that has answered.

    Waits for a broker that is not up yet, telling so every 5 seconds where the patience is longer; ends at once where waiting
    cannot help.

    Args:
        kafka: the broker.
        stop: set it to give up waiting.
        patience_ms: how long to wait; None waits for ever.

    Raises:
        ConfigurationError: authentication, TLS or a property is wrong.
        TransientError: the patience is over, or ``stop`` was set.
    """
    heard: list[KafkaError] = []
    started = monotonic_ms()
    told: int | None = None
    client = _client({**admin_config(kafka), "error_cb": heard.append}, kafka)
    while True:
        try:
            client.list_topics(timeout=1.0)
            return client
        except KafkaException as error:
            client.poll(0.1)
            trouble = _clearest(error, heard, kafka)
        heard.clear()
        now = monotonic_ms()
        if isinstance(trouble, ConfigurationError):
            raise trouble
        if stop.is_set() or (patience_ms is not None and now - started >= patience_ms):
            raise trouble
        # Who waits for a moment only is told by the error that ends it.
        waits = patience_ms is None or patience_ms > REPEAT_MS
        if waits and (told is None or now - told >= REPEAT_MS):
            told = now
            log.warning("%s Waiting for it.", trouble)
        stop.wait(0.2)


def _client(config: ClientConfig, kafka: Kafka) -> AdminClient:
    try:
        return AdminClient(config)
    except KafkaException as error:
        raise translated(error, kafka, "set up the Kafka client") from error


def _clearest(error: KafkaException, heard: list[KafkaError], kafka: Kafka) -> OpportuneError:
    """The callback's errors say why; the call's own error only says that. A certain cause goes before a passing one."""
    doing = "reach the Kafka broker"
    causes = [e for e in heard if e.code() != KafkaError._ALL_BROKERS_DOWN]
    told = [translated(cause, kafka, doing) for cause in causes] or [translated(error, kafka, doing)]
    return next((each for each in told if isinstance(each, ConfigurationError)), told[-1])
