"""warehouse.yml: tables, and what a column in a definition means.

Owns: from ``column`` or ``table.column`` to the one table that has it, and the column's type.
Not here: reading tables (state.warehouse), which hands in ``columns_of`` so that nothing here knows file formats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import msgspec

from opportune.audiences.diagnostics import Report, Unreadable, listed, printable, quoted
from opportune.audiences.durations import SECOND_MS, YEAR_MS
from opportune.audiences.events_file import type_of
from opportune.audiences.fields import Fields, duration, fields_of, kind, mapping_of, text_of
from opportune.audiences.schema import Guard, Incremental, Span, Table, ValueType
from opportune.audiences.source_file import read_guard, read_incremental, read_source
from opportune.audiences.yaml_tree import Node, SequenceNode
from opportune.errors import DefinitionError
from opportune.identifiers import USER_ID, IdentitySettings, Namespace

ColumnsOf: TypeAlias = Callable[[Table, Path], Mapping[str, ValueType]]
"""The columns of a table's file with their types; raises DefinitionError."""

TABLE_KEYS = ("source", "key", "namespace", "columns", "order_by", "refresh", "guard", "incremental", "indexes")
ONLY_WHEN_ASKED = "manual"


class Column(msgspec.Struct, frozen=True):
    """A column that a definition means. ``declared``: warehouse.yml gives its type, so that a clash is an error."""

    table: str
    name: str
    type: ValueType | None
    declared: bool


class Tables:
    """The tables of a project.

    Args:
        tables: by name.
        in_files: the columns that the tables' files have, by table; a table that is missing here was not looked at.
        complete: False where warehouse.yml could not be read, so that an unknown column says nothing.
    """

    def __init__(
        self, tables: dict[str, Table], in_files: Mapping[str, Mapping[str, ValueType]], *, complete: bool = True
    ) -> None:
        self.tables = tables
        self.complete = complete
        self._in_files = in_files
        self._columns = {name: self._known(table) for name, table in tables.items()}

    def resolve(self, text: str, report: Report) -> Column:
        """The column that ``column`` or ``table.column`` means.

        Raises:
            Unreadable: no table has it, or several do.
        """
        table_name, dot, column = text.partition(".")
        if dot and table_name in self.tables:
            if self._has(table_name, column):
                return self._column(table_name, column)
            known = self._columns[table_name]
            hint = report.did_you_mean(column, known, f"its columns: {listed(sorted(known))}")
            raise Unreadable(f"the table {quoted(table_name)} has no column {quoted(column)}", hint)
        owners = [name for name in self.tables if self._has(name, text)]
        if len(owners) == 1:
            return self._column(owners[0], text)
        if owners:
            names = listed(f"{name}.{text}" for name in owners)
            raise Unreadable(f"several tables have a column {quoted(text)}", f"write one of {names}")
        raise Unreadable(f"no table has a column {quoted(text)}", self._hint(text, report))

    def _known(self, table: Table) -> dict[str, ValueType | None]:
        columns: dict[str, ValueType | None] = {table.key: None}
        columns.update(self._in_files.get(table.name, {}))
        columns.update(table.columns)
        return columns

    def _has(self, table: str, column: str) -> bool:
        if column in self._columns[table]:
            return bool(column)
        # Neither declared nor looked up: any column may be there, which loading the table will tell.
        return bool(column) and table not in self._in_files and not self.tables[table].columns

    def _column(self, table: str, column: str) -> Column:
        return Column(table, column, self._columns[table].get(column), column in self.tables[table].columns)

    def _hint(self, text: str, report: Report) -> str:
        if not self.tables:
            return "declare the table and its columns in warehouse.yml"
        short = {column: column for columns in self._columns.values() for column in columns}
        long = {f"{table}.{column}": column for table, columns in self._columns.items() for column in columns}
        return report.did_you_mean(text, {**short, **long}, "declare it in warehouse.yml")


def read_tables(
    documents: tuple[Node, ...] | None,
    directory: Path,
    columns_of: ColumnsOf | None,
    report: Report,
    identity: IdentitySettings | None = None,
) -> Tables:
    """The tables of warehouse.yml.

    Args:
        documents: of the file; None where it could not be read, empty where there is none.
        directory: of the project; sources are relative to it.
        columns_of: looks into the tables' files; None leaves them alone.
        report: takes the errors.
        identity: the project's namespaces; None: those that every project has.
    """
    identity = identity or IdentitySettings()
    tables: dict[str, Table] = {}
    in_files: dict[str, Mapping[str, ValueType]] = {}
    complete = documents is not None
    for document in documents or ():
        fields = fields_of(document, "warehouse.yml", ("tables",), report, required=("tables",))
        node = fields.get("tables") if fields is not None else None
        mapping = mapping_of(node, "`tables`", report) if node is not None else None
        complete = complete and mapping is not None
        for name, entry in mapping.entries if mapping is not None else ():
            if name.text in tables:
                report.error(name.span, f"the table {quoted(name.text)} is declared twice")
                continue
            table = _table(name.text, name.span, entry, identity, report)
            if table is None:
                complete = False
                continue
            tables[name.text] = table
            columns = _in_file(table, name.span, directory, columns_of, report)
            if columns is not None:
                in_files[name.text] = columns
    return Tables(tables, in_files, complete=complete)


