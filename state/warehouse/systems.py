"""Systems that a warehouse table can come from beside files: databases through ADBC, DuckDB, Delta Lake, Iceberg.

Owns: opening each of them as Arrow record batches, which library each needs, and whose fault a failure is: what the author
wrote (DefinitionError), or a system that cannot be reached now (TransientError).
Invariant: a library is imported only where a table asks for it, and one that is missing is named with how to install it;
rows are streamed, never held as a whole.
Not here: files (state.warehouse.source), secrets (state.warehouse.secrets).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pyarrow as pa

from opportune.audiences.schema import Origin
from opportune.errors import ConfigurationError, DefinitionError, OpportuneError, TransientError
from state.warehouse.secrets import Secrets
from state.warehouse.since import Since

BATCH_ROWS = 65_536
LIBRARIES = {
    "postgres": "adbc_driver_postgresql.dbapi",
    "flight_sql": "adbc_driver_flightsql.dbapi",
    "snowflake": "adbc_driver_snowflake.dbapi",
    "bigquery": "adbc_driver_bigquery.dbapi",
    "adbc": "adbc_driver_manager.dbapi",
    "duckdb": "duckdb",
    "delta": "deltalake",
    "iceberg": "pyiceberg.catalog",
}
"""The module of each system; the extra that installs it has the system's name with `-` for `_`."""
_AUTHORS = frozenset({
    "ProgrammingError",
    "NotSupportedError",
    "ParserException",
    "BinderException",
    "CatalogException",
    "TableNotFoundError",
    "NoSuchTableError",
    "NoSuchNamespaceError",
})  # fmt: skip
"""Names of errors of these libraries that say that the query or the table's name is wrong."""


class Rows(NamedTuple):
    """An opened system: the schema of its rows, and their batches with these columns."""

    schema: Any
    batches: Callable[[list[str]], Iterator[Any]]


class Opening(NamedTuple):
    """What to open: the system, its place with secrets in it, where errors say it is, and from where on rows are wanted."""

    origin: Origin
    place: str
    options: dict[str, str]
    directory: Path
    label: str
    secrets: Secrets
    since: Since | None = None

    def fail(self, error: BaseException, what: str) -> NoReturn:
        """Raises an error of a library as one of ours."""
        told = self.secrets.masked(" ".join(str(error).split()))[:400] or type(error).__name__
        if type(error).__name__ in _AUTHORS:
            raise DefinitionError(f"{self.label}: {what}: {told}; correct `source` in warehouse.yml") from error
        raise TransientError(
            f"{self.label}: {what}: {told}; see that it can be reached from here, and try again"
        ) from error

    def query(self, schema_of: Callable[[str], Any]) -> str:
        """The SQL to run: with the condition on new rows, where the column's type says how it compares.

        Args:
            schema_of: runs a query and returns the Arrow schema of its result.
        """
        query = self.origin.query
        assert query is not None, "the check of warehouse.yml asks for a query"
        if self.since is None:
            return query
        schema = schema_of(without_rows(query))
        known = self.since.column in schema.names
        asked = self.since.in_sql(query, schema.field(self.since.column).type, self.origin.kind) if known else None
        return query if asked is None else asked


def open_system(opening: Opening) -> Rows:
    """Opens a system.

    Raises:
        ConfigurationError: its library is missing.
        DefinitionError: it refuses the query or has no such table.
        TransientError: it cannot be reached.
    """
    kind = opening.origin.kind
    try:
        library = import_module(LIBRARIES[kind])
    except ImportError as error:
        extra = kind.replace("_", "-")
        raise ConfigurationError(
            f"{opening.label}: a source of the kind {kind!r} needs the library "
            f"{LIBRARIES[kind].partition('.')[0]}: pip install 'opportune[{extra}]'"
        ) from error
    opener = {"duckdb": _duckdb, "delta": _delta, "iceberg": _iceberg}.get(kind, _adbc)
    try:
        rows = opener(library, opening)
    except OpportuneError:
        raise
    except Exception as error:  # each library has errors of its own
        opening.fail(error, "the source cannot be opened")
    return Rows(rows.schema, lambda columns: _told(opening, rows.batches(columns)))


