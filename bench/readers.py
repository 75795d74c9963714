"""Those who read much from the HTTP service: lists of a large audience, and a thousand readers of the live stream.

Owns: two measurements of one serving process. ``members``: a state of so many people, written as the job writes it, listed in
each format; rows a second, and how far the process's memory rises above what it was. ``changes``: so many readers, of whom a few are concerned by
every change and the others by none, while changes come at a steady rate: how long from Kafka to the reader, and the memory.
Not here: look-ups and the collector (bench.service).
"""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import msgspec
import numpy as np
import psutil
from confluent_kafka import Producer

from api.member_formats import ARROW, CSV, NDJSON, PARQUET
from bench.kafka import BenchError, Topics
from bench.report import Result
from bench.service import answers, cpu_of, free_port, once, start, until
from opportune.audiences.loader import load_project
from opportune.clock import wall_clock_ms
from opportune.compiled import Compiled
from opportune.identity import profile_id, shard_of
from opportune.membership import MembershipChange
from opportune.profile import Profile
from state.keys import META_PLAN, pack_member, pack_membership
from state.rocks import RocksStore, shared_memory

SHARDS = 4
ROWS_BAR = 300_000
DELAY_P99_BAR_MS = 1_000.0
NOW_MS = 1_767_225_600_000
CHUNK = 1 << 18


@dataclass(frozen=True)
class Shape:
    """How many members, readers and changes; a second, and for how many seconds."""

    members: int
    readers: int
    concerned: int
    rate: int
    seconds: int


SHORT = Shape(members=1_000_000, readers=1_000, concerned=10, rate=1_000, seconds=10)
FULL = Shape(members=1_000_000, readers=1_000, concerned=10, rate=1_000, seconds=60)


def measure_members(bootstrap: str, work: Path, topics: Topics, shape: Shape) -> Result:
    """Lists one audience in every format."""
    project = _project(work, topics.create("members", SHARDS), bootstrap)
    _fill(project, shape.members)
    port, rows, slowest = free_port(), [], float("inf")
    with ExitStack() as stack:
        serve = start(stack, work, "serve", str(project), "--port", str(port), "--only", "lookups")
        until(lambda: answers(port, "/readyz"), "the service starts")
        for media_type, fields in (
            (ARROW, "profile_id,since"),
            (ARROW, "profile_id,since,identifiers"),
            (PARQUET, "profile_id,since,identifiers"),
            (CSV, "profile_id,since,identifiers"),
            (NDJSON, "profile_id,since,identifiers"),
        ):
            # The first list opens files and fills caches.
            _list(port, media_type, fields)
            before, cpu = serve.memory_info().rss, cpu_of(serve)
            seconds, size, most = _list(port, media_type, fields, serve)
            rate = shape.members / seconds
            slowest = min(slowest, rate) if media_type == ARROW else slowest
            more = (most - before) / (1 << 20)
            spent = (cpu_of(serve) - cpu) / shape.members * 1e6
            rows.append([f"{media_type.rpartition('.')[2]}: {fields}", f"{rate:,.0f}/s", f"{size >> 20} MiB",
                         f"{more:+.0f} MiB", f"{spent:.1f} s CPU a million"])  # fmt: skip
    return Result(
        f"Members of an audience of {shape.members:,}, one process",
        ("format", "rows", "body", "memory at most", "cost"),
        rows,
        [f"{row[0]}: {row[1]}, {row[3]}" for row in rows],
        passed=slowest >= ROWS_BAR,
    )


def measure_changes(bootstrap: str, work: Path, topics: Topics, shape: Shape) -> Result:
    """Reads the live stream with many readers."""
    topic = topics.create("memberships", SHARDS)
    project = _project(work, "events", bootstrap, memberships=topic)
    port = free_port()
    with ExitStack() as stack:
        serve = start(stack, work, "serve", str(project), "--port", str(port), "--only", "lookups")
        until(lambda: answers(port, "/healthz"), "the service starts")
        asked = b"GET /v1/changes?position=00000000.0 HTTP/1.1\r\nHost: bench\r\n\r\n"
        until(lambda: b" 503 " not in once(port, asked)[:16], "the service reads the topic")
        delays, memory, cpu = asyncio.run(_readers(bootstrap, topic, port, serve, shape))
    p50, p99 = np.percentile(delays, [50, 99])
    used = cpu / shape.seconds
    row = [f"{p50:.0f} ms", f"{p99:.0f} ms", f"{memory[0] >> 20} to {memory[1] >> 20} MiB", f"{used:.2f} of a core"]
    return Result(
        f"{shape.readers:,} readers of the stream, {shape.concerned} of them concerned by {shape.rate:,} changes a second",
        ("Kafka to reader, p50", "p99", "memory, begin to end", "CPU"),
        [row],
        [f"p50 {row[0]}, p99 {row[1]}, {row[2]}, {row[3]}"],
        passed=bool(p99 <= DELAY_P99_BAR_MS),
    )


