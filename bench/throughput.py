"""Throughput and CPU of whole jobs over a filled topic, in turn with the calibrator.

Owns: the jobs (which traffic, which audiences), running them in turn for some rounds (A B C, A B C, ...), medians, and
the ratio to the calibrator of the same run.
Not here: how a pass is measured (bench.meter), latency and memory of their own (bench.latency, bench.storm, bench.memory).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.audiences import ACTIONS, Definition, actions, hundred, nothing, one, touched
from bench.events import Numbers, Traffic, evenly
from bench.kafka import Topics, fill
from bench.meter import Pass, Subject, measure
from bench.profiling import Profiler
from bench.projects import People, write_people, write_project
from bench.report import Result
from bench.sample import compare
from bench.subjects import Calibrator, Opportune

LOG_EVENTS_A_SECOND = 1000.0
"""Of log time: two million events are 33 minutes, so that memberships end by time all along."""
PASS_SECONDS_MAX = 600.0
CHECKED = "hundred"
"""The job whose changes are compared with the reference evaluator's."""
WAREHOUSE_PEOPLE = 200_000


@dataclass(frozen=True)
class Job:
    """A job to measure.

    Args:
        name: for the command line.
        definitions: its audiences.
        traffic: what goes in.
        bar: greatest allowed ratio of its CPU to the calibrator's; None: no bar.
        speed_bar: least allowed ratio of its throughput to the calibrator's.
    """

    name: str
    definitions: Callable[[], list[Definition]]
    traffic: Traffic
    bar: float | None = None
    speed_bar: float | None = None


SHOP_TRAFFIC = Traffic(introduced=True)
JOBS = {
    job.name: job
    for job in (
        Job("one", one, SHOP_TRAFFIC, bar=0.19, speed_bar=4.0),
        Job("hundred", hundred, SHOP_TRAFFIC, bar=0.45),
        Job("nothing", nothing, SHOP_TRAFFIC),
        Job("strangers", one, Traffic()),
        Job("ten", lambda: actions(2), Traffic(weights=ACTIONS[:2], introduced=True)),
        Job("thousand", lambda: actions(200), Traffic(weights=ACTIONS, introduced=True)),
    )
}


@dataclass(frozen=True)
class Options:
    """How much to measure.

    Args:
        events: in each topic, beside those that introduce people.
        rounds: how often each job runs.
        by_slot: the topic's partitions follow the slots of people instead of Kafka's hash of the key.
        calibrate: whether the calibrator runs in turn with the jobs.
        profile: directory for profiles of each job's last round; None: no profiles.
    """

    events: int
    rounds: int
    by_slot: bool = False
    calibrate: bool = True
    profile: Path | None = None


@dataclass(frozen=True)
class Filled:
    """A topic with its traffic in it: the mean size of a message in bytes, and the time of each event."""

    topic: str
    size: float
    times_ms: Numbers


class Run:
    """One run of some jobs: topics are filled once, every round has its own state and output topics."""

    def __init__(self, bootstrap: str, work: Path, topics: Topics, options: Options) -> None:
        self.bootstrap, self._work, self._topics, self._options = bootstrap, work, topics, options
        self._people: People = write_people(work, WAREHOUSE_PEOPLE)
        self.filled: dict[str, Filled] = {}
        self.kept: dict[str, Opportune] = {}

    def topic_for(self, job: Job) -> Filled:
        """The topic of a job's traffic; filled when first asked for."""
        key = f"{len(job.traffic.weights)}-names{'' if job.traffic.introduced else '-strangers'}"
        if key not in self.filled:
            topic = self._topics.create(f"events-{key}", message_timestamp_type="CreateTime")
            count = job.traffic.introduction + self._options.events
            # The log ends a minute ago: no event is ahead of the clock of the job that reads it.
            first = int(time.time() * 1000) - 60_000 - int(count * 1000 / LOG_EVENTS_A_SECOND)
            times = evenly(first, count, LOG_EVENTS_A_SECOND)
            size = fill(self.bootstrap, topic, job.traffic, times, by_slot=self._options.by_slot)
            self.filled[key] = Filled(topic, size, times)
        return self.filled[key]

    def subject(self, job: Job, number: int) -> Opportune:
        """A fresh ``opportune run`` for a round."""
        name = f"{self._topics.prefix}-{job.name}-{number}"
        project = write_project(
            self._work / f"{job.name}-{number}",
            name=name,
            bootstrap=self.bootstrap,
            events=self.topic_for(job).topic,
            audiences=job.definitions(),
            people=self._people,
        )
        return Opportune(job.name, project, self.bootstrap, f"{name}.memberships")

    def calibrator(self, number: int) -> Calibrator:
        """A fresh calibrator for a round; its traffic is the shop's."""
        topic = self.topic_for(JOBS["one"]).topic
        changes = self._topics.create(f"calibrator-{number}")
        return Calibrator(self._work / f"calibrator-{number}", self.bootstrap, topic, changes, self._people.plans_csv)

    def rounds(self, jobs: Sequence[Job]) -> dict[str, list[Pass]]:
        """Measures everything in turn."""
        passes: dict[str, list[Pass]] = {}
        for job in jobs:
            self.topic_for(job)
        for number in range(self._options.rounds):
            last = number == self._options.rounds - 1
            if self._options.calibrate:
                self._measure(passes, self.calibrator(number), SHOP_TRAFFIC, last)
            for job in jobs:
                subject = self.subject(job, number)
                self._measure(passes, subject, job.traffic, last)
                self.kept[job.name] = subject
        return passes

    def _measure(self, passes: dict[str, list[Pass]], subject: Subject, traffic: Traffic, last: bool) -> None:
        profiler = Profiler(self._options.profile, subject.name) if self._options.profile and last else None
        total = traffic.introduction + self._options.events
        start = profiler.start if profiler else None
        found = measure(subject, total, PASS_SECONDS_MAX, start, introduction=traffic.introduction)
        if profiler:
            # A profiler slows what it watches: its pass is not a figure.
            profiler.finish()
            if self._options.rounds > 1:
                return
        passes.setdefault(subject.name, []).append(found)
        sys.stderr.write(f"  {found.name}: {found.cpu_us:.2f} us, {found.events_a_second:,.0f} events/s\n")