def _told(opening: Opening, batches: Iterator[Any]) -> Iterator[Any]:
    """The batches; an error on the way is told with how far they came."""
    rows = 0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except Exception as error:  # each library has errors of its own
            opening.fail(error, f"the source failed behind row {rows}")
        rows += batch.num_rows
        yield batch


def _adbc(library: Any, opening: Opening) -> Rows:
    kind, place, options = opening.origin.kind, opening.place, opening.options
    stack = ExitStack()
    try:
        if kind == "adbc":
            connection = library.connect(driver=place, db_kwargs=options)
        elif kind == "bigquery":
            connection = library.connect(db_kwargs={"adbc.bigquery.sql.project_id": place, **options})
        else:
            connection = library.connect(place, db_kwargs=options)
        stack.enter_context(connection)
        cursor = stack.enter_context(connection.cursor())

        def schema_of(query: str) -> Any:
            with connection.cursor() as asking:
                asking.execute(query)
                return asking.fetch_record_batch().schema

        cursor.execute(opening.query(schema_of))
        reader = cursor.fetch_record_batch()
    except BaseException:
        stack.close()
        raise
    return Rows(reader.schema, _once(reader, stack))


def _duckdb(library: Any, opening: Opening) -> Rows:
    path = opening.directory / opening.place
    if not path.is_file():
        raise DefinitionError(f"{opening.label}: there is no file {path}; correct `source.duckdb` in warehouse.yml")
    stack = ExitStack()
    try:
        connection = stack.enter_context(library.connect(str(path), read_only=True, config=opening.options))
        query = opening.query(lambda text: connection.sql(text).to_arrow_reader(1).schema)
        reader = connection.sql(query).to_arrow_reader(BATCH_ROWS)
    except BaseException:
        stack.close()
        raise
    return Rows(reader.schema, _once(reader, stack))


def _once(reader: Any, stack: ExitStack) -> Callable[[list[str]], Iterator[Any]]:
    """The batches of a reader that can be read once; then everything is closed."""

    def batches(columns: list[str]) -> Iterator[Any]:
        with stack:
            for batch in reader:
                for at in range(0, batch.num_rows, BATCH_ROWS):
                    yield batch.slice(at, BATCH_ROWS).select(columns)

    return batches


def _delta(library: Any, opening: Opening) -> Rows:
    place = opening.place if "://" in opening.place else str(opening.directory / opening.place)
    dataset = library.DeltaTable(place, storage_options=opening.options or None).to_pyarrow_dataset()

    wanted = opening.since.of_dataset(dataset.schema) if opening.since is not None else None

    def batches(columns: list[str]) -> Iterator[Any]:
        scanner = dataset.scanner(columns=columns, filter=wanted, batch_size=BATCH_ROWS, use_threads=False)
        yield from scanner.to_batches()

    return Rows(dataset.schema, batches)


def _iceberg(library: Any, opening: Opening) -> Rows:
    table = library.load_catalog("opportune", **opening.options).load_table(opening.place)
    schema = table.scan().to_arrow_batch_reader().schema

    wanted = opening.since.in_iceberg(schema) if opening.since is not None else None

    def batches(columns: list[str]) -> Iterator[Any]:
        scan = table.scan(selected_fields=tuple(columns))
        if wanted is not None:
            scan = scan.filter(import_module("pyiceberg.expressions").GreaterThanOrEqual(*wanted))
        yield from scan.to_arrow_batch_reader()

    return Rows(schema, batches)


def without_rows(query: str) -> str:
    """A query that has the columns of another one and no rows."""
    return f"select * from ({query.strip().rstrip(';').rstrip()}\n) opportune_rows where 1 = 0"  # noqa: S608 - the project's own query


def stored_type(kind: Any) -> Any:
    """The Arrow type under an extension type, which databases use for what Arrow has no type for."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def is_number_as_text(kind: Any) -> bool:
    """Whether a column holds decimals of any size as text, as PostgreSQL's ``numeric`` comes."""
    return isinstance(kind, pa.OpaqueType) and kind.type_name == "numeric"
