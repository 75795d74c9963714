"""A warehouse table in PostgreSQL: what a full refresh takes, and an incremental one of the hundredth part that has changed.

Run it from the root of the repository: ``python -m bench.postgres DIRECTORY ROWS``. It starts a PostgreSQL of its own, which has to be
installed, on the loopback, and needs no broker.
Owns: the table, eight columns beside the key, and the refreshes, each in a process of its own.
Not here: other sources (bench.warehouse).
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from pathlib import Path

from bench.warehouse import COLUMNS, alone, peak_mib
from opportune.audiences.schema import Guard, Incremental, Origin, Table
from opportune.clock import wall_clock_ms
from state.warehouse import Refresher, Shelf
from tests.integration import postgres

MADE = """
create table customers as select
  'u' || n as user_id,
  (array['free', 'team', 'business', 'enterprise', 'trial'])[1 + n % 5] as plan,
  'C' || n % 200 as country,
  (n % 10000000) / 100.0::double precision as spend,
  (n * 7919) % 100000 as visits,
  timestamp '2020-09-13' + n * interval '1 second' as signed_up,
  n % 2 = 0 as newsletter,
  'name ' || n % 10000 as name,
  (n * 7919 % 1000003) / 1000003.0::double precision as score,
  timestamp '2025-01-01' + n * interval '1 second' as updated_at
from generate_series(0::bigint, {last}) as n
"""
CHANGED = (
    "update customers set plan = case plan when 'free' then 'team' else 'free' end, updated_at = timestamp '2026-01-01' "
    "where substr(user_id, 2)::bigint % 100 = 0"
)


def table(uri: str) -> Table:
    """The table as warehouse.yml would have it."""
    origin = Origin("postgres", "select * from customers")
    guard, new = Guard(1.0, 1.0), Incremental("updated_at", full_ms=86_400_000)
    return Table("customers", uri, "user_id", origin=origin, guard=guard, incremental=new)


def refresh(uri: str, directory: Path, full: bool) -> str:
    """A refresh, from the query to published."""
    began = time.perf_counter()
    shelf = Shelf(directory / "warehouse", "customers")
    done = Refresher(table(uri), directory, shelf, list(COLUMNS), wall_clock_ms).refresh(full=full)
    took, manifest = time.perf_counter() - began, done.manifest
    read = f"{manifest.read_rows:,} of {manifest.rows:,} rows read, " if done.outcome == "published" else ""
    changed = f"{done.figures.changed:,} rows changed, " if done.figures is not None else ""
    return (
        f"{'full' if full else 'incremental'} refresh from PostgreSQL: {done.outcome}, {read}{changed}"
        f"{took:.1f} s, resident at most {peak_mib()} MiB"
    )


def run(directory: Path, rows: int) -> None:
    """All steps, one line each."""
    binaries = postgres.programs()
    if binaries is None:
        sys.exit("PostgreSQL is not installed: apt-get install postgresql")
    dbapi = import_module("adbc_driver_postgresql.dbapi")
    directory.mkdir(parents=True, exist_ok=True)
    with postgres.server(binaries) as uri:

        def said(*statements: str) -> None:
            with dbapi.connect(uri) as connection, connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                connection.commit()

        said(MADE.format(last=rows - 1), "create index on customers (updated_at)", "analyze customers")
        alone(refresh, uri, directory, True)
        alone(refresh, uri, directory, False)
        said(CHANGED)
        alone(refresh, uri, directory, False)


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))
