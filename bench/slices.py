"""How long a shard is at one go of a refresh: comparing a part of two snapshots, switching a slice of people.

Run it from the root of the repository: ``python -m bench.slices DIRECTORY ROWS``. It needs no broker. What a go takes is what an
event that comes meanwhile waits; CPU time of the thread is given beside it, which other work on the machine leaves alone.
Owns: actors over RocksDB with 101 audiences, a table, and a tenth of its rows changed.
Not here: the same with events, Kafka and the engine around it (bench.refresh).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

import numpy as np

from bench.audiences import hundred
from bench.projects import write_people, write_project
from bench.refresh import ON_FREE, flipped
from flows.loop import Loop
from opportune.audiences.loader import load_project
from opportune.audiences.plan import Plan
from opportune.clock import wall_clock_ms
from state.rocks import RocksStore, shared_memory
from state.warehouse import Refresher, Shelf, WarehouseTable, columns_of, open_snapshot

SHARDS: Final = 4
SHARE: Final = 0.1


def run(directory: Path, rows: int) -> None:
    """All steps, one line each."""
    directory.mkdir(parents=True, exist_ok=True)
    people = write_people(directory, rows)
    audiences = [*hundred(), ON_FREE]
    place = write_project(
        directory / "project",
        name="slices",
        bootstrap="127.0.0.1:9",
        events="events",
        audiences=audiences,
        people=people,
    )
    project = load_project(place, columns_of)
    used = Plan(project).columns["people"]
    refresher = Refresher(project.tables["people"], place, Shelf(directory, "people"), used, wall_clock_ms)

    def published() -> dict[str, WarehouseTable]:
        done = refresher.refresh(unguarded=True)
        return {"people": open_snapshot(refresher.shelf.path(done.manifest.version), used=used)}

    memory = shared_memory()
    stores = [RocksStore(directory / "shards" / str(shard), memory) for shard in range(SHARDS)]
    began = time.perf_counter()
    loop = Loop(project, SHARDS, stores.__getitem__, published(), began_ms=wall_clock_ms())
    print(f"everybody of {rows:,} rows found: {time.perf_counter() - began:.1f} s")
    flipped(place, SHARE)
    loop.advance(wall_clock_ms())
    told = len(loop.changes)
    loop.refresh(published(), finish=False)
    taken: list[tuple[float, float]] = []
    for actor in loop.actors:
        while actor.overdue:
            wall, cpu = time.perf_counter(), time.thread_time()
            messages = actor.sweep()
            taken.append((time.perf_counter() - wall, time.thread_time() - cpu))
            loop.take(messages)
    walls, cpus = (np.array(times) * 1000 for times in zip(*taken, strict=True))
    print(
        f"{SHARE:.0%} changed, {len(loop.changes) - told:,} memberships in {len(taken)} goes: CPU {cpus.sum() / 1000:.1f} s; a go: "
        f"CPU median {np.median(cpus):.1f}, p99 {np.percentile(cpus, 99):.1f}, max {cpus.max():.1f} ms; "
        f"wall median {np.median(walls):.1f}, p99 {np.percentile(walls, 99):.1f}, max {walls.max():.1f} ms"
    )


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))
