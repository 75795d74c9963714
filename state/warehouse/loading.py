"""Warehouse tables loaded into memory, for replays and tests; and what both ways to read a source have in common.

Owns: the way from a definition and a file to a ``WarehouseTable``; every problem of a table that can be told at once is.
Invariant: a table is complete and exact, or refused with a ``DefinitionError``; columns that no definition uses are not
even read.
Not here: snapshots (state.warehouse.writing), file formats (state.warehouse.source), types (state.warehouse.readings), keys (state.warehouse.keys).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from opportune.audiences.schema import Table, ValueType
from opportune.identifiers import Blocked, Namespace
from state.warehouse.columns import Column
from state.warehouse.index import Mask, ProfileIndex
from state.warehouse.joined import values_of
from state.warehouse.keys import Keys, can_be_key
from state.warehouse.problems import Problems
from state.warehouse.readings import Inference, Read, Reading, reading_of, value_type_of
from state.warehouse.since import Since
from state.warehouse.source import Source, open_source
from state.warehouse.table import WarehouseTable

_VERSION_BYTES = 16


def load_table(
    table: Table,
    directory: Path,
    used: dict[str, ValueType | None],
) -> WarehouseTable:
    """Reads a table's file and keeps the used columns.

    Args:
        table: the table's definition.
        directory: the project directory, where ``source`` starts.
        used: the columns to keep, in the order that rows shall have, with the type that each must have; None: as the
            table declares, else the file's own.

    Raises:
        DefinitionError: the file is missing or unreadable, a column is missing or of a wrong type, a value does not
            read as its type, a key is empty or has several rows; with file, column, row and what to do.
    """
    try:
        return _load(table, directory, used)
    finally:
        give_back_memory()


def columns_of(table: Table, directory: Path) -> dict[str, ValueType]:
    """The columns of a table's file that definitions can use, with their types, in the file's order.

    Nothing is kept of the rows. Parquet and Arrow files say their types; of a CSV file the declared types hold, and
    columns that are not declared are read, as far as needed, for what they are.

    Raises:
        DefinitionError: the file is missing or unreadable, or has not the key or a declared column.
    """
    problems = Problems(table, directory)
    source = open_source(table, directory, problems)
    _check_names(source, table, [table.key, *table.columns], problems)
    problems.check()
    inferred = _inferred(source, [name for name in source.types if name not in table.columns]) if source.text else {}
    types: dict[str, ValueType] = {}
    for name, kind in source.types.items():
        known = table.columns.get(name) or inferred.get(name) or value_type_of(kind)
        if known is not None and name not in source.repeated:
            types[name] = known
    return types


class Prepared(NamedTuple):
    """What stands ready to take a table's batches."""

    source: Source
    problems: Problems
    keys: Keys
    readings: dict[str, Callable[[], Reading | None]]

    def reading(self, name: str) -> Reading:
        """What takes a column's batches, empty."""
        reading = self.readings[name]()
        assert reading is not None, "a column that was refused is read"
        return reading


def prepare(
    table: Table,
    directory: Path,
    used: dict[str, ValueType | None],
    *,
    extra: Sequence[str] = (),
    since: Since | None = None,
) -> Prepared:
    """Opens a table's source and checks its columns; arguments as ``load_table``, ``since`` as ``open_source``.

    ``extra``: columns that are read beside the used ones.

    Raises:
        DefinitionError: see ``load_table``.
    """
    problems = Problems(table, directory)
    source = open_source(table, directory, problems, since)
    _check_names(source, table, [table.key, *extra, *used], problems)
    readings: dict[str, Callable[[], Reading | None]] = {}
    for name in [name for name in dict.fromkeys([*used, *extra]) if name in source.types]:
        meant = source.meant.get(name)
        declared = table.columns.get(name) or used.get(name) or meant
        text = source.text or meant is not None
        readings[name] = partial(reading_of, name, source.types[name], declared, problems, text=text)
        readings[name]()
    problems.check()
    number = source.text and table.columns.get(table.key) == "number"
    namespace = Namespace(table.namespace, (), 1, normalise=table.normalise, region=table.region)
    keys = Keys(table.key, namespace, number=number, blocked=Blocked(table.blocked), problems=problems)
    return Prepared(source, problems, keys, readings)


