"""A table that is refreshed again and again and never changes: nothing may be said, and nothing may grow.

Owns: the measurement: a job whose table of N people is refreshed every few seconds. Looked at once the first refreshes are done
and at the end: membership changes, files and bytes below the state directory's ``warehouse``, open descriptors and resident
memory of the job's processes, those of a refresh left out.
Not here: refreshes that change something (bench.refresh), what one costs (bench.warehouse).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from bench.audiences import Definition
from bench.kafka import BenchError, Topics
from bench.latency import wait_started
from bench.projects import write_people, write_project
from bench.report import Result
from bench.subjects import Opportune

WARM_REFRESHES: Final = 3
START_SECONDS_MAX: Final = 1_200.0
GROWTH_MAX_MB: Final = 32.0
DESCRIPTORS_MAX: Final = 3
ON_FREE: Final = Definition("on_free", [{"attribute": "plan", "is": "free"}])
TABLE: Final = "people"


@dataclass(frozen=True)
class Shape:
    """How many rows, how often they are refreshed, and for how long, in seconds."""

    rows: int
    every: int
    seconds: float


SHORT = Shape(rows=100_000, every=5, seconds=60)
FULL = Shape(rows=1_000_000, every=10, seconds=600)


class Seen(NamedTuple):
    """What there is at an instant."""

    changes: int
    files: int
    mb: float
    descriptors: int
    resident_mb: float


def measure(bootstrap: str, work: Path, topics: Topics, shape: Shape) -> Result:
    """Measures a table that stays as it is.

    Raises:
        BenchError: the job ended, or its table is not refreshed.
    """
    topic = topics.create("soak", message_timestamp_type="LogAppendTime")
    name = f"{topics.prefix}-soak-job"
    people = write_people(work, shape.rows)
    project = write_project(
        work / "soak", name=name, bootstrap=bootstrap, events=topic, audiences=[ON_FREE], people=people
    )
    tables = json.loads((project / "warehouse.yml").read_text())
    tables["tables"][TABLE]["refresh"] = f"{shape.every} seconds"
    (project / "warehouse.yml").write_text(json.dumps(tables))
    job = Opportune("soak", project, bootstrap, f"{name}.memberships")
    job.start()
    try:
        wait_started(job, START_SECONDS_MAX)
        _refreshed(job, project, set(), WARM_REFRESHES, START_SECONDS_MAX)
        before = _look(job, project)
        ends: set[int] = set()
        _refreshed(job, project, ends, 1 << 30, shape.seconds)
        after = _look(job, project)
    finally:
        job.stop()
    return _result(before, after, len(ends), shape)


def _refreshed(job: Opportune, project: Path, ends: set[int], count: int, seconds: float) -> None:
    """Waits for so many further refreshes, or so long; ``ends`` takes when each of them ended."""
    until = time.monotonic() + seconds
    while len(ends) < count and time.monotonic() < until:
        ended = job.ended()
        if ended is not None:
            raise BenchError(f"the job ended: {ended}")
        last = project / "state" / "warehouse" / TABLE / "last.json"
        if last.exists():
            said = json.loads(last.read_bytes())
            if said["outcome"] == "failed":
                raise BenchError(f"a refresh failed: {said['error']}")
            ends.add(said["at_ms"])
        time.sleep(0.2)
    if not ends:
        raise BenchError("the table is not refreshed: see the job's log under --work")


def _look(job: Opportune, project: Path) -> Seen:
    shelf = project / "state" / "warehouse" / TABLE
    # What a refresh is writing just now is gone when it ends.
    files = [
        path for path in shelf.rglob("*") if path.is_file() and not path.relative_to(shelf).parts[0].startswith("new-")
    ]
    root = psutil.Process(job.pid)
    # The supervisor and its workers; a worker's children are refreshes.
    processes = [root, *root.children()]
    return Seen(
        job.changes(),
        len(files),
        sum(path.stat().st_size for path in files) / 2**20,
        sum(process.num_fds() for process in processes),
        sum(process.memory_info().rss for process in processes) / 2**20,
    )


def _result(before: Seen, after: Seen, refreshes: int, shape: Shape) -> Result:
    rows = [
        [name, f"{each.changes:,}", f"{each.files}", f"{each.mb:.1f}", f"{each.descriptors}", f"{each.resident_mb:.1f}"]
        for name, each in (("before", before), (f"after {refreshes} refreshes", after))
    ]
    result = Result(
        f"{shape.rows:,} rows that never change, refreshed every {shape.every} s for {shape.seconds:.0f} s",
        ["", "changes", "files", "MB of files", "descriptors", "RSS MB"],
        rows,
        [f"{refreshes} refreshes, {after.resident_mb - before.resident_mb:+.1f} MB"],
    )
    still = (before.changes, before.files) == (after.changes, after.files)
    # A refresh that runs just now has a pipe, the broker's client a connection more; a leak would be one a refresh.
    still = still and after.descriptors - before.descriptors <= DESCRIPTORS_MAX
    result.passed = still and after.resident_mb - before.resident_mb < GROWTH_MAX_MB and refreshes > 1
    word = "hold" if result.passed else "MISSED"
    result.notes.append(
        f"bars: no change, no file, at most {DESCRIPTORS_MAX} descriptors more, memory within {GROWTH_MAX_MB:.0f} MB: {word}"
    )
    return result
