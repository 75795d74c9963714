"""Warehouse tables from real systems: object storage, databases, lakes; each gives what a file with the same rows gives."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet
import pytest

from opportune.audiences.schema import Guard, Origin, Table, ValueType
from opportune.errors import ConfigurationError, DefinitionError, OpportuneError, TransientError
from state.warehouse import Refreshed, Refresher, Shelf, open_snapshot
from state.warehouse.systems import LIBRARIES
from tests.integration import postgres
from tests.integration.cutting import cutting

pytestmark = pytest.mark.timeout(120)
ROWS = 200_000
COLUMNS: dict[str, ValueType] = {"plan": "string", "spend": "number", "since": "timestamp", "active": "boolean"}
USED = list(COLUMNS)


def content(rows: int = ROWS) -> Any:
    return pa.table(
        {
            "id": [f"u{number}" for number in range(rows)],
            "plan": ["free" if number % 3 else None for number in range(rows)],
            "spend": pa.array([Decimal(number) / 4 for number in range(rows)], pa.decimal128(18, 2)),
            "since": pa.array([1_600_000_000_000 + number for number in range(rows)], pa.timestamp("ms")),
            "active": [bool(number % 2) for number in range(rows)],
        }
    )


class Place:
    """A project directory and what is expected of every source."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        pa.parquet.write_table(content(), directory / "t.parquet")
        self.expected = self.refresh("t.parquet", None, shelf="expected")

    def refresh(self, place: str, origin: Origin | None, shelf: str = "state") -> Refreshed:
        table = Table("t", place, "id", columns=COLUMNS, origin=origin, guard=Guard(1.0, 1.0))
        return Refresher(table, self.directory, Shelf(self.directory / shelf, "t"), USED, lambda: 1).refresh()

    def equals(self, place: str, origin: Origin) -> None:
        done = self.refresh(place, origin)
        assert done.manifest.fingerprint == self.expected.manifest.fingerprint
        assert done.manifest.rows == ROWS
        table = open_snapshot(self.directory / "state" / "t" / done.manifest.version, used=USED)
        assert [row for _, key, row in table.rows(0, 1) if key == "u3"] == [
            (None, Decimal("0.75"), 1_600_000_000_003, True)
        ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("warehouse"))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[s3,server]'")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    try:
        yield f"{host}:{port}"
    finally:
        running.stop()


