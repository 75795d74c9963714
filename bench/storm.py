"""Very many memberships that end in the same second, while other people's events go on.

Owns: the measurement. N people are shown an offer within one second of log time; a window later all of them leave by
time, while a steady traffic of other people goes on. Every exit must arrive, with ``at`` at exactly the person's own
instant; the changes that events cause meanwhile must not wait; memory must stay bounded.
Not here: pacing (bench.pacing), arrival (bench.arrivals).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.arrivals import Arrivals, Change, instant_ms, latencies_ms
from bench.audiences import STORM, storm
from bench.events import Numbers, Traffic, evenly, person_name
from bench.kafka import BenchError, Topics, fill
from bench.latency import wait_started
from bench.meter import usage
from bench.pacing import paced
from bench.projects import write_people, write_project
from bench.report import Result
from bench.subjects import Opportune
from bench.throughput import WAREHOUSE_PEOPLE

LIVE_P99_BAR_MS = 1000.0
FIRST_STORM_PERSON = 5_000_000
FIRST_STORM_EVENT = 2_000_000_000
QUIET_SECONDS = 20.0


@dataclass(frozen=True)
class Shape:
    """How big the storm is.

    Args:
        memberships: that end in one second.
        window_s: how long they last: long enough that all are entered before the first one leaves.
        after_s: for how long the traffic goes on after the storm has begun.
        rate: of the traffic, events a second.
    """

    memberships: int
    window_s: int
    after_s: int
    rate: float = 5_000


SHORT = Shape(memberships=100_000, window_s=45, after_s=20)
FULL = Shape(memberships=1_000_000, window_s=120, after_s=60)


class _Memory(threading.Thread):
    """Samples a process tree's memory five times a second: seconds since the epoch, bytes of its largest process."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self.stopped = pid, threading.Event()
        self.samples: list[tuple[float, int]] = []

    def run(self) -> None:
        while not self.stopped.wait(0.2):
            try:
                self.samples.append((time.time(), usage(self._pid).largest))
            except psutil.NoSuchProcess:
                return

    def greatest(self, begin_s: float, end_s: float) -> float:
        """MB, between two instants."""
        return max((size for at, size in self.samples if begin_s <= at <= end_s), default=0) / 2**20


@dataclass
class _Seen:
    """What arrived: the changes, when, and the instants at which the storm's people were shown the offer."""

    changes: list[Change]
    at_ns: list[int]
    produced_ns: Numbers
    shown_ms: Numbers
    memory: _Memory
    window_ms: int

    @property
    def begin_ms(self) -> int:
        """When the first membership of the storm ends."""
        return int(self.shown_ms[0]) + self.window_ms


def measure(bootstrap: str, work: Path, topics: Topics, shape: Shape) -> Result:
    """Measures an expiry storm.

    Raises:
        BenchError: the job ended, or did not enter everybody before the storm.
    """
    seen = _run(bootstrap, work, topics, shape)
    entered, exits, wrong, done_ms = _exits(seen)
    if entered < shape.memberships:
        raise BenchError(f"only {entered:,} of {shape.memberships:,} were entered: give --full's window more seconds")
    which, taken = latencies_ms(seen.changes, seen.at_ns, seen.produced_ns)
    made_ms = seen.produced_ns[which] / 1e6
    during = taken[(made_ms >= seen.begin_ms) & (made_ms <= done_ms)]
    before = taken[(made_ms >= seen.begin_ms - 10_000) & (made_ms < seen.begin_ms)]
    seconds = (done_ms - seen.begin_ms) / 1000
    greatest = seen.memory.greatest(seen.begin_ms / 1000, done_ms / 1000 + 5)
    result = Result(
        f"{shape.memberships:,} memberships end in one second, {shape.rate:,.0f} events/s go on",
        ["", "exits", "wrong at", "seconds", "live p50 ms", "live p99 ms", "live samples", "RSS MB"],
        [
            ["10 s before", "-", "-", "10", *_live(before), f"{seen.memory.greatest(0, seen.begin_ms / 1000):,.0f}"],
            ["storm", f"{exits:,}", f"{wrong:,}", f"{seconds:.1f}", *_live(during), f"{greatest:,.0f}"],
        ],
        [],
    )
    p99 = float(np.percentile(during, 99)) if len(during) else float("inf")
    result.passed = exits == shape.memberships and wrong == 0 and p99 < LIVE_P99_BAR_MS
    result.figures.append(
        f"{exits:,} exits, {wrong} wrong, in {seconds:.1f} s; live p99 {p99:.0f} ms; {greatest:,.0f} MB"
    )
    word = "hold" if result.passed else "MISSED"
    result.notes.append(f"bars: all exits with the right `at`, live p99 under {LIVE_P99_BAR_MS:.0f} ms: {word}")
    return result


def _run(bootstrap: str, work: Path, topics: Topics, shape: Shape) -> _Seen:
    topic = topics.create("storm", message_timestamp_type="CreateTime")
    name = f"{topics.prefix}-storm-job"
    people = write_people(work, WAREHOUSE_PEOPLE)
    project = write_project(
        work / "storm",
        name=name,
        bootstrap=bootstrap,
        events=topic,
        audiences=storm(f"{shape.window_s} seconds"),
        people=people,
    )
    crowd = Traffic(weights=((STORM, 1.0),), people=shape.memberships, zipf=0, first_person=FIRST_STORM_PERSON)
    job = Opportune("storm", project, bootstrap, f"{name}.memberships")
    job.start()
    try:
        wait_started(job)
        with Arrivals(bootstrap, job.memberships) as arrivals:
            shown = evenly(int(time.time() * 1000) - 1000, shape.memberships, float(shape.memberships))
            everybody = np.arange(shape.memberships)
            fill(bootstrap, topic, crowd, shown, people=everybody, start=FIRST_STORM_EVENT)
            seconds = shown[0] / 1000 + shape.window_s + shape.after_s - time.time()
            memory = _Memory(job.pid)
            memory.start()
            with paced(bootstrap, topic, Traffic(), rate=shape.rate, seconds=seconds, file=work / "live.npy") as pacer:
                produced = pacer.times_ns()
            arrivals.wait_quiet(2, QUIET_SECONDS)
        memory.stopped.set()
        memory.join()
        ended = job.ended()
        if ended is not None:
            raise BenchError(f"the job ended: {ended}")
    finally:
        job.stop()
    return _Seen(arrivals.changes(), arrivals.at_ns, produced, shown, memory, shape.window_s * 1000)


def _exits(seen: _Seen) -> tuple[int, int, int, float]:
    """People entered, people who left, exits at another instant than theirs, and when the last one arrived (ms)."""
    ends_at = {person_name(FIRST_STORM_PERSON + i): int(t) + seen.window_ms for i, t in enumerate(seen.shown_ms)}
    entered, left, wrong, done = set(), set(), 0, float(seen.begin_ms)
    for change, at_ns in zip(seen.changes, seen.at_ns, strict=True):
        if change.audience != "offered":
            continue
        person = change.identifiers["user_id"][0]
        if change.change == "entered":
            entered.add(person)
            continue
        left.add(person)
        wrong += instant_ms(change.at) != ends_at[person]
        done = max(done, at_ns / 1e6)
    return len(entered), len(left), wrong, done


def _live(taken: Any) -> list[str]:
    if not len(taken):
        return ["-", "-", "0"]
    p50, p99 = np.percentile(taken, [50, 99])
    return [f"{p50:.1f}", f"{p99:.1f}", f"{len(taken):,}"]
