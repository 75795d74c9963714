"""The live stream over HTTP, from a real Kafka: a thousand readers, of whom a few are concerned and one does not read."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from confluent_kafka import Producer

from opportune.clock import wall_clock_ms
from opportune.event import iso_text
from opportune.membership import MembershipChange
from tests.api.serving import PARTITIONS, make_topic, serving, write_project
from tests.kafka.broker import Kafka

READERS = 1_000
CONCERNED = 10
CHANGES = 2_000
WITHIN_S = 60


class Told:
    """The memberships topic of a project, and changes put there as the job does."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 5})
        self._topic = topic
        self.version = 0

    def tell(self, profile: int, audience: str = "buyers", kind: str = "entered", version: int = 0) -> None:
        self.version = max(self.version + 1, version)
        now = iso_text(wall_clock_ms())
        change = MembershipChange(
            id=f"{profile:032x}/{version or self.version}",
            audience=audience,
            change="entered" if kind == "entered" else "exited",
            profile_id=f"{profile:032x}",
            identifiers={"user_id": [f"u{profile}"]},
            at=now,
            emitted_at=now,
            cause="event",
            version=version or self.version,
            definition_version="d",
        )
        key = f"{profile:032x}/{audience}"
        self._producer.produce(self._topic, msgspec.json.encode(change), key, profile % PARTITIONS)
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0


@pytest.fixture
def project(kafka: Kafka, tmp_path: Path) -> Path:
    name = f"changes-{uuid.uuid4().hex[:12]}"
    directory = write_project(tmp_path / name, name, kafka.bootstrap_servers)
    (directory / "audiences" / "b.yml").write_text("name: sellers\nwhen: {event: Sold}\n")
    make_topic(kafka.bootstrap_servers, f"{name}.memberships")
    return directory


def events_of(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """The events of a stream; what has no data is none."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            if "data" in fields:
                yield fields
            fields = {}


def read(address: str, count: int, params: dict[str, str], last: str = "") -> list[dict[str, Any]]:
    """So many events of a stream, the id beside the data."""
    headers = {"Last-Event-ID": last} if last else {}
    found: list[dict[str, Any]] = []
    with httpx.stream("GET", f"{address}/v1/changes", params=params, headers=headers, timeout=WITHIN_S) as answer:
        assert answer.status_code == 200, answer.read()
        for event in events_of(answer.iter_lines()):
            found.append({**json.loads(event["data"]), "_id": event["id"]})
            if len(found) == count:
                break
    return found


def test_a_stream_goes_on_where_it_was_left_also_after_the_service_was_started_anew(
    kafka: Kafka, project: Path
) -> None:
    told = Told(kafka.bootstrap_servers, f"{project.name}.memberships")
    with serving(project, "--only", "lookups", ready=False) as address:
        wait_ready(address)
        begin = read_first_id(address)
        for profile in range(6):
            told.tell(profile)
        told.tell(0, "sellers")
        told.tell(1, kind="exited")
        told.flush()
        everything = read(address, 8, {}, begin)
        assert sorted(one["version"] for one in everything) == list(range(1, 9))
        assert [one["version"] for one in read(address, 1, {"audience": "sellers"}, begin)] == [7]
        assert [one["version"] for one in read(address, 1, {"kind": "exited"}, begin)] == [8]
        assert [one["version"] for one in read(address, 2, {"profile": "user_id:u1"}, begin)] == [2, 8]
        assert read(address, 5, {}, everything[2]["_id"]) == everything[3:]
        for params, status in (
            ({"audience": "none"}, 404), ({"kind": "left"}, 400), ({"profile": "u1"}, 400), ({"position": "x"}, 400),
            ({"profile": "user_id:null"}, 400), ({"position": f"00000000{begin[8:]}"}, 410),
        ):  # fmt: skip
            assert httpx.get(f"{address}/v1/changes", params=params, timeout=30).status_code == status, params
    # A crash of the job sends again what it had sent, and goes on.
    told.tell(1, kind="exited", version=8)
    told.tell(1, version=9)
    told.flush()
    with serving(project, "--only", "lookups", ready=False) as address:
        wait_ready(address)
        assert [one["version"] for one in read(address, 1, {"profile": "user_id:u1"}, everything[-1]["_id"])] == [9]
        metrics = httpx.get(f"{address}/metrics").text
        assert re.search(r"^opportune_changes_repeats 1$", metrics, re.MULTILINE), metrics


def test_a_thousand_readers_and_one_who_does_not_read(kafka: Kafka, project: Path) -> None:
    told = Told(kafka.bootstrap_servers, f"{project.name}.memberships")

    async def story(port: int) -> None:
        idle = await asyncio.gather(*(connect(port, f"profile=user_id:x{number}") for number in range(READERS)))
        concerned = await asyncio.gather(*(connect(port, "audience=sellers") for _ in range(CONCERNED)))
        stuck, stuck_writer = await connect(port, "audience=buyers", limit=1_024)
        began = asyncio.get_running_loop().time()
        for number in range(CHANGES):
            told.tell(number, "sellers")
        told.flush()
        found = await asyncio.gather(*(take(reader, CHANGES) for reader, _ in concerned))
        took = asyncio.get_running_loop().time() - began
        assert all(versions == found[0] for versions in found)
        assert sorted(found[0]) == list(range(1, CHANGES + 1))
        assert took < WITHIN_S / 4
        # Far more than a connection holds by itself: the one who does not read is sent away, and the others hear all.
        for number in range(15 * CHANGES):
            told.tell(number, "sellers" if number % 100 == 0 else "buyers")
        told.flush()
        assert len(set(await take(concerned[0][0], 15 * CHANGES // 100))) == 15 * CHANGES // 100
        text = b""
        while part := await asyncio.wait_for(stuck.read(1 << 20), WITHIN_S):
            text = (text + part)[-2_000:]
        assert b'event: dropped\ndata: {"reason":"slow"' in text
        for _, writer in (*idle, *concerned, (stuck, stuck_writer)):
            writer.close()

    with serving(project, "--only", "lookups", ready=False) as address:
        wait_ready(address)
        asyncio.run(story(int(address.rpartition(":")[2])))


async def connect(port: int, query: str, limit: int = 1 << 16) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A reader whose stream has begun."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=limit)
    writer.write(f"GET /v1/changes?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"retry: 1000\n\n"), WITHIN_S)
    assert b" 200 " in head[:16], head
    return reader, writer


async def take(reader: asyncio.StreamReader, count: int) -> list[int]:
    """The versions of the next so many events."""
    found: list[int] = []
    while len(found) < count:
        line = await asyncio.wait_for(reader.readline(), WITHIN_S)
        if line.startswith(b"data: "):
            found.append(json.loads(line[6:])["version"])
    return found


def wait_ready(address: str) -> None:
    """Waits until the stream answers, whatever it answers."""
    until = wall_clock_ms() + WITHIN_S * 1000
    while httpx.get(f"{address}/v1/changes", params={"position": "00000000.0"}, timeout=30).status_code == 503:
        assert wall_clock_ms() < until


def read_first_id(address: str) -> str:
    """The place where a stream begins that has no last id."""
    with httpx.stream("GET", f"{address}/v1/changes", timeout=WITHIN_S) as answer:
        for line in answer.iter_lines():
            if line.startswith("id: "):
                return line[4:]
    raise AssertionError("the stream ended")
