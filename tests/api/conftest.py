"""One service on one Kafka for the whole folder: its tests look at their own events."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.keys import KEY_FILE, make_key, write_keys
from tests.api.serving import Topic, make_topic, serving, write_project
from tests.kafka.broker import Kafka


class Served:
    """A running service: its directory, address and events topic, a write key, one that is soon used up, one for reading."""

    def __init__(
        self, directory: Path, address: str, topic: Topic, write_key: str, slow_key: str, read_key: str
    ) -> None:
        self.directory = directory
        self.address = address
        self.topic = topic
        self.write_key = write_key
        self.slow_key = slow_key
        self.read_key = read_key


@pytest.fixture(scope="session")
def _served(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    name = f"served-{uuid.uuid4().hex[:12]}"
    directory = write_project(tmp_path_factory.mktemp("served"), name, kafka.bootstrap_servers)
    writing, write_key = make_key("web", ("write:events",), "2026-01-01T00:00:00Z")
    reading, read_key = make_key("app", ("admin",), "2026-01-01T00:00:00Z")
    seldom, slow_key = make_key("slow", ("write:events",), "2026-01-01T00:00:00Z", per_second=1)
    write_keys(directory / KEY_FILE, (writing, seldom, reading))
    make_topic(kafka.bootstrap_servers, f"{name}.events")
    topic = Topic(kafka.bootstrap_servers, f"{name}.events")
    with serving(directory) as address:
        yield Served(directory, address, topic, write_key, slow_key, read_key)
    topic.close()


@pytest.fixture
def served(_served: Served) -> Served:
    """The service, with nothing unread on its topic."""
    _served.topic.new()
    return _served