def _load(table: Table, directory: Path, used: dict[str, ValueType | None]) -> WarehouseTable:
    # Rows that somebody wrote down for a replay have what says that they are gone, or nothing is; when they were written is
    # of no interest there.
    flag = table.incremental.deleted if table.incremental is not None else None
    extra = [name for name in (table.order_by, flag) if name is not None]
    if flag is not None and flag not in open_source(table, directory, Problems(table, directory)).types:
        extra.remove(flag)
    prepared = prepare(table, directory, used, extra=extra)
    source, problems, keys, _ = prepared
    readings = {name: prepared.reading(name) for name in prepared.readings}
    read = _read_all(source, table.key, keys, readings, problems)
    arranged = keys.arrange(read[table.order_by].column if table.order_by is not None else None)
    if flag in extra:
        arranged = arranged.without(flags_of(read[flag], flag, problems)[arranged.order])
    columns = [read[name].column.arranged(arranged.order) for name in used]
    types: dict[str, ValueType] = {name: read[name].type for name in used}
    return WarehouseTable(
        table.name,
        types,
        arranged.profiles,
        keys.texts().arranged(arranged.order),
        columns,
        version=_fingerprint(types, arranged.profiles, columns),
        namespace=table.namespace,
        blocked_rows=keys.blocked_rows,
    )


def flags_of(read: Read, name: str, problems: Problems) -> Mask:
    """A column of truth values, row by row; null is false.

    Raises:
        DefinitionError: it is another column.
    """
    if read.type != "boolean":
        problems.fail(f"it is a column of {read.type}s, and `incremental.deleted` names one of booleans", column=name)
    return np.array([value is True for value in values_of(read.column)], dtype=np.bool_)


def give_back_memory() -> None:
    """Returns what only loading needed to the system, which is several times what a table keeps.

    Arrow's pool frees its own pages; those of Python and numpy are the C library's, which keeps them unless asked.
    """
    pa.default_memory_pool().release_unused()
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:  # glibc alone has it
        trim(0)


def _read_all(
    source: Source, key: str, keys: Keys, readings: dict[str, Reading], problems: Problems
) -> dict[str, Read]:
    columns = list(dict.fromkeys([key, *readings]))
    for batch in source.batches(columns):
        keys.add(batch.column(key))
        for name, reading in readings.items():
            reading.add(batch.column(name))
    finished = {name: reading.finish() for name, reading in readings.items()}
    problems.check()
    return {name: read for name, read in finished.items() if read is not None}


def _inferred(source: Source, names: list[str]) -> dict[str, ValueType]:
    inferences = {name: Inference() for name in names if name not in source.repeated}
    if inferences:
        for batch in source.batches(list(inferences)):
            undecided = {name: inference for name, inference in inferences.items() if inference.open}
            if not undecided:
                break
            for name, inference in undecided.items():
                inference.add(batch.column(name))
    return {name: inference.type() for name, inference in inferences.items()}


def _check_names(source: Source, table: Table, names: Iterable[str], problems: Problems) -> None:
    """Tells names that the file has not, or has more than once, and a key column that cannot hold keys."""
    for name in dict.fromkeys(names):
        if name in source.repeated:
            problems.add("the file has more than one column of this name; rename them", column=name)
        if name not in source.types:
            near = get_close_matches(name, source.types, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, source.types))}"
            which = "key column" if name == table.key else "column"
            problems.add(f"the file has no such {which}; {hint}", column=name)
    if table.key in source.types and not can_be_key(source.types[table.key]):
        kind = source.types[table.key]
        problems.add(f"a key is a string or a number, and this column is of the type {kind}", column=table.key)


def _fingerprint(types: dict[str, ValueType], index: ProfileIndex, columns: list[Column]) -> str:
    digest = blake2b(repr(types).encode(), digest_size=_VERSION_BYTES)
    parts = chain(index.content(), *(column.content() for column in columns))
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