def measure_jobs(names: Sequence[str], bootstrap: str, work: Path, topics: Topics, options: Options) -> Result:
    """Measures jobs by name, in turn with the calibrator.

    Returns:
        A table with a row for each, medians over the rounds.
    """
    run = Run(bootstrap, work, topics, options)
    jobs = [JOBS[name] for name in names]
    passes = run.rounds(jobs)
    sizes = ", ".join(f"{filled.size:.0f}" for filled in run.filled.values())
    result = Result(
        f"Kafka to Kafka, {options.events:,} events of {sizes} bytes by people who are known (strangers: who are not), "
        f"{options.rounds} round(s) in turn",
        [
            "job",
            "audiences",
            "touched an event",
            "CPU us/event",
            "of calibrator",
            "events/s",
            "x calibrator",
            "RSS MB",
            "changes",
        ],
        [],
        [],
        ["CPU of the whole process tree and events/s from 10 % to 90 % of those events; medians (least to greatest)."],
    )
    base = passes.get("calibrator")
    rows = [("calibrator", 1, touched(one(), SHOP_TRAFFIC))] if base else []
    rows += [(j.name, len(j.definitions()), touched(j.definitions(), j.traffic)) for j in jobs]
    for name, audiences, touch in rows:
        result.rows.append(_row(name, audiences, touch, passes[name], base))
        result.figures.append(_figure(name, passes[name], base))
    _judge(result, jobs, passes)
    if CHECKED in run.kept:
        _check(result, run, JOBS[CHECKED])
    return result


def _check(result: Result, run: Run, job: Job) -> None:
    kept = run.kept[job.name]
    found = compare(kept.directory, job.traffic, run.topic_for(job).times_ms, run.bootstrap, kept.memberships)
    result.notes.append(f"{job.name}: {found}")
    if found.missing or found.surplus:
        result.passed = False


def median(passes: Sequence[Pass], value: Callable[[Pass], float]) -> float:
    """The median of a figure over rounds."""
    return statistics.median(map(value, passes))


def _cpu(found: Pass) -> float:
    return found.cpu_us


def _speed(found: Pass) -> float:
    return found.events_a_second


def _row(name: str, audiences: int, touch: float, passes: list[Pass], base: list[Pass] | None) -> list[str]:
    cpu, speed = median(passes, _cpu), median(passes, _speed)
    least, greatest = min(map(_cpu, passes)), max(map(_cpu, passes))
    return [
        name,
        f"{audiences:,}",
        f"{touch:.2f}",
        f"{cpu:.2f} ({least:.2f}-{greatest:.2f})",
        f"{cpu / median(base, _cpu):.3f}" if base else "-",
        f"{speed:,.0f}",
        f"{speed / median(base, _speed):.2f}" if base else "-",
        f"{max(p.resident for p in passes) / 2**20:,.0f}",
        f"{passes[-1].changes:,}",
    ]


def _figure(name: str, passes: list[Pass], base: list[Pass] | None) -> str:
    cpu, speed = median(passes, _cpu), median(passes, _speed)
    ratio = f" = {cpu / median(base, _cpu):.3f} of calibrator" if base and name != "calibrator" else ""
    return f"{name} {cpu:.2f} us{ratio}, {speed:,.0f} events/s, {max(p.resident for p in passes) / 2**20:,.0f} MB"


def _judge(result: Result, jobs: Sequence[Job], passes: dict[str, list[Pass]]) -> None:
    base, held = passes.get("calibrator"), []
    for job in jobs:
        cpu, speed = median(passes[job.name], _cpu), median(passes[job.name], _speed)
        if base and job.bar is not None:
            ratio = cpu / median(base, _cpu)
            held.append(ratio <= job.bar)
            result.notes.append(f"{job.name}: {ratio:.3f} of the calibrator's CPU, bar {job.bar} {_word(held[-1])}")
        if base and job.speed_bar is not None:
            times = speed / median(base, _speed)
            held.append(times >= job.speed_bar)
            result.notes.append(
                f"{job.name}: {times:.1f} x the calibrator's throughput, bar {job.speed_bar} {_word(held[-1])}"
            )
    if "ten" in passes and "thousand" in passes:
        ratio = median(passes["thousand"], _cpu) / median(passes["ten"], _cpu)
        held.append(ratio <= 1.1)
        result.notes.append(f"1,000 audiences cost {ratio:.3f} of what 10 cost, bar 1.1 {_word(held[-1])}")
        result.figures.append(f"thousand/ten {ratio:.3f}")
    result.passed = all(held) if held else None


def _word(held: bool) -> str:
    return "holds" if held else "MISSED"
