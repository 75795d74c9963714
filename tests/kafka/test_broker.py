"""The broker that the tests use: it keeps its port and data over a crash, and never outlives its owner."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.conftest import ROOT
from tests.kafka.broker import Broker


def _read(address: str, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": topic, "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        return [message.value() for message in consumer.consume(count, timeout=30)]
    finally:
        consumer.close()


@pytest.mark.parametrize("kill", [True, False])
def test_data_and_address_outlive_a_stop(own_kafka: Broker, topic_prefix: str, kill: bool) -> None:
    address = own_kafka.bootstrap_servers
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(topic_prefix, 1, 1)])[topic_prefix].result(30)
    producer = Producer({"bootstrap.servers": address, "acks": "all"})
    producer.produce(topic_prefix, b"before")
    assert producer.flush(30) == 0

    own_kafka.stop(kill=kill)
    assert not own_kafka.is_running()
    producer.produce(topic_prefix, b"meanwhile")
    own_kafka.start()

    assert producer.flush(30) == 0
    assert own_kafka.bootstrap_servers == address
    assert _read(address, topic_prefix, 2) == [b"before", b"meanwhile"]


@pytest.mark.parametrize("end", [subprocess.Popen.kill, subprocess.Popen.terminate], ids=["killed", "terminated"])
@pytest.mark.usefixtures("own_kafka")  # skips where there is no Kafka
def test_the_broker_ends_with_its_owner(end: Callable[[subprocess.Popen[bytes]], None]) -> None:
    command = [sys.executable, "-m", "tests.kafka.broker", "--heap-mb", "256"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as owner:
        assert owner.stdout is not None
        address = owner.stdout.readline().decode().strip()
        assert address.startswith("127.0.0.1:")
        family = psutil.Process(owner.pid).children(recursive=True)
        assert any("java" in process.name() for process in family)
        end(owner)
        owner.wait(30)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []


@pytest.mark.usefixtures("own_kafka")  # skips where there is no Kafka
def test_a_port_may_be_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.listen()
        with pytest.raises(RuntimeError, match=f"port {port} cannot be used"):
            Broker(port=port)
    command = [sys.executable, "-m", "tests.kafka.broker", "--heap-mb", "256", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline().decode().strip() == f"127.0.0.1:{port}"
        owner.terminate()
        owner.wait(30)
