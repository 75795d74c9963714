"""The HTTP service: events a second into a real Kafka, and look-ups a second from the state that the job made of them.

Owns: the measurement of one serving process, with requests from raw sockets, so that the client costs little. Keys are on.
Baseline of look-ups: a FastAPI route that returns a fixed dict of the same size (bench.fixed), asked in the same way, in turns.
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

from api.keys import KEY_FILE, make_key, write_keys
from bench.kafka import BenchError, Topics
from bench.report import Result

BATCH = 100
PARTITIONS = 12
ROUNDS = 10
ALLOWED = 10_000_000
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
        write_key, read_key = _keys(project)
        serve = start(stack, work, "serve", str(project), "--port", str(port))
        until(lambda: answers(port, "/healthz"), "the service starts")
        until(lambda: b" 503 " not in once(port, _post(0, 1, shape, write_key))[:16], "the service has its topic")
        before = cpu_of(serve)
        batches = [_post(at, BATCH, shape, write_key) for at in range(0, min(shape.events, 20_000), BATCH)]
        rounds = shape.events // BATCH
        seconds, _ = _load(port, batches, rounds, shape.connections)
        cpu = (cpu_of(serve) - before) / (rounds * BATCH) * 1e6
        _, single = _load(port, [_post(at, 1, shape, write_key) for at in range(500)], shape.singles, 1)
        start(stack, work, "run", str(project))
        until(lambda: answers(port, "/readyz") and _read_all(project), "the job reads what was collected")
        compared = _compared(stack, port, serve, shape, read_key)
        hundred = _load(port, [_lookups(at, read_key) for at in range(20)], max(shape.lookups // 100, 50), 1)[1]
    rate, p99 = rounds * BATCH / seconds, float(np.percentile(single, 99))
    rows = [
        ["events in batches of 100, acknowledged", f"{rate:,.0f}/s", f"{EVENTS_BAR:,}/s", f"{cpu:.1f} s CPU a million"],
        ["single events, p50 / p99", f"{np.median(single):.1f} / {p99:.1f} ms", f"p99 {SINGLE_P99_BAR_MS:.0f} ms", ""],
        *compared,
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


def _compared(stack: ExitStack, port: int, serve: psutil.Process, shape: Shape, key: str) -> list[list[str]]:
    """The rows of membership checks beside the fixed dict: medians of rounds in turns, since machines are never quiet."""
    ask = [get(f"/v1/profiles/user_id:p{number}/audiences/seen", key) for number in range(0, shape.people, 7)]
    answer = once(port, ask[0]).partition(b"\r\n\r\n")[2].decode()
    other = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.fixed", str(other), answer])
    stack.callback(process.wait, 60)
    stack.callback(process.terminate)
    until(lambda: answers(other, "/fixed"), "the fixed dict is served")
    sides = {"checks": (port, serve, ask), "fixed": (other, psutil.Process(process.pid), [get("/fixed", key)])}
    each = shape.lookups // ROUNDS
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    times: list[float] = []
    for turn in range(ROUNDS):
        for name in sorted(sides, reverse=bool(turn % 2)):
            where, measured, requests = sides[name]
            before = cpu_of(measured)
            seconds, took = _load(where, requests, each, shape.connections)
            found[name].append((each / seconds, (cpu_of(measured) - before) / each * 1e6))
            times += took if name == "checks" else []
    (rate, cpu), (fixed_rate, fixed_cpu) = (np.median(found[name], axis=0) for name in ("checks", "fixed"))
    return [
        ["membership checks", f"{rate:,.0f}/s", f"{fixed_rate:,.0f}/s (a fixed dict)", ""],
        ["membership checks, CPU each", f"{cpu:.0f} us", f"{fixed_cpu:.0f} us (a fixed dict)", ""],
        ["membership checks, p99 at that load", f"{np.percentile(times, 99):.1f} ms", "", ""],
    ]


def _keys(project: Path) -> tuple[str, str]:
    """A write key and a key for reading, without limits that a measurement could reach."""
    made = [make_key(scope, (scope,), "2026-01-01T00:00:00Z", ALLOWED) for scope in ("write:events", "read:profiles")]
    write_keys(project / KEY_FILE, tuple(key for key, _ in made))
    return made[0][1], made[1][1]


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


def _post(number: int, count: int, shape: Shape, key: str = "") -> bytes:
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    batch = [_message(number + at, shape) | {"timestamp": now} for at in range(count)]
    return _request("POST", "/v1/batch", json.dumps({"batch": batch, "sentAt": now}).encode(), f"X-Write-Key: {key}")


def _lookups(number: int, key: str) -> bytes:
    wanted = {"identifiers": [f"user_id:p{number * 100 + at}" for at in range(100)], "fields": ["memberships"]}
    return post("/v1/lookups", json.dumps(wanted).encode(), key)


def post(path: str, body: bytes, key: str) -> bytes:
    """A request with a body and a key for reading."""
    return _request("POST", path, body, f"X-Api-Key: {key}")


def get(path: str, key: str = "") -> bytes:
    return _request("GET", path, b"", f"X-Api-Key: {key}")


def _request(method: str, path: str, body: bytes, key: str) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: bench",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, key, "", ""]).encode() + body


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
                    answer = receive(line)
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


def receive(line: socket.socket) -> bytes:
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
    return head + b"\r\n\r\n" + body


def once(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        line.sendall(request)
        return receive(line)


def answers(port: int, path: str) -> bool:
    try:
        return b" 200 " in once(port, get(path))[:16]
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
