"""Look-ups while the job works on the same cores: how long they take, and how soon an event is seen.

Owns: the measurement of one ``opportune serve`` beside one ``opportune run``, with so many people known, each with a
profile. Look-ups come at a steady rate over many connections, half of them membership checks and half whole profiles, of
people chosen evenly, and are timed from the instant at which each was due: who waits behind a slow answer is counted. Baseline:
a FastAPI route that returns a fixed dict, asked in the same way at the same time, a fifth as often: what the busy
machine alone costs. Fresh is: from handing an event to Kafka until a membership check says so, asked again every ``POLL_S``.
Not here: the service alone (bench.service), changes on their topic (bench.latency).
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from confluent_kafka import Producer

from api.keys import KEY_FILE, make_key, write_keys
from bench.audiences import Definition, one
from bench.events import Traffic, evenly, person_name
from bench.kafka import BenchError, Topics, ends, fill, producer
from bench.latency import wait_started
from bench.meter import usage
from bench.pacing import paced
from bench.projects import write_people, write_project
from bench.report import Result
from bench.service import ALLOWED, answers, free_port, get, once, post, receive, start, until
from bench.subjects import Opportune

CONNECTIONS = 16
WARM_S, QUIET_S, DRAIN_S = 3.0, 6.0, 60.0
POLL_S, PROBE_EVERY_S, UNSEEN_S = 0.002, 0.02, 10.0
FILL_SECONDS_MAX = 240.0
LOOKUP_P99_BAR_MS, BATCH_P99_BAR_MS, FRESH_P99_BAR_MS = 25.0, 25.0, 150.0
BATCHES, BATCH = 200, 100
MARKED = Definition("marked", [{"event": "Marked", "times": ">= 1", "within": "1 day"}])


@dataclass(frozen=True)
class Shape:
    """How much: people, seconds of each stretch, look-ups a second, events a second beside look-ups and beside probes."""

    people: int
    seconds: float
    lookups: int = 300
    rate: int = 20_000
    fresh_rate: int = 5_000


SHORT = Shape(people=200_000, seconds=15)
FULL = Shape(people=1_000_000, seconds=30)


class Beside:
    """A job and a service over one state."""

    def __init__(self, stack: ExitStack, bootstrap: str, work: Path, topics: Topics, shape: Shape) -> None:
        self.bootstrap, self.work, self.shape = bootstrap, work, shape
        self.topic = topics.create("lookups", message_timestamp_type="LogAppendTime")
        name = f"{topics.prefix}-lookups"
        project = write_project(
            work / "project",
            name=name,
            bootstrap=bootstrap,
            events=self.topic,
            audiences=[*one(), MARKED],
            people=write_people(work, shape.people),
        )
        key, text = make_key("bench", ("read:profiles",), "2026-01-01T00:00:00Z", ALLOWED)
        write_keys(project / KEY_FILE, (key,))
        self.key, self.port, self.fixed_port = text, free_port(), free_port()
        self._people()
        self.job = Opportune("lookups", project, bootstrap, f"{name}.memberships")
        self.job.start()
        stack.callback(self.job.stop)
        wait_started(self.job)
        self.wait_applied(FILL_SECONDS_MAX)
        self.serve = start(stack, work, "serve", str(project), "--port", str(self.port), "--only", "lookups")
        until(lambda: answers(self.port, "/readyz"), "the service starts")
        answer = once(self.port, self.check(0)).partition(b"\r\n\r\n")[2].decode()
        fixed = subprocess.Popen([sys.executable, "-m", "bench.fixed", str(self.fixed_port), answer])
        stack.callback(fixed.wait, 60)
        stack.callback(fixed.terminate)
        until(lambda: answers(self.fixed_port, "/fixed"), "the fixed dict is served")

    def traffic(self) -> Traffic:
        """What people do; fresh, since what it has drawn is not for another process."""
        return Traffic(people=self.shape.people)

    def check(self, person: int) -> bytes:
        """Asks for a membership."""
        return get(f"/v1/profiles/user_id:{person_name(person)}/audiences/pricing_intent", self.key)

    def whole(self, person: int) -> bytes:
        """Asks for a profile."""
        return get(f"/v1/profiles/user_id:{person_name(person)}", self.key)

    def behind(self) -> int:
        """How many events the job has not applied."""
        return sum(ends(self.bootstrap, self.topic).values()) - self.applied()

    def applied(self) -> int:
        """How many events the job has applied, by its status."""
        return sum(at for place, at in self.job.status().applied.items() if place.startswith(f"{self.topic}/"))

    def wait_applied(self, seconds: float) -> float:
        """Waits until the job has applied all there is; seconds that it took."""
        began = time.monotonic()
        while self.behind() > 0:
            ended = self.job.ended()
            if ended is not None or time.monotonic() - began > seconds:
                raise BenchError(f"in {seconds:.0f} s the job has not applied all events: {ended or self.behind()}")
            time.sleep(0.2)
        return time.monotonic() - began

    def _people(self) -> None:
        """One event of everybody."""
        people = np.random.default_rng(5).permutation(self.shape.people)
        times = evenly(int(time.time() * 1000) - 60_000, self.shape.people, self.shape.people / 30)
        fill(self.bootstrap, self.topic, self.traffic(), times, people=people)


def measure(bootstrap: str, work: Path, topics: Topics, shape: Shape) -> Result:
    """Measures look-ups alone, beside the job, and how soon an event is seen."""
    result = Result(
        f"Look-ups beside the job, {shape.people:,} people, one serving process",
        ["what", "p50 ms", "p99 ms", "max ms", "answers", "bar: p99 under", "CPU us each"],
        [],
        [],
        [
            "timed from when each was due; the fixed dict is asked at the same time, from a FastAPI route of its own process"
        ],
        passed=True,
    )
    with ExitStack() as stack:
        beside = Beside(stack, bootstrap, work, topics, shape)
        _stretch(result, beside, "the job at rest", QUIET_S, None)
        with paced(
            bootstrap, beside.topic, beside.traffic(), rate=shape.rate, seconds=shape.seconds + WARM_S,
            file=work / "beside.npy", start=shape.people,
        ) as pacer:  # fmt: skip
            before = usage(beside.job.pid).cpu_s
            _stretch(result, beside, f"{shape.rate:,} events/s", shape.seconds, LOOKUP_P99_BAR_MS)
            spent = usage(beside.job.pid).cpu_s - before
            pacer.times_ns()
        behind, drained = beside.behind(), beside.wait_applied(DRAIN_S)
        cores = spent / (shape.seconds + WARM_S)
        result.notes.append(
            f"the job took {cores:.2f} of a core; at the end it was {behind:,} events behind, and {drained:.1f} s later none"
        )
        _batches(result, beside)
        start_number = shape.people + int(shape.rate * (shape.seconds + WARM_S))
        with paced(
            bootstrap, beside.topic, beside.traffic(), rate=shape.fresh_rate, seconds=shape.seconds + WARM_S,
            file=work / "fresh.npy", start=start_number,
        ) as pacer:  # fmt: skip
            _fresh(result, beside)
            pacer.times_ns()
    return result


def _row(result: Result, what: str, taken: Any, bar: float | None, cpu_us: float | None = None) -> None:
    p50, p99 = np.percentile(taken, [50, 99])
    shown = [f"{p50:.1f}", f"{p99:.1f}", f"{max(taken):.0f}", f"{len(taken):,}"]
    result.rows.append([what, *shown, f"{bar:.0f} ms" if bar else "-", f"{cpu_us:.0f}" if cpu_us else "-"])
    result.figures.append(f"{what}: p50 {p50:.1f} p99 {p99:.1f} ms")
    if bar is not None and p99 >= bar:
        result.passed = False
        result.notes.append(f"{what}: p99 {p99:.1f} ms, bar {bar:.0f} ms MISSED")


def _stretch(result: Result, beside: Beside, what: str, seconds: float, bar: float | None) -> None:
    """Look-ups, and the fixed dict, at a steady rate for so long, and some seconds before that do not count."""
    random = np.random.default_rng(9)
    count = int(beside.shape.lookups * (seconds + WARM_S))
    people = random.integers(0, beside.shape.people, count).tolist()
    asked = [(beside.check, beside.whole)[number % 2](person) for number, person in enumerate(people)]
    before = usage(beside.serve.pid).cpu_s
    fixed = Steady(beside.fixed_port, [get("/fixed")] * (count // 5), beside.shape.lookups / 5)
    lookups = Steady(beside.port, asked, beside.shape.lookups)
    taken, others = lookups.finish(), fixed.finish()
    cpu_us = (usage(beside.serve.pid).cpu_s - before) / count * 1e6
    _row(result, f"look-ups, {what}", taken, bar, cpu_us)
    _row(result, f"a fixed dict, {what}", others, None)


class Steady:
    """Sends requests at a steady rate from threads, each when it is due or as soon after it as its connection is free."""

    def __init__(self, port: int, requests: list[bytes], rate: float) -> None:
        self._port, self._requests, self._rate = port, requests, rate
        self._taken: list[float] = []
        self._errors: list[BaseException] = []
        self._began = time.perf_counter() + 0.2
        self._threads = [Thread(target=self._send, args=(number,)) for number in range(CONNECTIONS)]
        for thread in self._threads:
            thread.start()

    def finish(self) -> list[float]:
        """Milliseconds of each answer from when its request was due; without the first seconds.

        Raises:
            BenchError: one was refused.
        """
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise BenchError(str(self._errors[0]))
        return self._taken

    def _send(self, first: int) -> None:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=60) as line:
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for number in range(first, len(self._requests), CONNECTIONS):
                    due = self._began + number / self._rate
                    time.sleep(max(0.0, due - time.perf_counter()))
                    line.sendall(self._requests[number])
                    answer = receive(line)
                    if b" 200 " not in answer[:16]:
                        raise BenchError(f"the service answered {answer[:300]!r}")
                    if due - self._began >= WARM_S:
                        self._taken.append((time.perf_counter() - due) * 1_000)
        except BaseException as error:  # told to whoever waits
            self._errors.append(error)


def _batches(result: Result, beside: Beside) -> None:
    random = np.random.default_rng(3)
    taken = []
    with socket.create_connection(("127.0.0.1", beside.port), timeout=60) as line:
        for number in range(BATCHES + 20):
            names = [person_name(person) for person in random.integers(0, beside.shape.people, BATCH).tolist()]
            wanted = {"identifiers": [f"user_id:{name}" for name in names], "fields": ["memberships"]}
            began = time.perf_counter()
            line.sendall(post("/v1/lookups", json.dumps(wanted).encode(), beside.key))
            answer = receive(line)
            if b" 200 " not in answer[:16] or answer.count(b'"found":true') != BATCH:
                raise BenchError(f"the service answered {answer[:300]!r}")
            if number >= 20:
                taken.append((time.perf_counter() - began) * 1_000)
    _row(result, f"{BATCH} people at once, the job at rest", taken, BATCH_P99_BAR_MS)


def _fresh(result: Result, beside: Beside) -> None:
    """Marks one person after the other, and asks until a look-up says so."""
    sending: Producer = producer(beside.bootstrap, linger_ms=0)
    deadline = time.monotonic() + WARM_S + beside.shape.seconds
    warm_until = time.monotonic() + WARM_S
    taken: list[float] = []
    number = 0
    with socket.create_connection(("127.0.0.1", beside.port), timeout=60) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.monotonic() < deadline:
            who = f"m-{number:06d}"
            seen_ms = _seen_after(line, beside, partial(_mark, sending, beside.topic, who), who)
            if time.monotonic() > warm_until:
                taken.append(seen_ms)
            number += 1
            time.sleep(PROBE_EVERY_S)
    sending.flush(10)
    _row(result, f"event to look-up at {beside.shape.fresh_rate:,} events/s", taken, FRESH_P99_BAR_MS)


def _mark(sending: Producer, topic: str, who: str) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    event = {"type": "track", "event": "Marked", "messageId": f"mark-{who}", "userId": who, "timestamp": now}
    sending.produce(topic, json.dumps(event).encode(), who.encode())
    sending.poll(0)


def _seen_after(line: socket.socket, beside: Beside, mark: Callable[[], None], who: str) -> float:
    request = get(f"/v1/profiles/user_id:{who}/audiences/marked", beside.key)
    began = time.perf_counter()
    mark()
    while True:
        line.sendall(request)
        answer = receive(line)
        now = time.perf_counter()
        if b'"member":true' in answer:
            return (now - began) * 1_000
        if now - began > UNSEEN_S or not (b" 200 " in answer[:16] or b" 404 " in answer[:16]):
            raise BenchError(
                f"{now - began:.1f} s after its event somebody is not seen; the service says {answer[:300]!r}"
            )
        time.sleep(POLL_S)
