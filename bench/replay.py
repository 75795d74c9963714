"""A file of real behaviour replayed by ``opportune replay``, one process on one core; no broker.

Owns: the measurement: taobao_behavior.csv as track calls, twelve audiences, once as it is and once three times over (each
time two weeks later, under new message ids), so that memory can be compared.
The data set is not part of the repository: OPPORTUNE_SHARED_DATA names its directory.
Not here: how rows become messages with more in them (tests.integration.taobao).
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bench.kafka import BenchError
from bench.report import Result

SPEED_BAR: Final = 100_000
NAMES: Final = {"pv": "Product Viewed", "cart": "Product Added", "fav": "Product Favourited", "buy": "Order Completed"}
APART: Final = timedelta(days=14)
VIEWED, ADDED, FAVOURITED, ORDERED = NAMES.values()
AUDIENCES: Final[dict[str, Any]] = {
    "window_shopper": {"event": VIEWED, "times": ">= 3", "within": "10 minutes"},
    "very_active": {"event": VIEWED, "times": ">= 20", "within": "1 hour"},
    "browsing_lightly": {"event": VIEWED, "times": {"gte": 1, "lt": 3}, "within": "1 hour"},
    "abandoned_cart": {
        "all": [{"event": ADDED, "within": "1 hour"}],
        "none": [{"event": ORDERED, "within": "1 hour"}],
    },
    "full_cart": {"event": ADDED, "times": ">= 3", "within": "1 day"},
    "first_time_buyer": {"event": ORDERED, "times": 1},
    "regular_buyer": {"event": ORDERED, "times": ">= 3", "within": "7 days"},
    "collector": {"event": FAVOURITED, "times": ">= 3", "within": "7 days"},
    "one_category": {
        "event": VIEWED,
        "where": {"category_id": ["4756105", "3607361", "2355072", "4145813", "982926"]},
        "times": ">= 2",
        "within": "1 day",
    },
    "buys_what_is_liked": [{"event": FAVOURITED, "within": "1 day"}, {"event": ORDERED, "within": "1 day"}],
    "just_looking": {
        "all": [{"event": VIEWED, "times": ">= 10", "within": "1 day"}],
        "none": [{"event": ADDED, "within": "1 day"}, {"event": FAVOURITED, "within": "1 day"}],
    },
    "hesitating": [{"audience": "abandoned_cart"}, {"event": VIEWED, "times": ">= 2", "within": "20 minutes"}],
}


@dataclass(frozen=True)
class Shape:
    """How often each length is replayed; the fastest counts."""

    rounds: int


SHORT = Shape(rounds=1)
FULL = Shape(rounds=3)


@dataclass(frozen=True)
class Run:
    """One replay: seconds of CPU and by the clock, and the greatest resident memory in bytes."""

    cpu_s: float
    seconds: float
    resident: int


def measure(work: Path, shape: Shape) -> Result:
    """Measures both lengths.

    Raises:
        BenchError: the data set is not there, or a replay fails.
    """
    source = Path(os.environ.get("OPPORTUNE_SHARED_DATA", "")) / "taobao_behavior.csv"
    if not source.is_file():
        raise BenchError("replay needs taobao_behavior.csv in the directory that OPPORTUNE_SHARED_DATA names")
    project = _project(work / "project")
    result = Result(
        f"replay of taobao_behavior.csv, {len(AUDIENCES)} audiences, one process",
        ["file", "events", "events/s", "CPU us/event", "RSS MB"],
        [],
        [],
    )
    speeds = []
    for times in (1, 3):
        file = work / f"events-{times}.jsonl"
        events = _write(source, file, times)
        best = min((_replay(project, file) for _ in range(shape.rounds)), key=lambda run: run.cpu_s)
        speeds.append(events / best.seconds)
        cells = (
            f"{events:,}",
            f"{speeds[-1]:,.0f}",
            f"{best.cpu_s / events * 1e6:.2f}",
            f"{best.resident / 2**20:,.0f}",
        )
        result.rows.append([f"x {times}", *cells])
        result.figures.append(f"x {times}: {cells[1]} events/s, {cells[2]} us, {cells[3]} MB")
    result.passed = max(speeds) >= SPEED_BAR
    result.notes.append(f"bar: {SPEED_BAR:,} events/s: {'holds' if result.passed else 'MISSED'}")
    return result


def _project(directory: Path) -> Path:
    (directory / "audiences").mkdir(parents=True)
    (directory / "opportune.yml").write_text("name: taobao\n")
    definitions = [{"name": name, "when": when} for name, when in AUDIENCES.items()]
    (directory / "audiences" / "all.yml").write_text(json.dumps(definitions))
    return directory


def _write(source: Path, file: Path, times: int) -> int:
    """Writes the messages; returns how many."""
    events = 0
    with file.open("w", encoding="ascii") as lines:
        for again in range(times):
            with source.open(encoding="ascii", newline="") as rows:
                for row in csv.DictReader(rows):
                    at = datetime.fromtimestamp(int(row["ts"]), UTC) + again * APART
                    message = {
                        "type": "track",
                        "event": NAMES[row["behavior"]],
                        "messageId": f"m{events}",
                        "userId": row["user_id"],
                        "timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                        "properties": {"item_id": int(row["item_id"]), "category_id": row["category_id"]},
                    }
                    lines.write(json.dumps(message) + "\n")
                    events += 1
    return events


def _replay(project: Path, file: Path) -> Run:
    """The whole command: interpreter, imports, compiling, reading, and writing of the changes."""
    command = [sys.executable, "-m", "opportune.cli.main", "replay", str(project), "--events", str(file)]
    out = file.with_suffix(".changes")
    began = time.monotonic()
    process = subprocess.Popen([*command, "--out", str(out)], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"the replay ended with {process.returncode}")
    return Run(usage.ru_utime + usage.ru_stime, seconds, usage.ru_maxrss * 1024)