def _project(work: Path, topic: str, bootstrap: str, memberships: str = "memberships") -> Path:
    project = work / "project"
    (project / "audiences").mkdir(parents=True)
    (project / "opportune.yml").write_text(
        f"name: readers-{topic}\nkafka: {{bootstrap_servers: '{bootstrap}'}}\nstate: {{shards: {SHARDS}}}\n"
        f"topics: {{events: {topic}, memberships: {memberships}, retention: ever}}\n"
    )
    (project / "audiences" / "seen.yml").write_text(
        "name: seen\nwhen: {event: Seen}\n---\nname: left\nwhen: {event: Left}\n"
    )
    return project


def _fill(project: Path, members: int) -> None:
    """Writes the state of people who are in ``seen``, as the job does."""
    compiled = Compiled(load_project(project))
    number, memory = compiled.plan.numbers["seen"], shared_memory()
    encode = msgspec.msgpack.Encoder().encode
    stores = [RocksStore(project / "state" / "shards" / f"{shard:04d}", memory) for shard in range(SHARDS)]
    batches = [store.batch() for store in stores]
    for person in range(members):
        who = profile_id("user_id", f"p{person}")
        shard = shard_of(who, SHARDS)
        head = Profile(version=NOW_MS * 1024, now=NOW_MS, members={number}, identifiers=[f"user_id:p{person}"])
        batches[shard].put(who, encode(head), stores[shard].family("profiles"))
        batches[shard].put(
            pack_member(number, who), pack_membership(NOW_MS, NOW_MS * 1024), stores[shard].family("members")
        )
        if person % 20_000 == 0 or person == members - 1:
            for at, store in enumerate(stores):
                store.write(batches[at])
                batches[at] = store.batch()
    for store in stores:
        batch = store.batch()
        batch.put(META_PLAN, compiled.plan.fingerprint.encode(), store.family("meta"))
        store.write(batch)
        store.sync()
        store.close()
    status = {"shard_ms": {str(shard): wall_clock_ms() for shard in range(SHARDS)}}
    (project / "state" / "status.json").write_text(json.dumps(status))


def _list(port: int, media_type: str, fields: str, serve: psutil.Process | None = None) -> tuple[float, int, int]:
    """Reads a whole list: seconds, bytes, and the most memory that the process had meanwhile."""
    began = time.perf_counter()
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    line.request("GET", f"/v1/audiences/seen/members?fields={fields}", headers={"Accept": media_type})
    answer = line.getresponse()
    if answer.status != 200:
        raise BenchError(f"the service answered {answer.status}: {answer.read()[:300]!r}")
    size = most = looked = 0
    while part := answer.read(CHUNK):
        size += len(part)
        if serve is not None and size - looked > 1 << 20:
            looked, most = size, max(most, serve.memory_info().rss)
    line.close()
    return time.perf_counter() - began, size, most


async def _readers(
    bootstrap: str, topic: str, port: int, serve: psutil.Process, shape: Shape
) -> tuple[list[float], tuple[int, int], float]:
    delays: list[float] = []
    idle = [await _open(port, f"profile=user_id:nobody{number}") for number in range(shape.readers - shape.concerned)]
    concerned = [await _open(port, "audience=seen") for _ in range(shape.concerned)]
    count = shape.rate * shape.seconds
    thread = Thread(target=_tell, args=(bootstrap, topic, shape.rate, count))
    reading = [asyncio.ensure_future(_take(reader, count, delays)) for reader, _ in concerned]
    before, cpu = serve.memory_info().rss, cpu_of(serve)
    thread.start()
    await asyncio.gather(*reading)
    used, after = cpu_of(serve) - cpu, serve.memory_info().rss
    thread.join()
    for _, writer in (*idle, *concerned):
        writer.close()
    return delays, (before, after), used


async def _open(port: int, query: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /v1/changes?{query} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    head = await reader.readuntil(b"retry: 1000\n\n")
    if b" 200 " not in head[:16]:
        raise BenchError(f"the service answered {head[:300]!r}")
    return reader, writer


async def _take(reader: asyncio.StreamReader, count: int, delays: list[float]) -> None:
    decode = msgspec.json.Decoder(MembershipChange).decode
    for _ in range(count):
        while not (line := await reader.readline()).startswith(b"data: "):
            if not line or line.startswith(b"event: dropped"):
                raise BenchError("a reader was sent away")
        told_ns = int(decode(line[6:]).event_id or 0)
        delays.append((time.time_ns() - told_ns) / 1e6)


def _tell(bootstrap: str, topic: str, rate: int, count: int) -> None:
    """Puts changes on the topic at a steady rate; their event id is when."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2})
    began = time.monotonic()
    for number in range(count):
        while (ahead := began + number / rate - time.monotonic()) > 0:
            producer.poll(min(ahead, 0.002))
        who = profile_id("user_id", f"p{number}").hex()
        change = MembershipChange(
            id=f"{who}/1", audience="seen", change="entered", profile_id=who,
            identifiers={"user_id": [f"p{number}"]}, at="2026-01-01T00:00:00.000Z",
            emitted_at="2026-01-01T00:00:00.000Z", cause="event", version=1, definition_version="0" * 16,
            event_id=str(time.time_ns()),
        )  # fmt: skip
        producer.produce(topic, msgspec.json.encode(change), f"{who}/seen")
    producer.flush(30)