class TestObjectStorage:
    def options(self, server: str) -> dict[str, str]:
        return {
            "endpoint_override": server,
            "scheme": "http",
            "region": "eu-west-1",
            "access_key": "${TEST_KEY}",
            "secret_key": "${TEST_SECRET}",
            "allow_bucket_creation": "true",
        }

    @pytest.fixture
    def bucket(self, server: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        monkeypatch.setenv("TEST_KEY", "key")
        monkeypatch.setenv("TEST_SECRET", "very-secret")
        storage = pa.fs.S3FileSystem(
            access_key="key",
            secret_key="very-secret",
            endpoint_override=server,
            scheme="http",
            region="eu-west-1",
            allow_bucket_creation=True,
        )
        storage.create_dir("lake")
        pa.parquet.write_table(content(), "lake/t.parquet", filesystem=storage)
        return self.options(server)

    def test_a_file(self, place: Place, bucket: dict[str, str]) -> None:
        place.equals("s3://lake/t.parquet", Origin("file", None, bucket))

    def test_a_file_that_is_not_there(self, place: Place, bucket: dict[str, str]) -> None:
        with pytest.raises(DefinitionError, match=r"s3://lake/x\.parquet: table 't': there is no such file"):
            place.refresh("s3://lake/x.parquet", Origin("file", None, bucket))

    def test_a_storage_that_is_down(self, place: Place, bucket: dict[str, str]) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            away = {**bucket, "endpoint_override": f"127.0.0.1:{nobody.getsockname()[1]}", "connect_timeout": "1"}
            with pytest.raises(OpportuneError) as caught:
                place.refresh("s3://lake/t.parquet", Origin("file", None, away))
        assert "very-secret" not in str(caught.value)

    def test_a_connection_that_is_lost_half_way(self, place: Place, bucket: dict[str, str], server: str) -> None:
        place.refresh("s3://lake/t.parquet", Origin("file", None, bucket))
        newest = Shelf(place.directory / "state", "t").versions()
        with cutting(server, 300_000) as line:
            cut = {**bucket, "endpoint_override": f"127.0.0.1:{line.port}"}
            with pytest.raises(TransientError, match=r"the storage (failed behind row \d+|cannot be reached)"):
                place.refresh("s3://lake/t.parquet", Origin("file", None, cut))
            assert line.cut
        assert Shelf(place.directory / "state", "t").versions() == newest

    def test_a_variable_that_is_not_set(self, place: Place, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TEST_KEY", raising=False)
        with pytest.raises(ConfigurationError, match="TEST_KEY"):
            place.refresh("s3://lake/t.parquet", Origin("file", None, self.options(server)))


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    binaries = postgres.programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    dbapi = pytest.importorskip("adbc_driver_postgresql.dbapi", reason="pip install 'opportune[postgres]'")
    with postgres.server(binaries) as uri:
        with dbapi.connect(uri) as connection, connection.cursor() as cursor:
            cursor.execute(
                "create table customers as select 'u' || n as id, case when n % 3 = 0 then null else 'free' end as plan, "
                "n::numeric / 4 as spend, timestamp '2020-09-13 12:26:40' + n * interval '1 millisecond' as since, "
                f"n % 2 = 1 as active, gen_random_uuid() as ignored from generate_series(0, {ROWS - 1}) as n"
            )
            connection.commit()
        yield uri


class TestPostgres:
    def test_a_query(self, place: Place, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_DSN", uri)
        place.equals("${TEST_DSN}", Origin("postgres", "select * from customers"))

    def test_a_query_that_it_refuses(self, place: Place, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TEST_DSN", uri)
        with pytest.raises(OpportuneError, match="nothing") as caught:
            place.refresh("${TEST_DSN}", Origin("postgres", "select * from nothing"))
        assert "hidden" not in str(caught.value)
        assert "${TEST_DSN}" in str(caught.value)

    def test_a_connection_that_is_cut_half_way(self, place: Place, uri: str) -> None:
        # The server ends its own process at the row, which is what a crash and an administrator do.
        query = (
            f"select id, plan, since, active, case when id = 'u{ROWS - 9}' then "
            "(select 1 from pg_terminate_backend(pg_backend_pid()) as gone where gone) else 1 end as spend from customers"
        )
        newest = Shelf(place.directory / "state", "t").versions()
        with pytest.raises(TransientError) as caught:
            place.refresh(uri, Origin("postgres", query))
        assert "hidden" not in str(caught.value)
        assert Shelf(place.directory / "state", "t").versions() == newest

    def test_a_server_that_is_down(self, place: Place) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            port = nobody.getsockname()[1]
            with pytest.raises(TransientError, match="cannot be opened"):
                place.refresh(f"postgresql://u:hidden@127.0.0.1:{port}/x", Origin("postgres", "select 1"))


@pytest.fixture(scope="module")
def duckdb_file(place: Place) -> None:
    duckdb = pytest.importorskip("duckdb", reason="pip install 'opportune[duckdb]'")
    with duckdb.connect(str(place.directory / "shop.duckdb")) as connection:
        connection.execute(f"create table customers as from '{place.directory}/t.parquet'")


@pytest.mark.usefixtures("duckdb_file")
class TestDuckDB:
    def test_a_query(self, place: Place) -> None:
        place.equals("shop.duckdb", Origin("duckdb", "from customers"))

    def test_a_table_that_is_not_there(self, place: Place) -> None:
        with pytest.raises(DefinitionError, match="correct `source`"):
            place.refresh("shop.duckdb", Origin("duckdb", "from nothing"))

    def test_a_file_that_is_not_there(self, place: Place) -> None:
        with pytest.raises(DefinitionError, match="there is no file"):
            place.refresh("other.duckdb", Origin("duckdb", "from customers"))


class TestDelta:
    def test_a_table(self, place: Place) -> None:
        deltalake = pytest.importorskip("deltalake", reason="pip install 'opportune[delta]'")
        path = place.directory / "delta"
        deltalake.write_deltalake(str(path), content(ROWS // 2))
        deltalake.write_deltalake(str(path), content().slice(ROWS // 2), mode="append")
        place.equals("delta", Origin("delta"))

    def test_a_directory_that_is_none(self, place: Place) -> None:
        pytest.importorskip("deltalake", reason="pip install 'opportune[delta]'")
        (place.directory / "empty").mkdir()
        with pytest.raises(OpportuneError, match="empty: table 't'"):
            place.refresh("empty", Origin("delta"))


class TestIceberg:
    def test_a_table(self, place: Place) -> None:
        catalogs = pytest.importorskip("pyiceberg.catalog", reason="pip install 'opportune[iceberg]'")
        pytest.importorskip(
            "sqlalchemy", reason="the catalogue of the test is in SQLite: pip install 'pyiceberg[sql-sqlite]'"
        )
        options = {
            "type": "sql",
            "uri": f"sqlite:///{place.directory}/catalog.db",
            "warehouse": f"file://{place.directory}/iceberg",
        }
        (place.directory / "iceberg").mkdir()
        catalog = catalogs.load_catalog("opportune", **options)
        try:
            catalog.create_namespace("crm")
            rows = content()
            at = rows.schema.get_field_index("since")
            rows = rows.set_column(at, "since", rows.column("since").cast(pa.timestamp("us")))
            catalog.create_table("crm.customers", rows.schema).append(rows)
        finally:
            catalog.close()
        place.equals("crm.customers", Origin("iceberg", None, options))


def test_any_driver_of_adbc(place: Place) -> None:
    sqlite = pytest.importorskip("adbc_driver_sqlite", reason="pip install adbc-driver-sqlite")
    dbapi = pytest.importorskip("adbc_driver_sqlite.dbapi", reason="pip install adbc-driver-sqlite")
    path = place.directory / "shop.sqlite"
    with dbapi.connect(str(path)) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("customers", content(100).select(["id", "plan"]))
        connection.commit()
    origin = Origin("adbc", "select * from customers", {"uri": str(path)})
    table = Table("t", sqlite._driver_path(), "id", columns={"plan": "string"}, origin=origin)
    done = Refresher(table, place.directory, Shelf(place.directory / "sqlite", "t"), ["plan"], lambda: 1).refresh()
    assert done.manifest.rows == 100


@pytest.mark.parametrize("kind", sorted({"snowflake", "bigquery"} & LIBRARIES.keys()))
def test_a_library_that_is_missing(place: Place, kind: str) -> None:
    try:
        __import__(LIBRARIES[kind])
    except ImportError:
        with pytest.raises(ConfigurationError, match=rf"pip install 'opportune\[{kind}\]'"):
            place.refresh("x", Origin(kind, "select 1"))
    else:
        pytest.skip(f"{LIBRARIES[kind]} is installed")
