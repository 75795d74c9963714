"""What a warehouse table of two million rows costs: seconds to load, bytes a row, microseconds a look-up.

Run it from the root of the repository: ``python -m tests.unit.warehouse.measure [ROWS] [parquet|arrow|csv]``. Prints
one line a figure.
Not a test: it asserts nothing, and its figures depend on the machine.
"""

from __future__ import annotations

import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet

from opportune.audiences.schema import Table
from opportune.identity import profile_id
from state.warehouse import load_table

_PLANS = ("free", "team", "business", "enterprise", "trial")


def main(rows: int, suffix: str) -> None:
    """Makes a file, then loads it with one used column and with three, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder) / f"customers.{suffix}", rows)
        for used in (["plan"], ["plan", "spend", "signed_up"]):
            with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
                for line in fresh.submit(measure, Path(folder), f"customers.{suffix}", used, rows).result():
                    sys.stdout.write(f"{line}\n")


def measure(directory: Path, source: str, used: list[str], rows: int) -> list[str]:
    """Loads a table and looks ids up in it; returns lines of figures."""
    table = Table("customers", source, "user_id", columns={"signed_up": "timestamp"})
    process = psutil.Process()
    before = process.memory_info().rss
    started = time.perf_counter()
    loaded = load_table(table, directory, dict.fromkeys(used))
    took = time.perf_counter() - started
    grown = process.memory_info().rss - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    lines = [
        f"{source} {len(loaded)} rows x {len(used)} columns: load {took:.2f} s, resident +{grown >> 20} MiB "
        f"({grown / rows:.0f} bytes a row), at most +{peak >> 20} MiB while loading"
    ]
    counts = (1, 10, 100, 1_000)
    return lines + [f"  look-up of {count}: {_lookup_us(loaded.lookup, rows, count):.1f} us" for count in counts]


def _lookup_us(lookup: Callable[[Sequence[bytes]], object], rows: int, count: int) -> float:
    choose = random.Random(7)
    taken = []
    for _ in range(200):
        ids = [profile_id("user_id", f"u{choose.randrange(rows)}") for _ in range(count)]
        started = time.perf_counter()
        lookup(ids)
        taken.append(time.perf_counter() - started)
    return sorted(taken)[100] * 1e6


def _write(path: Path, rows: int) -> None:
    choose = random.Random(11)
    content = pa.table(
        {
            "user_id": [f"u{number}" for number in range(rows)],
            "plan": choose.choices(_PLANS, k=rows),
            "spend": [choose.randrange(10_000_000) / 100 for _ in range(rows)],
            "signed_up": pa.array(
                [1_600_000_000_000 + choose.randrange(10**11) for _ in range(rows)], pa.timestamp("ms")
            ),
            "note": ["a column that no definition uses"] * rows,
        }
    )
    if path.suffix == ".csv":
        pa.csv.write_csv(content, path)
    elif path.suffix == ".arrow":
        pa.feather.write_feather(content, str(path), compression="zstd")
    else:
        pa.parquet.write_table(content, path)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(int(arguments[0]) if arguments else 2_000_000, arguments[1] if len(arguments) > 1 else "parquet")