def _table(name: str, span: Span, node: Node, identity: IdentitySettings, report: Report) -> Table | None:
    what = f"the table {quoted(name)}"
    if not name.strip() or "." in name:
        report.error(span, f"{quoted(name)} cannot be a table's name", "use letters, digits and `_`")
        return None
    fields = fields_of(node, what, TABLE_KEYS, report, required=("source", "key"))
    if fields is None:
        return None
    given = fields.get("source")
    source = read_source(given, report) if given is not None else None
    key = _text(fields, "key", report)
    namespace = _namespace(fields, identity, report)
    columns = _columns(fields, report)
    order_by = _text(fields, "order_by", report)
    refresh = fields.get("refresh")
    every = duration(SECOND_MS, YEAR_MS, words={ONLY_WHEN_ASKED: 0})
    refresh_ms = every(refresh, "`refresh`", report) if refresh is not None else None
    guarded = fields.get("guard")
    guard = read_guard(guarded, report) if guarded is not None else None
    incremental = _incremental(fields, order_by, report)
    if source is None or key is None or columns is None:
        return None
    place, origin = source
    return Table(
        name,
        place,
        key,
        namespace.name,
        columns,
        order_by,
        origin,
        refresh_ms or None,
        guard or Guard(),
        incremental,
        namespace.normalise,
        namespace.region,
        identity.blocked,
        _indexes(fields, report),
    )


def _namespace(fields: Fields, identity: IdentitySettings, report: Report) -> Namespace:
    """What kind of identifier the key is: `user_id`, where the project has it, or the strongest that it has."""
    known = {namespace.name: namespace for namespace in identity.namespaces}
    usual = known.get(USER_ID.name, identity.namespaces[0])
    name = _text(fields, "namespace", report) or usual.name
    if name not in known:
        hint = report.did_you_mean(name, known, f"namespaces: {listed(known)}")
        report.error(fields.key_span("namespace"), f"there is no namespace {quoted(name)}", hint)
    return known.get(name, usual)


def _incremental(fields: Fields, order_by: str | None, report: Report) -> Incremental | None:
    node = fields.get("incremental")
    incremental = read_incremental(node, report) if node is not None else None
    if incremental is not None and order_by not in (None, incremental.column):
        # A row that is new by the one column and old by the other would take the place of one that was not read again.
        hint = f"write `order_by: {incremental.column}`, or leave it out where each key has one row"
        report.error(fields.key_span("order_by"), "`order_by` has to be the column of `incremental`", hint)
    return incremental


def _text(fields: Fields, key: str, report: Report) -> str | None:
    node = fields.get(key)
    return text_of(node, quoted(key), report) if node is not None else None


def _indexes(fields: Fields, report: Report) -> tuple[str, ...]:
    node = fields.get("indexes")
    if node is None:
        return ()
    if not isinstance(node, SequenceNode):
        report.error(node.span, f"`indexes` is a list of columns, not {kind(node)}", "for example `[country]`")
        return ()
    names: list[str] = []
    for item in node.items:
        name = text_of(item, "a column of `indexes`", report)
        if name is not None and name in names:
            report.error(item.span, f"the column {quoted(name)} is there twice")
        elif name is not None:
            names.append(name)
    return tuple(names)


def _columns(fields: Fields, report: Report) -> dict[str, ValueType] | None:
    node = fields.get("columns")
    if node is None:
        return {}
    mapping = mapping_of(node, "`columns`", report)
    if mapping is None:
        return None
    typed = {key.text: type_of(value, f"the type of {quoted(key.text)}", report) for key, value in mapping.entries}
    found = {name: type_ for name, type_ in typed.items() if type_ is not None}
    return found if len(found) == len(typed) else None


def _in_file(
    table: Table, span: Span, directory: Path, columns_of: ColumnsOf | None, report: Report
) -> Mapping[str, ValueType] | None:
    # A system elsewhere is asked by a refresh, not by a check.
    if columns_of is None or table.origin is not None:
        return None
    try:
        columns = columns_of(table, directory)
    except DefinitionError as error:
        # What is declared is enough to check definitions where the data is not at hand; the job needs the file.
        excused = bool(table.columns) and not (directory / table.source).exists()
        for problem in str(error).splitlines():
            message = f"the file of the table {quoted(table.name)} cannot be used: {printable(problem)}"
            if excused:
                report.warning(span, message, "the job will not start without it")
            else:
                report.error(span, message)
        return None
    for column in (table.key, *extra_columns(table), *table.columns, *table.indexes):
        if column not in columns:
            hint = report.did_you_mean(column, columns, f"its columns: {listed(sorted(columns))}")
            report.error(span, f"the file of the table {quoted(table.name)} has no column {quoted(column)}", hint)
    for column, types in _typed(table):
        found = columns.get(column)
        if found is not None and found not in types:
            hint = f"it is a column of {' or '.join(types)}s; declare it so under `columns` if the file holds text"
            report.error(span, f"the column {quoted(column)} of {quoted(table.name)} is of the type {found}", hint)
    return columns


def extra_columns(table: Table) -> list[str]:
    """The columns that a refresh reads beside the key and those that are kept."""
    incremental = table.incremental
    named = [table.order_by, *([incremental.column, incremental.deleted] if incremental is not None else [])]
    return list(dict.fromkeys(name for name in named if name is not None))


def _typed(table: Table) -> list[tuple[str, tuple[ValueType, ...]]]:
    """The columns that must be of certain types."""
    incremental = table.incremental
    if incremental is None:
        return []
    rises: list[tuple[str, tuple[ValueType, ...]]] = [(incremental.column, ("timestamp", "number"))]
    return rises if incremental.deleted is None else [*rises, (incremental.deleted, ("boolean",))]
