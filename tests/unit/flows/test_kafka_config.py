from __future__ import annotations

import pytest

from flows.kafka_config import (
    BOOTSTRAP_VARIABLE,
    RESERVED,
    admin_config,
    consumer_config,
    producer_config,
    with_environment,
)
from opportune.errors import ConfigurationError
from opportune.settings import Kafka


def test_the_environment_replaces_the_address_and_nothing_else() -> None:
    kafka = Kafka(bootstrap_servers="a:1", properties={"security.protocol": "SSL"})
    replaced = with_environment(kafka, {BOOTSTRAP_VARIABLE: " b:2 "})
    assert replaced == Kafka(bootstrap_servers="b:2", properties={"security.protocol": "SSL"})
    assert with_environment(kafka, {}) == kafka
    assert with_environment(kafka, {BOOTSTRAP_VARIABLE: ""}) == kafka


def test_properties_of_the_project_reach_every_client() -> None:
    kafka = Kafka(bootstrap_servers="a:1", properties={"security.protocol": "SASL_SSL", "fetch.wait.max.ms": "50"})
    for config in (admin_config(kafka), consumer_config(kafka), producer_config(kafka)):
        assert config["security.protocol"] == "SASL_SSL"
        assert config["bootstrap.servers"] == "a:1"
    assert consumer_config(kafka)["fetch.wait.max.ms"] == "50"


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_what_exactness_rests_on_cannot_be_set(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"kafka\.properties.*" + name.replace(".", r"\.")):
        consumer_config(Kafka(properties={name: "1"}))


def test_an_empty_address_names_the_setting() -> None:
    with pytest.raises(ConfigurationError, match=r"kafka\.bootstrap_servers"):
        admin_config(Kafka(bootstrap_servers=" "))


def test_what_is_fixed_for_exactness() -> None:
    consumer, producer = consumer_config(Kafka()), producer_config(Kafka())
    assert (consumer["enable.auto.commit"], consumer["auto.offset.reset"]) == (False, "error")
    assert (producer["acks"], producer["enable.idempotence"], producer["message.timeout.ms"]) == ("all", True, 0)


def test_a_batch_is_no_larger_than_the_smallest_topic_takes() -> None:
    assert producer_config(Kafka(), 70_000)["batch.size"] == 70_000
    assert producer_config(Kafka(), 9_000_000)["batch.size"] == 1_000_000
