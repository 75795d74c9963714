"""A warehouse table that changes while events go on: how long until everybody has moved, and how long events wait.

Owns: the measurement. A job runs over a table of N people at a steady rate of events; a share of the rows gets another plan, the
table is refreshed, and everybody whom that concerns must enter or exit, while the changes that events cause must not wait.
Baseline: the same traffic in the seconds before.
Not here: what a refresh costs without a job (bench.warehouse), pacing (bench.pacing), arrival (bench.arrivals).
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from bench.arrivals import Arrivals, latencies_ms
from bench.audiences import Definition, hundred
from bench.events import Traffic
from bench.kafka import BenchError, Topics
from bench.latency import wait_started
from bench.pacing import paced
from bench.projects import write_people, write_project
from bench.report import Result
from bench.subjects import Opportune

LIVE_P99_BAR_MS: Final = 1_000.0
MOVED_BAR_S: Final = 60.0
QUIET_SECONDS: Final = 20.0
START_SECONDS_MAX: Final = 1_200.0
"""The first start finds a person of each row."""
ON_FREE: Final = Definition("on_free", [{"attribute": "plan", "is": "free"}])
"""So that everybody whose plan changes moves, and not only those whom events have brought near an audience."""
NICE: Final = "10"
OTHER: Final = {"free": "pro", "pro": "free", "team": "free", "enterprise": "pro"}


@dataclass(frozen=True)
class Shape:
    """How much.

    Args:
        rows: of the table.
        share: of the rows that get another plan.
        before_s: of traffic before that; the first ``warm_s`` of them are left out.
        after_s: of traffic from then on.
        rate: of the traffic, events a second.
    """

    rows: int
    share: float
    before_s: float
    after_s: float
    warm_s: float = 5
    rate: float = 5_000


SHORT = Shape(rows=300_000, share=0.1, before_s=15, after_s=25)
FULL = Shape(rows=5_000_000, share=0.01, before_s=30, after_s=120)


def measure(bootstrap: str, work: Path, topics: Topics, shape: Shape) -> Result:
    """Measures a refresh.

    Raises:
        BenchError: the job ended, or nobody moved.
    """
    topic = topics.create("refresh", message_timestamp_type="LogAppendTime")
    name = f"{topics.prefix}-refresh-job"
    people = write_people(work, shape.rows)
    project = write_project(
        work / "refresh", name=name, bootstrap=bootstrap, events=topic, audiences=[*hundred(), ON_FREE], people=people
    )
    _let_pass(project)
    job = Opportune("refresh", project, bootstrap, f"{name}.memberships")
    job.start()
    seconds = shape.before_s + shape.after_s
    try:
        wait_started(job, START_SECONDS_MAX)
        with Arrivals(bootstrap, job.memberships) as arrivals:
            arrivals.wait_quiet(2, QUIET_SECONDS)
            with paced(bootstrap, topic, Traffic(), rate=shape.rate, seconds=seconds, file=work / "live.npy") as pacer:
                changing = _Changing(project, shape)
                changing.start()
                produced = pacer.times_ns()
            changing.join()
            arrivals.wait_quiet(2, QUIET_SECONDS)
        ended = job.ended()
        if ended is not None or changing.failed:
            raise BenchError(f"the job or the refresh ended: {ended or changing.failed}")
    finally:
        job.stop()
    return _result(arrivals, produced, changing, shape)


def _let_pass(project: Path) -> None:
    """The table with a guard that lets everything through."""
    path = project / "warehouse.yml"
    tables = json.loads(path.read_text())
    tables["tables"]["people"]["guard"] = {"rows_lost": "100%", "cells_changed": "100%"}
    path.write_text(json.dumps(tables))


class _Changing(threading.Thread):
    """Changes the table once, and refreshes it as the job would.

    Attributes:
        committed_ns, published_ns: when the source was changed, and when its snapshot was published.
        failed: what went wrong.
    """

    def __init__(self, project: Path, shape: Shape) -> None:
        super().__init__(daemon=True)
        self._project = project
        self._shape = shape
        self.committed_ns = self.published_ns = 0
        self.failed = ""
        # Made before the traffic begins, so that making it takes nothing from the job.
        self._new = _flipped_beside(project, shape.share)

    def run(self) -> None:
        time.sleep(self._shape.before_s)
        self._new.rename(self._project / "people.parquet")
        self.committed_ns = time.time_ns()
        command = ["nice", "-n", NICE, sys.executable, "-m", "opportune.cli.main", "warehouse", "refresh"]
        done = subprocess.run([*command, str(self._project), "--quiet"], capture_output=True, text=True, check=False)
        self.published_ns = time.time_ns()
        if done.returncode or "published as" not in done.stdout:
            self.failed = done.stdout + done.stderr


def flipped(project: Path, share: float) -> None:
    """Gives a share of the rows another plan."""
    _flipped_beside(project, share).rename(project / "people.parquet")


def _flipped_beside(project: Path, share: float) -> Path:
    table = parquet.read_table(project / "people.parquet")
    plans = np.array(table.column("plan").to_pylist(), dtype=object)
    chosen = np.random.default_rng(3).random(len(plans)) < share
    plans[chosen] = [OTHER[plan] for plan in plans[chosen]]
    beside = project / "people.new"
    at = table.schema.get_field_index("plan")
    parquet.write_table(table.set_column(at, "plan", pa.array(plans.tolist())), beside)
    return beside


def _result(arrivals: Arrivals, produced: Any, changing: _Changing, shape: Shape) -> Result:
    changes = arrivals.changes()
    at_ns = np.array(arrivals.at_ns[: len(changes)])
    by_rows = np.array([change.cause == "attribute" for change in changes]) & (at_ns > changing.committed_ns)
    if not by_rows.any():
        raise BenchError("nobody moved: see the job's log under --work")
    last_ns = int(at_ns[by_rows].max())
    people = len({changes[at].identifiers["user_id"][0] for at in np.flatnonzero(by_rows)})
    which, taken = latencies_ms(changes, arrivals.at_ns, produced)
    made = produced[which]
    warm = produced[0] + shape.warm_s * 1e9
    before = taken[(made >= warm) & (made < changing.committed_ns)]
    during = taken[(made >= changing.committed_ns) & (made <= last_ns)]
    switching = taken[(made >= changing.published_ns) & (made <= last_ns)]
    published_s = (changing.published_ns - changing.committed_ns) / 1e9
    moved_s = (last_ns - changing.committed_ns) / 1e9
    result = Result(
        f"{shape.share:.0%} of {shape.rows:,} rows change, {shape.rate:,.0f} events/s go on, 101 audiences",
        ["", "seconds", "people moved", "changes", "live p50 ms", "live p99 ms", "live max ms", "live samples"],
        [
            ["before", f"{shape.before_s - shape.warm_s:.0f}", "-", "-", *_live(before)],
            ["commit to published", f"{published_s:.1f}", "-", "-", "-", "-", "-", "-"],
            ["commit to the last change", f"{moved_s:.1f}", f"{people:,}", f"{int(by_rows.sum()):,}", *_live(during)],
            ["published to the last change", f"{moved_s - published_s:.1f}", "-", "-", *_live(switching)],
        ],
        [],
    )
    p99 = float(np.percentile(during, 99)) if len(during) else float("inf")
    result.passed = moved_s < MOVED_BAR_S and p99 < LIVE_P99_BAR_MS
    result.figures.append(f"{people:,} people moved in {moved_s:.1f} s; live p99 {p99:.0f} ms")
    word = "hold" if result.passed else "MISSED"
    result.notes.append(f"bars: all within {MOVED_BAR_S:.0f} s, live p99 under {LIVE_P99_BAR_MS:.0f} ms: {word}")
    return result


def _live(taken: Any) -> list[str]:
    if not len(taken):
        return ["-", "-", "-", "0"]
    p50, p99 = np.percentile(taken, [50, 99])
    return [f"{p50:.1f}", f"{p99:.1f}", f"{taken.max():.0f}", f"{len(taken):,}"]
