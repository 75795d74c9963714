"""Warehouse tables: what a refresh, a comparison and a look-up cost.

Run it from the root of the repository: ``python -m bench.warehouse DIRECTORY ROWS``. It needs no broker.
Owns: the tables that are made for it, and the processes in which each step is measured by itself, so that its peak of
memory is its own.
Not here: events that flow meanwhile (bench.refresh), PostgreSQL (bench.postgres).
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from opportune.audiences.schema import Table
from opportune.clock import wall_clock_ms
from opportune.identity import profile_id
from state.warehouse import Comparison, Refresher, Shelf, open_snapshot

COLUMNS = ("plan", "country", "spend", "visits", "signed_up", "newsletter", "name", "score")
TABLE = Table("customers", "customers.parquet", "user_id")
SHARDS = 12
_PLANS = np.array(["free", "team", "business", "enterprise", "trial"])
_CHUNK = 500_000
_ROUNDS = 200


def write(path: Path, rows: int, flipped: float = 0.0) -> None:
    """Makes a Parquet file of people with eight columns; ``flipped``: the share of rows that have another plan."""
    dice = np.random.default_rng(11)
    names = pa.array([f"name {number}" for number in range(10_000)])
    with pa.parquet.ParquetWriter(path, _schema()) as writer:
        for at in range(0, rows, _CHUNK):
            count = min(_CHUNK, rows - at)
            plans = dice.integers(0, len(_PLANS), count)
            spend, visits = dice.integers(0, 10_000_000, count) / 100, dice.integers(0, 100_000, count)
            signed_up = 1_600_000_000_000 + dice.integers(0, 10**11, count)
            newsletter, name, score = dice.random(count) < 0.5, dice.integers(0, 10_000, count), dice.random(count)
            country = dice.integers(0, 200, count)
            other = dice.random(count) < flipped
            writer.write_table(
                pa.table(
                    {
                        "user_id": [f"u{number}" for number in range(at, at + count)],
                        "plan": _PLANS[np.where(other, (plans + 1) % len(_PLANS), plans)],
                        "country": [f"C{number}" for number in country],
                        "spend": spend,
                        "visits": visits,
                        "signed_up": pa.array(signed_up, pa.timestamp("ms")),
                        "newsletter": newsletter,
                        "name": names.take(pa.array(name)),
                        "score": score,
                    },
                    schema=_schema(),
                )
            )


def _schema() -> object:
    kinds = [
        pa.string(),
        pa.string(),
        pa.float64(),
        pa.int64(),
        pa.timestamp("ms"),
        pa.bool_(),
        pa.string(),
        pa.float64(),
    ]
    return pa.schema([("user_id", pa.string()), *zip(COLUMNS, kinds, strict=True)])


def refresh(directory: Path, shelf: Path) -> str:
    """A full refresh, from the file to published."""
    steps: list[tuple[str, float]] = []

    def progress(step: str, _: int) -> None:
        if not steps or steps[-1][0] != step:
            steps.append((step, time.perf_counter()))

    began = time.perf_counter()
    done = Refresher(
        TABLE, directory, Shelf(shelf, TABLE.name), list(COLUMNS), wall_clock_ms, progress=progress
    ).refresh()
    ended = time.perf_counter()
    spans = zip(steps, [*(at for _, at in steps[1:]), ended], strict=True)
    told = ", ".join(f"{step} {until - at:.1f}" for (step, at), until in spans)
    return (
        f"refresh: {done.outcome}, {done.manifest.rows:,} rows, {ended - began:.1f} s, resident at most {peak_mib()} MiB "
        f"({done.manifest.bytes >> 20} MiB on disk); seconds by step: {told}"
    )


def compare(shelf: Path) -> str:
    """What the shards do to find who is touched."""
    one = Shelf(shelf, TABLE.name)
    old, new = (open_snapshot(one.path(version), used=["plan", "spend"]) for version in one.versions()[-2:])
    comparison = Comparison(old, new, SHARDS)
    changed, taken = 0, []
    for part in range(comparison.parts):
        began = time.perf_counter()
        changed += len(comparison.ids(part))
        taken.append((time.perf_counter() - began) * 1000)
    return (
        f"compare 2 columns: {changed:,} rows changed, {sum(taken):.0f} ms for {SHARDS} shards in {len(taken)} parts, "
        f"the longest {max(taken):.1f} ms"
    )


def lookup(shelf: Path, count: int) -> str:
    """A look-up of ``count`` people, and what a further process has in memory of its own."""
    one = Shelf(shelf, TABLE.name)
    before = _status_kib("RssAnon")
    table = open_snapshot(one.path(one.versions()[-1]), used=["plan", "spend"])
    choose = random.Random(7)
    taken = []
    for _ in range(_ROUNDS):
        ids = [profile_id("user_id", f"u{choose.randrange(len(table))}") for _ in range(count)]
        began = time.perf_counter()
        rows = table.lookup(ids)
        taken.append(time.perf_counter() - began)
        assert None not in rows
    private = _status_kib("RssAnon") - before
    taken.sort()
    return (
        f"look-up of {count:,} in {len(table):,} rows: median {taken[_ROUNDS // 2] * 1e6:.0f} us, "
        f"p99 {taken[_ROUNDS * 99 // 100] * 1e6:.0f} us; private memory +{private / 1024:.1f} MiB"
    )


def run(directory: Path, rows: int) -> None:
    """All steps, one line each."""
    directory.mkdir(parents=True, exist_ok=True)
    shelf = directory / "warehouse"
    write(directory / TABLE.source, rows)
    alone(refresh, directory, shelf)
    alone(refresh, directory, shelf)
    write(directory / TABLE.source, rows, flipped=0.01)
    alone(refresh, directory, shelf)
    alone(compare, shelf)
    for count in (1, 10, 100, 1_000):
        alone(lookup, shelf, count)


def alone(step: Callable[..., str], *arguments: object) -> None:
    """Makes a step in a fresh process, so that its peak of memory is its own, and prints what it says."""
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        print(fresh.submit(step, *arguments).result(), flush=True)


def peak_mib() -> int:
    """The most that this process had in memory."""
    return _status_kib("VmHWM") >> 10


def _status_kib(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:"))


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))
