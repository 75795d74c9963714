"""The service as a process of its own, on a real Kafka, for the tests of this folder.

Owns: a project with its topics, starting ``opportune serve`` on a free port, and reading what came to the events topic.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

ROOT = Path(__file__).resolve().parents[2]
NODE_MODULES = Path(os.environ.get("OPPORTUNE_NODE_CLIENTS") or ROOT / ".cache" / "clients" / "node_modules")
"""Where `make setup-clients` has installed the clients of npm."""
PARTITIONS = 4
START_S = 60


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def write_project(directory: Path, name: str, bootstrap_servers: str, more: str = "") -> Path:
    """A project with one audience."""
    (directory / "audiences").mkdir(parents=True)
    (directory / "opportune.yml").write_text(
        f"name: {name}\nkafka: {{bootstrap_servers: '{bootstrap_servers}'}}\n"
        f"topics: {{partitions: {PARTITIONS}, retention: ever}}\nstate: {{shards: 2}}\n{more}"
    )
    (directory / "audiences" / "a.yml").write_text("name: buyers\nwhen: {event: Bought}\n")
    return directory


def make_topic(bootstrap_servers: str, topic: str) -> None:
    """The events topic, as the job makes it."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    config = {"message.timestamp.type": "LogAppendTime"}
    admin.create_topics([NewTopic(topic, PARTITIONS, 1, config=config)])[topic].result(30)


@contextlib.contextmanager
def serving(directory: Path, *arguments: str, ready: bool = True) -> Iterator[str]:
    """``opportune serve`` on the project; its address. It is ended with the block, and must end well."""
    port = free_port()
    command = [sys.executable, "-m", "opportune.cli.main", "serve", str(directory), "--port", str(port)]
    command += arguments or ("--only", "collector")
    log = directory / f"serve-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/{'readyz' if ready else 'healthz'}", process, log)
        yield address
        assert process.poll() is None, log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert "Traceback" not in log.read_text(), log.read_text()


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits until an address answers with 200."""
    until = time.monotonic() + START_S
    while True:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(address, timeout=5).status_code == 200:
                return
        assert time.monotonic() < until, log.read_text()


class Topic:
    """Reads the events topic from the place that it has come to.

    Args:
        bootstrap_servers: of the broker.
        name: of the topic.
    """

    def __init__(self, bootstrap_servers: str, name: str) -> None:
        self._consumer = Consumer({
            "bootstrap.servers": bootstrap_servers, "group.id": "tests", "auto.offset.reset": "earliest",
        })  # fmt: skip
        self._name = name
        self._offsets = dict.fromkeys(range(PARTITIONS), 0)
        self._consumer.assign([TopicPartition(name, number, 0) for number in range(PARTITIONS)])

    def new(self) -> list[dict[str, Any]]:
        """Everything that was acknowledged since the last call, with the partition as ``_partition``."""
        ends = {
            number: self._consumer.get_watermark_offsets(TopicPartition(self._name, number), timeout=30)[1]
            for number in range(PARTITIONS)
        }
        left = sum(ends[number] - self._offsets[number] for number in ends)
        found: list[dict[str, Any]] = []
        until = time.monotonic() + START_S
        while left:
            assert time.monotonic() < until
            message = self._consumer.poll(0.2)
            if message is None or message.error():
                continue
            partition, offset, value = message.partition(), message.offset(), message.value()
            assert partition is not None
            assert offset is not None
            assert isinstance(value, bytes)
            self._offsets[partition] = offset + 1
            found.append({**json.loads(value), "_partition": partition})
            left -= 1
        return found

    def close(self) -> None:
        """Leaves the broker."""
        self._consumer.close()


def ids(messages: Sequence[dict[str, Any]]) -> list[Any]:
    """The message ids, sorted."""
    return sorted(one["messageId"] for one in messages)
