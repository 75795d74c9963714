"""What is wrong with a warehouse table, told to whoever can put it right.

Owns: the wording of positions (file, column, row) and the collection of problems into one ``DefinitionError``.
Rows are counted from 1, the first after a CSV file's header; blank lines of a CSV file do not count.
Not here: what is wrong (state.warehouse.source, state.warehouse.readings, state.warehouse.keys).
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from opportune.audiences.schema import Table
from opportune.errors import DefinitionError
from state.warehouse.secrets import masked

_SHOWN_MAX = 80


class Problems:
    """The problems of one table's file, in the order in which they were found.

    Args:
        table: the table.
        directory: the project directory, where the table's source starts.
    """

    def __init__(self, table: Table, directory: Path) -> None:
        self._of = table, directory
        self._table = table.name
        self._path = str(directory / table.source) if table.origin is None else masked(table.source)
        self._found: list[str] = []

    @property
    def label(self) -> str:
        """The source and the table, as messages begin."""
        return f"{self._path}: table {self._table!r}"

    def add(self, what: str, *, column: str | None = None, row: int | None = None) -> None:
        """Adds a problem: what is wrong and what to do, with its column and its row, counted from 1."""
        where = [f"column {column!r}"] if column is not None else []
        where += [f"row {row}"] if row is not None else []
        place = f"{', '.join(where)}: " if where else ""
        self._found.append(f"{self.label}: {place}{what}")

    def fail(self, what: str, *, column: str | None = None, row: int | None = None) -> NoReturn:
        """Adds a problem and raises all of them."""
        self.add(what, column=column, row=row)
        raise DefinitionError("\n".join(self._found))

    def aside(self) -> Problems:
        """Problems of the same table that nobody is told."""
        return Problems(*self._of)

    def check(self) -> None:
        """Raises all problems found so far as one ``DefinitionError``, if there are any."""
        if self._found:
            raise DefinitionError("\n".join(self._found))


def shown(value: object) -> str:
    """A value as a message quotes it, cut where it is long."""
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
