"""From producing an event to the arrival of the membership change that it causes, at a steady rate.

Owns: the measurement at the rate of the bar and at half of the highest load, and its baseline: the same events at the
same rate from the same producer straight to the same consumer, with nothing but Kafka between.
Not here: pacing (bench.pacing), arrival (bench.arrivals).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.arrivals import Arrivals, instant_ms, latencies_ms
from bench.audiences import hundred, touched
from bench.events import Traffic, number_of
from bench.kafka import BenchError, Topics, fill
from bench.meter import usage
from bench.pacing import paced
from bench.projects import People, write_people, write_project
from bench.report import Result
from bench.subjects import Opportune
from bench.throughput import JOBS, WAREHOUSE_PEOPLE, Options, Run

START_SECONDS_MAX = 60.0
SAMPLES_MIN = 200
P50_BAR_MS, P99_BAR_MS = 20.0, 100.0


@dataclass(frozen=True)
class Shape:
    """How long to measure.

    Args:
        seconds: at each rate.
        warm_seconds: at the beginning of it, left out of the figures.
        rate: events a second.
        load_events: events of the pass that finds the highest load.
    """

    seconds: float
    warm_seconds: float
    rate: float = 20_000
    load_events: int = 1_000_000


SHORT = Shape(seconds=15, warm_seconds=5, load_events=500_000)
FULL = Shape(seconds=60, warm_seconds=5)
TRAFFIC = Traffic(introduced=True)
INTRODUCTION_SECONDS_MAX = 300.0


def measure(bootstrap: str, work: Path, topics: Topics, shape: Shape) -> Result:
    """Measures latency with a hundred audiences."""
    people = write_people(work, WAREHOUSE_PEOPLE)
    half = _highest_load(bootstrap, work, topics, shape) / 2
    result = Result(
        f"Produce to change, 100 audiences ({touched(hundred(), TRAFFIC):.1f} touched an event), {shape.seconds:.0f} s each",
        ["path", "events/s", "p50 ms", "p90 ms", "p99 ms", "max ms", "samples", "CPU us/event"],
        [],
        [],
        ["exits by time: from the instant at which they are due to their arrival."],
    )
    _add(result, "Kafka alone", shape.rate, _kafka_alone(bootstrap, topics, work, shape), None)
    bars = None
    for name, rate in (("", shape.rate), (" at half the highest load", half)):
        found, exits, cpu = _at(bootstrap, work, topics, people, shape, rate)
        _add(result, f"event to change{name}", rate, found, cpu)
        if len(exits):
            _add(result, f"due to exit{name}", rate, exits, None)
        bars = bars or (float(np.percentile(found, 50)), float(np.percentile(found, 99)))
    assert bars is not None
    result.passed = bars[0] < P50_BAR_MS and bars[1] < P99_BAR_MS
    word = "hold" if result.passed else "MISSED"
    result.notes.append(
        f"bars at {shape.rate:,.0f}/s: p50 {bars[0]:.1f} < {P50_BAR_MS:.0f} ms, p99 {bars[1]:.1f} < {P99_BAR_MS:.0f} ms: {word}"
    )
    return result


def _highest_load(bootstrap: str, work: Path, topics: Topics, shape: Shape) -> float:
    place = work / "load"
    place.mkdir()
    run = Run(bootstrap, place, topics, Options(events=shape.load_events, rounds=1, calibrate=False))
    return run.rounds([JOBS["hundred"]])["hundred"][0].events_a_second


def _kafka_alone(bootstrap: str, topics: Topics, work: Path, shape: Shape) -> Any:
    topic = topics.create(f"alone-{shape.rate:.0f}")
    seconds = shape.warm_seconds + 5
    with Arrivals(bootstrap, topic) as arrivals:
        with paced(bootstrap, topic, Traffic(), rate=shape.rate, seconds=seconds, file=work / "alone.npy") as pacer:
            produced = pacer.times_ns()
        arrivals.wait_quiet(0.5, 30)
    numbers = np.array([_number(value) for value in arrivals.raw], np.int64)
    taken = (np.array(arrivals.at_ns) - produced[numbers]) / 1e6
    return taken[numbers > shape.warm_seconds * shape.rate]


def _number(value: bytes) -> int:
    at = value.index(b'"messageId":"') + 13
    return number_of(value[at : at + 8].decode())


def _at(
    bootstrap: str, work: Path, topics: Topics, people: People, shape: Shape, rate: float
) -> tuple[Any, Any, float]:
    """Latencies of events, of exits by time, and CPU microseconds an event at a rate."""
    topic, start = topics.create(f"paced-{rate:.0f}", message_timestamp_type="LogAppendTime"), TRAFFIC.introduction
    fill(bootstrap, topic, TRAFFIC, np.full(start, time.time_ns() // 1_000_000, np.int64))
    name = f"{topics.prefix}-latency-{rate:.0f}"
    project = write_project(
        work / f"latency-{rate:.0f}", name=name, bootstrap=bootstrap, events=topic, audiences=hundred(), people=people
    )
    job = Opportune("latency", project, bootstrap, f"{name}.memberships")
    job.start()
    try:
        wait_started(job)
        _wait_introduced(job, start)
        with Arrivals(bootstrap, job.memberships) as arrivals:
            before = usage(job.pid)
            file = work / f"{rate:.0f}.npy"
            with paced(bootstrap, topic, TRAFFIC, rate=rate, seconds=shape.seconds, file=file, start=start) as pacer:
                produced = pacer.times_ns()
            arrivals.wait_quiet(2, 10)
            spent = usage(job.pid).cpu_s - before.cpu_s
        ended = job.ended()
        if ended is not None:
            raise BenchError(f"the job ended: {ended}")
    finally:
        job.stop()
    changes = arrivals.changes()
    which, taken = latencies_ms(changes, arrivals.at_ns, produced, start)
    taken = taken[which > shape.warm_seconds * rate]
    if len(taken) < SAMPLES_MIN:
        raise BenchError(f"only {len(taken)} changes by events: the job has not kept up, or says nothing; see --work")
    due = [(at, c) for at, c in zip(arrivals.at_ns, changes, strict=True) if c.cause == "time"]
    exits = np.array([at / 1e6 - instant_ms(c.at) for at, c in due])
    return taken, exits, spent / (rate * shape.seconds) * 1e6


def wait_started(job: Opportune, seconds: float = START_SECONDS_MAX) -> None:
    """Waits for the job's first status, at most so long.

    Raises:
        BenchError: it ended, or told none.
    """
    until = time.monotonic() + seconds
    while not job.progress_file.exists():
        ended = job.ended()
        if ended is not None or time.monotonic() > until:
            raise BenchError(f"the job did not start: {ended or job.log_tail()}")
        time.sleep(0.05)


def _wait_introduced(job: Opportune, count: int) -> None:
    until = time.monotonic() + INTRODUCTION_SECONDS_MAX
    while job.progress() < count:
        ended = job.ended()
        if ended is not None or time.monotonic() > until:
            raise BenchError(f"the job knows {job.progress():,} of {count:,} people: {ended or job.log_tail()}")
        time.sleep(0.05)


def _add(result: Result, name: str, rate: float, taken: Any, cpu_us: float | None) -> None:
    p50, p90, p99 = np.percentile(taken, [50, 90, 99])
    row = [f"{p50:.1f}", f"{p90:.1f}", f"{p99:.1f}", f"{taken.max():.0f}", f"{len(taken):,}"]
    result.rows.append([name, f"{rate:,.0f}", *row, "-" if cpu_us is None else f"{cpu_us:.1f}"])
    result.figures.append(f"{name} at {rate:,.0f}/s p50 {p50:.1f} p99 {p99:.1f} ms")
