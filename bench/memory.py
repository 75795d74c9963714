"""Two million profiles on disk, each with a dozen features, and how much of that is in memory.

Owns: the measurement: every person has one event of each of two names, and each fills six features. Reported are the
greatest resident memory of the job's largest process and the bytes of a profile in the state directory.
Not here: how memory is sampled (bench.meter).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.audiences import FEATURES, memory
from bench.events import Traffic, evenly
from bench.kafka import Topics, fill
from bench.meter import measure as measured
from bench.projects import write_project
from bench.report import Result
from bench.subjects import Opportune

RESIDENT_BAR = 2**30
SECONDS_MAX = 900.0
NAMES = ("Action 000", "Action 001")


@dataclass(frozen=True)
class Shape:
    """How many profiles."""

    profiles: int


SHORT = Shape(profiles=200_000)
FULL = Shape(profiles=2_000_000)


def measure(bootstrap: str, work: Path, topics: Topics, shape: Shape) -> Result:
    """Measures memory and disk of many profiles."""
    topic = topics.create("memory", message_timestamp_type="CreateTime")
    random = np.random.default_rng(11)
    total = shape.profiles * len(NAMES)
    times = evenly(int(time.time() * 1000) - 3_600_000, total, total / 3_000)
    for i, event in enumerate(NAMES):
        traffic = Traffic(weights=((event, 1.0),), people=shape.profiles, zipf=0)
        start = i * shape.profiles
        part = times[start : start + shape.profiles]
        fill(bootstrap, topic, traffic, part, people=random.permutation(shape.profiles), start=start)
    name = f"{topics.prefix}-memory-job"
    project = write_project(
        work / "memory", name=name, bootstrap=bootstrap, events=topic, audiences=memory(), people=None
    )
    job = Opportune("memory", project, bootstrap, f"{name}.memberships")
    found = measured(job, total, SECONDS_MAX)
    on_disk = size_of(project / "state")
    result = Result(
        f"{shape.profiles:,} profiles, {FEATURES} features each, {total:,} events",
        ["profiles", "RSS MB", "state on disk MB", "bytes a profile", "CPU us/event", "events/s"],
        [],
        [],
    )
    resident = found.largest / 2**20
    a_profile = on_disk / shape.profiles
    speed = f"{found.events_a_second:,.0f}"
    result.rows.append(
        [
            f"{shape.profiles:,}",
            f"{resident:,.0f}",
            f"{on_disk / 2**20:,.0f}",
            f"{a_profile:,.0f}",
            f"{found.cpu_us:.2f}",
            speed,
        ]
    )
    result.passed = found.largest < RESIDENT_BAR
    word = "holds" if result.passed else "MISSED"
    result.notes.append(f"bar: under {RESIDENT_BAR / 2**20:,.0f} MB resident: {word}")
    result.notes.append(
        "State on disk after a clean stop: profiles, timers, message ids for deduplication and log files."
    )
    result.figures.append(
        f"{shape.profiles:,} profiles: {resident:,.0f} MB resident, {a_profile:,.0f} bytes a profile on disk"
    )
    return result


def size_of(directory: Path) -> int:
    """Bytes that the files below a directory take up on disk."""
    return sum(file.stat().st_blocks * 512 for file in directory.rglob("*") if file.is_file())
