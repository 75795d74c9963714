"""How fast a process works through a topic, and what that costs.

Owns: sampling a subject's progress, CPU (user and system, of the whole process tree) and memory from outside, and the
figures between a tenth and nine tenths of the work. A sample is taken when the subject has written new progress, so
that count, time and CPU belong together.
Not here: what the subject is (bench.subjects).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import psutil

from bench.kafka import BenchError

LOW, HIGH = 0.1, 0.9
STALL_SECONDS = 60.0


class Subject(Protocol):
    """A process that works through an events topic."""

    name: str

    @property
    def pid(self) -> int:
        """The process; its children count as part of it."""

    @property
    def progress_file(self) -> Path:
        """The file that it replaces whenever it has new progress to tell."""

    def start(self) -> None:
        """Starts the process."""

    def progress(self) -> int:
        """How many events it has applied so far, by its newest progress file; 0 before there is one."""

    def ended(self) -> str | None:
        """None while it runs; else how it ended, for an error."""

    def stop(self) -> None:
        """Ends it cleanly and waits for that."""

    def changes(self) -> int:
        """Membership changes on its output topic."""


@dataclass(frozen=True)
class Usage:
    """CPU seconds (user + system) of a process tree, resident bytes of all of it and of its largest process."""

    cpu_s: float
    resident: int
    largest: int


def usage(pid: int) -> Usage:
    """Of a process and its living children."""
    root = psutil.Process(pid)
    cpu, resident, largest = 0.0, 0, 0
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
            cpu += times.user + times.system
            memory = process.memory_info().rss
            resident += memory
            largest = max(largest, memory)
        except psutil.NoSuchProcess:
            continue
    return Usage(cpu, resident, largest)


@dataclass
class Pass:
    """One run of a subject over a topic.

    Args:
        name: of the subject.
        events: how many there were, without those that introduce people.
        seconds: from a tenth to nine tenths of them.
        cpu_s: CPU in that time.
        cpu_all_s: CPU from the process's start until it was stopped.
        resident: greatest resident memory seen of all its processes together, bytes.
        largest: the same of its largest process.
        changes: membership changes on the output topic.
    """

    name: str
    events: int
    seconds: float
    cpu_s: float
    cpu_all_s: float
    resident: int
    largest: int
    changes: int = 0

    @property
    def events_a_second(self) -> float:
        """Between a tenth and nine tenths of the work."""
        return self.events * (HIGH - LOW) / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU microseconds an event, between a tenth and nine tenths of the work."""
        return self.cpu_s / (self.events * (HIGH - LOW)) * 1e6


@dataclass
class _Samples:
    at: list[float] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def measure(
    subject: Subject,
    total: int,
    seconds_max: float,
    while_running: Callable[[int], None] | None = None,
    introduction: int = 0,
) -> Pass:
    """Runs a subject until it has applied ``total`` events.

    Args:
        subject: is started here and stopped here.
        total: events in its topic.
        seconds_max: when to give up.
        while_running: called once, at a tenth of the work, with the process id (for a profiler).
        introduction: so many of the first events are no part of the work that is measured.

    Raises:
        BenchError: it ended early, stood still, or took too long.
    """
    samples, resident, largest, seen = _Samples(), 0, 0, 0
    edges = [introduction + (total - introduction) * edge for edge in (LOW, HIGH)]
    started = changed = time.monotonic()
    subject.start()
    try:
        samples.at.append(started)
        samples.events.append(0)
        samples.cpu.append(0.0)
        while samples.events[-1] < total:
            stamp = _stamp(subject.progress_file)
            now = time.monotonic()
            if stamp != seen:
                seen, count, used = stamp, subject.progress(), usage(subject.pid)
                resident, largest = max(resident, used.resident), max(largest, used.largest)
                if count > samples.events[-1]:
                    changed = now
                    samples.at.append(now)
                    samples.events.append(count)
                    samples.cpu.append(used.cpu_s)
                    if while_running is not None and count > edges[0]:
                        while_running(subject.pid)
                        while_running = None
            ended = subject.ended()
            if ended is not None:
                raise BenchError(f"{subject.name} ended after {samples.events[-1]:,} of {total:,} events: {ended}")
            if now - changed > STALL_SECONDS or now - started > seconds_max:
                raise BenchError(
                    f"{subject.name} stands at {samples.events[-1]:,} of {total:,} events after {now - started:.0f} s"
                )
            time.sleep(0.005)
    finally:
        used = usage(subject.pid) if subject.ended() is None else Usage(0, 0, 0)
        subject.stop()
    return _figures(subject, total - introduction, edges, samples, Usage(used.cpu_s, resident, largest))


def _figures(subject: Subject, events: int, edges: list[float], samples: _Samples, used: Usage) -> Pass:
    at = np.interp(edges, samples.events, samples.at)
    cpu = np.interp(edges, samples.events, samples.cpu)
    return Pass(
        name=subject.name,
        events=events,
        seconds=float(at[1] - at[0]),
        cpu_s=float(cpu[1] - cpu[0]),
        cpu_all_s=used.cpu_s,
        resident=used.resident,
        largest=used.largest,
        changes=subject.changes(),
    )


def _stamp(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
