"""The parts of a table in warehouse.yml that say where its rows come from and how they are refreshed.

Owns: ``source`` (a file's name, or a mapping that names a system), ``guard`` and ``incremental``.
Not here: opening a source (state.warehouse), the rest of a table (opportune.audiences.warehouse_file).
"""

from __future__ import annotations

import re

from opportune.audiences.diagnostics import Report, quoted
from opportune.audiences.durations import SECOND_MS, YEAR_MS
from opportune.audiences.fields import Fields, duration, fields_of, kind, mapping_of, scalar_node, text_of
from opportune.audiences.schema import Guard, Incremental, Origin
from opportune.audiences.yaml_tree import MappingNode, Node

SYSTEMS = ("file", "postgres", "duckdb", "delta", "iceberg", "flight_sql", "snowflake", "bigquery", "adbc")
SOURCE_KEYS = (*SYSTEMS, "query", "options")
NEED_QUERY = frozenset({"postgres", "duckdb", "flight_sql", "snowflake", "bigquery", "adbc"})
GUARD_KEYS = ("rows_lost", "cells_changed")
INCREMENTAL_KEYS = ("column", "deleted", "full", "overlap")
OVERLAP_MAX_MS = 30 * 86_400_000
_SHARE = re.compile(r"(100|[0-9]{1,2}(?:\.[0-9]{1,6})?)\s*%")


def read_source(node: Node, report: Report) -> tuple[str, Origin | None] | None:
    """A source, and where it is if it is no local file; None where it is not one, which is told."""
    if isinstance(node, MappingNode):
        return _system(node, report)
    text = text_of(node, "`source`", report)
    if text is None or "://" not in text:
        return (text, None) if text is not None else None
    if text.partition("://")[0] in ("postgres", "postgresql"):
        hint = "write `source: {postgres: ..., query: ...}`, with the password as ${NAME} from the environment"
        report.error(node.span, "a database needs a query", hint)
        return None
    return text, Origin("file")


def _system(node: MappingNode, report: Report) -> tuple[str, Origin | None] | None:
    fields = fields_of(node, "`source`", SOURCE_KEYS, report)
    named = [system for system in SYSTEMS if fields is not None and system in fields]
    if fields is None or len(named) != 1:
        report.error(node.span, "`source` names one system", f"give one of {', '.join(map(quoted, SYSTEMS))}")
        return None
    system = named[0]
    place, query = _text(fields, system, report), _text(fields, "query", report)
    options = _options(fields, report)
    needed = system in NEED_QUERY
    if needed != ("query" in fields):
        if needed:
            report.error(node.span, f"{quoted(system)} needs `query`", "the SQL whose result is the table")
        else:
            report.error(fields.key_span("query"), f"{quoted(system)} takes no `query`", "it is a table as a whole")
        return None
    if place is None or options is None or (needed and query is None):
        return None
    if system == "file" and "://" not in place and not options:
        return place, None
    return place, Origin(system, query, options)


def read_guard(node: Node, report: Report) -> Guard | None:
    """What a refresh may do unasked."""
    fields = fields_of(node, "`guard`", GUARD_KEYS, report)
    if fields is None:
        return None
    shares = {}
    for key in fields.present():
        value = fields.get(key)
        assert value is not None
        share = _share(value, f"`guard.{key}`", report)
        if share is not None:
            shares[key] = share
    return Guard(**shares)


def read_incremental(node: Node, report: Report) -> Incremental | None:
    """How new rows are told from those that were read."""
    fields = fields_of(node, "`incremental`", INCREMENTAL_KEYS, report, required=("column",))
    if fields is None:
        return None
    column, deleted = _text(fields, "column", report), _text(fields, "deleted", report)
    full = _span(fields, "full", SECOND_MS, YEAR_MS, report)
    overlap = _span(fields, "overlap", 0, OVERLAP_MAX_MS, report)
    if column is None:
        return None
    if "deleted" not in fields and "full" not in fields:
        hint = "give `deleted`, a column that is true for a deleted row, or `full`, how often all rows are read"
        report.error(fields.span, "with `incremental` alone, rows that are deleted would stay for ever", hint)
        return None
    kept = {} if overlap is None else {"overlap_ms": overlap}
    return Incremental(column, deleted, full, **kept)


def _span(fields: Fields, key: str, least_ms: int, most_ms: int, report: Report) -> int | None:
    node = fields.get(key)
    words = {"0 seconds": 0} if least_ms == 0 else {}
    read = duration(least_ms, most_ms, words=words)
    return read(node, f"`incremental.{key}`", report) if node is not None else None


def _share(node: Node, what: str, report: Report) -> float | None:
    text = text_of(node, what, report)
    if text is None:
        return None
    found = _SHARE.fullmatch(text.strip())
    if found is None:
        report.error(node.span, f"{what} is a share from `0%` to `100%`, not {kind(node)}")
        return None
    return float(found[1]) / 100


def _text(fields: Fields, key: str, report: Report) -> str | None:
    node = fields.get(key)
    return text_of(node, quoted(key), report) if node is not None else None


def _options(fields: Fields, report: Report) -> dict[str, str] | None:
    node = fields.get("options")
    if node is None:
        return {}
    mapping = mapping_of(node, "`options`", report)
    if mapping is None:
        return None
    found = {key.text: scalar_node(value, f"`options.{key.text}`", report) for key, value in mapping.entries}
    known = {key: scalar.text for key, scalar in found.items() if scalar is not None}
    return known if len(known) == len(found) else None
