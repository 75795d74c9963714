"""Incremental refreshes from real systems: each is asked for new rows only, and gives what a file with them gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from opportune.audiences.schema import Guard, Incremental, Origin, Table
from state.warehouse import Refreshed, Refresher, Shelf
from state.warehouse.problems import Problems
from state.warehouse.since import Since
from state.warehouse.source import open_source
from tests.integration import postgres
from tests.integration.test_warehouse_systems import COLUMNS, ROWS, USED, content

pytestmark = pytest.mark.timeout(120)
FIRST_MS = 1_600_000_000_000
LAST_MS = FIRST_MS + ROWS - 1
OVERLAP_MS = 1_000
NOW_MS = FIRST_MS + 10**9
INCREMENTAL = Incremental("since", None, 10**12, OVERLAP_MS)


class Place:
    """A project directory, and a table in some system."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def table(self, place: str, origin: Origin | None) -> Table:
        return Table("t", place, "id", columns=COLUMNS, origin=origin, guard=Guard(1.0, 1.0), incremental=INCREMENTAL)

    def refresh(self, place: str, origin: Origin | None, shelf: str) -> Refreshed:
        table = self.table(place, origin)
        return Refresher(table, self.directory, Shelf(self.directory / shelf, "t"), USED, lambda: NOW_MS).refresh()

    def check(self, place: str, origin: Origin, *, number: bool = False) -> None:
        """A full refresh, then one that is given no more than it asks for."""
        first = self.refresh(place, origin, "state")
        assert first.manifest.read_rows == ROWS
        mark = first.manifest.watermark
        assert mark is not None
        assert (mark.value, mark.instants) == (LAST_MS, True)
        second = self.refresh(place, origin, "state")
        assert second.outcome == "unchanged"
        assert self.given(place, origin, Since("since", LAST_MS - OVERLAP_MS)) == OVERLAP_MS + 1
        if number:
            assert self.given(place, origin, Since("number", ROWS - 5)) == 5

    def given(self, place: str, origin: Origin, since: Since) -> int:
        """How many rows the system gives for a condition."""
        table = self.table(place, origin)
        source = open_source(table, self.directory, Problems(table, self.directory), since)
        return sum(batch.num_rows for batch in source.batches(["id"]))


def rows(first: int, count: int, since_ms: int) -> Any:
    """Rows that were written at an instant, with another plan."""
    return content().slice(first, count).set_column(
        3, "since", pa.array([since_ms] * count, pa.timestamp("ms"))
    ).set_column(1, "plan", pa.array(["paid"] * count))  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("warehouse"))


def changed(place: Place, origin: Origin, where: str) -> None:
    """Three rows were written since: the snapshot has them, and was made of few."""
    done = place.refresh(where, origin, "state")
    assert done.outcome == "published"
    assert done.figures is not None
    assert (done.figures.changed, done.figures.added, done.figures.gone) == (3, 0, 0)
    assert done.manifest.read_rows < 2 * OVERLAP_MS


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    binaries = postgres.programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("adbc_driver_postgresql.dbapi", reason="pip install 'opportune[postgres]'")
    with postgres.server(binaries) as uri:
        yield uri


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz"])
def test_postgres(tmp_path: Path, uri: str, kind: str) -> None:
    dbapi = pytest.importorskip("adbc_driver_postgresql.dbapi")
    place = Place(tmp_path)

    def run(*statements: str) -> None:
        with dbapi.connect(uri) as connection, connection.cursor() as cursor:
            for statement in ("set time zone 'UTC'", *statements):
                cursor.execute(statement)
            connection.commit()

    run(
        "drop table if exists customers",
        f"create table customers as select 'u' || n as id, 'free' as plan, "
        f"n::numeric / 4 as spend, (timestamp '2020-09-13 12:26:40' + n * interval '1 millisecond')::{kind} as since, "
        f"n % 2 = 1 as active, n as number from generate_series(0, {ROWS - 1}) as n",
    )
    origin = Origin("postgres", "select * from customers -- all of them\n;")
    place.check(uri, origin, number=True)
    run(f"update customers set plan = 'paid', since = '2020-09-13 12:33:20+00'::{kind} where id in ('u1', 'u2', 'u3')")
    changed(place, origin, uri)


def test_duckdb(place: Place) -> None:
    duckdb = pytest.importorskip("duckdb", reason="pip install 'opportune[duckdb]'")
    pa.parquet.write_table(content(), place.directory / "t.parquet")
    path = str(place.directory / "shop.duckdb")
    with duckdb.connect(path) as connection:
        connection.execute(
            f"create table customers as select *, row_number() over () - 1 as number from '{place.directory}/t.parquet'"
        )
    origin = Origin("duckdb", "from customers")
    place.check("shop.duckdb", origin, number=True)
    with duckdb.connect(path) as connection:
        connection.execute(
            "update customers set plan = 'paid', since = '2020-09-13 12:33:20' where id in ('u1', 'u2', 'u3')"
        )
    changed(place, origin, "shop.duckdb")


def test_delta(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake", reason="pip install 'opportune[delta]'")
    place = Place(tmp_path)
    path = str(place.directory / "delta")
    deltalake.write_deltalake(path, content())
    place.check("delta", Origin("delta"))
    deltalake.DeltaTable(path).delete("id in ('u1', 'u2', 'u3')")
    deltalake.write_deltalake(path, rows(1, 3, LAST_MS + 500), mode="append")
    changed(place, Origin("delta"), "delta")


def test_iceberg(tmp_path: Path) -> None:
    catalogs = pytest.importorskip("pyiceberg.catalog", reason="pip install 'opportune[iceberg]'")
    pytest.importorskip("sqlalchemy", reason="the catalogue is in SQLite: pip install 'pyiceberg[sql-sqlite]'")
    place = Place(tmp_path)
    options = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}/iceberg"}
    (tmp_path / "iceberg").mkdir()
    catalog = catalogs.load_catalog("opportune", **options)

    def fine(table: Any) -> Any:
        at = table.schema.get_field_index("since")
        return table.set_column(at, "since", table.column("since").cast(pa.timestamp("us")))

    try:
        catalog.create_namespace("crm")
        table = catalog.create_table("crm.customers", fine(content()).schema)
        table.append(fine(content()))
        origin = Origin("iceberg", None, options)
        place.check("crm.customers", origin)
        table.delete("id in ('u1', 'u2', 'u3')")
        table.append(fine(rows(1, 3, LAST_MS + 500)))
    finally:
        catalog.close()
    changed(place, origin, "crm.customers")


def test_any_driver_of_adbc(tmp_path: Path) -> None:
    sqlite = pytest.importorskip("adbc_driver_sqlite", reason="pip install adbc-driver-sqlite")
    dbapi = pytest.importorskip("adbc_driver_sqlite.dbapi", reason="pip install adbc-driver-sqlite")
    path = tmp_path / "shop.sqlite"
    with dbapi.connect(str(path)) as connection, connection.cursor() as cursor:
        made = pa.table({"id": [f"u{n}" for n in range(100)], "plan": ["free"] * 100, "number": range(100)})
        cursor.adbc_ingest("customers", made)
        connection.commit()
    place, origin = Place(tmp_path), Origin("adbc", "select * from customers", {"uri": str(path)})
    assert place.given(sqlite._driver_path(), origin, Since("number", 90)) == 10
