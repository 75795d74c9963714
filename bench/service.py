"""The HTTP service: events a second into a real Kafka, and look-ups a second from the state that the job made of them.

Owns: the measurement of one serving process, with requests from raw sockets, so that the client costs little.
Baseline: ``/healthz``, a FastAPI route that returns a fixed dict, asked in the same way in the same run.
Not here: the service (api), its project (the one audience below is there so that people have a membership).
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import numpy as np
import psutil

from bench.kafka import BenchError, Topics
from bench.report import Result

BATCH = 100
PARTITIONS = 12
EVENTS_BAR, SINGLE_P99_BAR_MS = 30_000, 25.0
START_S = 90.0


@dataclass(frozen=True)
class Shape:
    """How much: events in batches, single events, look-ups, people, connections."""

    events: int
    singles: int
    lookups: int
    people: int
    connections: int = 8


SHORT = Shape(events=200_000, singles=300, lookups=4_000, people=20_000)
FULL = Shape(events=2_000_000, singles=2_000, lookups=40_000, people=200_000)


def measure(bootstrap: str, work: Path, topics: Topics, shape: Shape) -> Result:
    """Measures the collector, then the look-ups."""
    topic = topics.create("service", PARTITIONS, **{"message.timestamp.type": "LogAppendTime"})
    project = _project(work, topic, bootstrap)
    port = free_port()
    with ExitStack() as stack:
        serve = start(stack, work, "serve", str(project), "--port", str(port))
        until(lambda: answers(port, "/healthz"), "the service starts")
        until(lambda: b" 503 " not in once(port, _post(0, 1, shape))[:16], "the service has its topic")
        before = cpu_of(serve)
        batches = [_post(at, BATCH, shape) for at in range(0, min(shape.events, 20_000), BATCH)]
        rounds = shape.events // BATCH
        seconds, _ = _load(port, batches, rounds, shape.connections)
        cpu = (cpu_of(serve) - before) / (rounds * BATCH) * 1e6
        _, single = _load(port, [_post(at, 1, shape) for at in range(500)], shape.singles, 1)
        start(stack, work, "run", str(project))
        until(lambda: answers(port, "/readyz") and _read_all(project), "the job reads what was collected")
        ask = [_get(f"/v1/profiles/user_id:p{number}/audiences/seen") for number in range(0, shape.people, 7)]
        looked, times = _load(port, ask, shape.lookups, shape.connections)
        fixed, _ = _load(port, [_get("/healthz")], shape.lookups, shape.connections)
        hundred = _load(port, [_lookups(at) for at in range(20)], max(shape.lookups // 100, 50), 1)[1]
    rate, p99 = rounds * BATCH / seconds, float(np.percentile(single, 99))
    rows = [
        ["events in batches of 100, acknowledged", f"{rate:,.0f}/s", f"{EVENTS_BAR:,}/s", f"{cpu:.1f} s CPU a million"],
        ["single events, p50 / p99", f"{np.median(single):.1f} / {p99:.1f} ms", f"p99 {SINGLE_P99_BAR_MS:.0f} ms", ""],
        ["membership checks", f"{shape.lookups / looked:,.0f}/s", f"{shape.lookups / fixed:,.0f}/s (a fixed dict)", ""],
        ["membership checks, p99 at that load", f"{np.percentile(times, 99):.1f} ms", "", ""],
        [
            "100 people at once, p50 / p99",
            f"{np.median(hundred):.1f} / {np.percentile(hundred, 99):.1f} ms",
            "p99 25 ms",
            "",
        ],
    ]
    return Result(
        f"The HTTP service, one process, {shape.people:,} people",
        ("what", "measured", "bar", "cost"),
        rows,
        [f"{row[0]}: {row[1]}" for row in rows] + [rows[0][3]],
        passed=rate >= EVENTS_BAR and p99 <= SINGLE_P99_BAR_MS,
    )


def _project(work: Path, topic: str, bootstrap: str) -> Path:
    project = work / "project"
    (project / "audiences").mkdir(parents=True)
    (project / "opportune.yml").write_text(
        f"name: service-{topic}\nkafka: {{bootstrap_servers: '{bootstrap}'}}\ntopics: {{events: {topic}, retention: ever}}\n"
    )
    (project / "audiences" / "seen.yml").write_text("name: seen\nwhen: {event: Seen, within: 1 day}\n")
    return project


def start(stack: ExitStack, work: Path, *arguments: str) -> psutil.Process:
    log = stack.enter_context((work / f"{arguments[0]}.log").open("wb"))
    process = subprocess.Popen([sys.executable, "-m", "opportune.cli.main", *arguments], stdout=log, stderr=log)
    stack.callback(process.wait, 60)
    stack.callback(process.terminate)
    return psutil.Process(process.pid)


def cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _read_all(project: Path) -> bool:
    status = project / "state" / "status.json"
    if not status.exists():
        return False
    lag = json.loads(status.read_bytes()).get("lag", {})
    return bool(lag) and not any(lag.values())


def _message(number: int, shape: Shape) -> dict[str, object]:
    return {
        "type": "track",
        "event": "Seen",
        "userId": f"p{number % shape.people}",
        "timestamp": "2026-01-01T12:00:00.000Z",
        "context": {"library": {"name": "bench", "version": "1"}, "page": {"path": "/pricing", "title": "Pricing"}},
        "properties": {"product_id": f"sku-{number % 500}", "price": 19.95, "quantity": 2, "category": "shoes"},
    }


def _post(number: int, count: int, shape: Shape) -> bytes:
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    batch = [_message(number + at, shape) | {"timestamp": now} for at in range(count)]
    return _request("POST", "/v1/batch", json.dumps({"batch": batch, "sentAt": now}).encode())


def _lookups(number: int) -> bytes:
    wanted = {"identifiers": [f"user_id:p{number * 100 + at}" for at in range(100)], "fields": ["memberships"]}
    return _request("POST", "/v1/lookups", json.dumps(wanted).encode())


def _get(path: str) -> bytes:
    return _request("GET", path)


def _request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _load(port: int, requests: Sequence[bytes], count: int, connections: int) -> tuple[float, list[float]]:
    """Sends so many requests over some connections; seconds in all, and milliseconds of each."""
    times: list[float] = []
    errors: list[BaseException] = []
    each = count // connections

    def send(offset: int) -> None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(each):
                    began = time.perf_counter()
                    line.sendall(requests[(offset + at) % len(requests)])
                    answer = _receive(line)
                    times.append((time.perf_counter() - began) * 1_000)
                    if b" 200 " not in answer[:16]:
                        raise BenchError(f"the service answered {answer[:300]!r}")
        except BaseException as error:  # told to whoever waits
            errors.append(error)

    threads = [Thread(target=send, args=(number * each,)) for number in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise BenchError(str(errors[0]))
    return time.perf_counter() - began, times


def _receive(line: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        part = line.recv(65_536)
        if not part:
            raise BenchError("the service closed a connection")
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    (length,) = [
        int(text.split(b":")[1]) for text in head.lower().split(b"\r\n") if text.startswith(b"content-length:")
    ]
    while len(body) < length:
        body += line.recv(65_536)
    return data


def once(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        line.sendall(request)
        return _receive(line)


def answers(port: int, path: str) -> bool:
    try:
        return b" 200 " in once(port, _get(path))[:16]
    except OSError:
        return False


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"in {START_S:.0f} s it did not come about: {what}")
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
