"""From where on an incremental refresh reads: rows whose column is not below a value.

Owns: the condition in the words of each system (``in_sql``, ``of_dataset``, ``in_iceberg``) and on batches (``kept``),
which is asked of every source, whatever the system has left out already.
Invariant: no row at or above the value is left out; where a column does not say what it is, nothing is.
Not here: where the value comes from (state.warehouse.incremental).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as arrow

from opportune.audiences.schema import ValueType
from state.warehouse.problems import Problems
from state.warehouse.readings import reading_of
from state.warehouse.whole import integers_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_MS = 253_402_300_799_999
_NANOSECONDS_FROM_MS, _NANOSECONDS_TO_MS = -9_223_372_036_854, 9_223_372_036_854


class Since(NamedTuple):
    """``column >= value``: whole numbers, or milliseconds since the epoch where the column holds instants."""

    column: str
    value: int

    def in_sql(self, query: str, kind: Any, system: str) -> str | None:
        """The query with the condition; None where the column is of a type whose comparison is not ours.

        Args:
            query: whose result is the table.
            kind: the column's Arrow type in it.
            system: that runs it.
        """
        literal = self._literal(kind)
        if literal is None:
            return None
        quote = "`" if system == "bigquery" else '"'
        name = quote + self.column.replace(quote, quote * 2) + quote
        return f"select * from ({_without_end(query)}\n) opportune_rows where {name} >= {literal}"  # noqa: S608 - the project's own query, a quoted name, a number or an instant

    def of_dataset(self, schema: Any) -> Any:
        """The condition as an expression of pyarrow.dataset; None as above."""
        scalar = self._scalar(schema.field(self.column).type) if self.column in schema.names else None
        return None if scalar is None else pc.field(self.column) >= scalar

    def in_iceberg(self, schema: Any) -> tuple[str, Any] | None:
        """The column and the literal that pyiceberg compares with; None as above."""
        kind = schema.field(self.column).type if self.column in schema.names else None
        if kind is None or self._literal(kind) is None:
            return None
        if arrow.is_integer(kind):
            return self.column, self.value
        return self.column, self._text(kind)

    def kept(self, batch: Any, declared: ValueType | None, problems: Problems, *, text: bool) -> Any:
        """The rows of a batch that satisfy it, or have no value there, which is told later.

        Args:
            batch: with the column.
            declared: the column's type.
            problems: of the table; what is wrong with a value is told when the column is read as a whole.
            text: whether every cell of the source is text.
        """
        array = batch.column(self.column)
        reading = reading_of(self.column, array.type, declared, problems.aside(), text=text)
        if reading is None:
            return batch
        reading.add(array)
        read = reading.finish()
        if read is None:
            return batch
        integers, nulls = integers_of(read.column)
        return batch.filter(pa.array((integers >= self.value) | nulls))

    def _text(self, kind: Any) -> str:
        at = _EPOCH + timedelta(milliseconds=self.value)
        if arrow.is_date(kind):
            return at.date().isoformat()
        text = at.replace(tzinfo=None).isoformat(timespec="milliseconds")
        return f"{text}+00:00" if kind.tz is not None else text

    def _literal(self, kind: Any) -> str | None:
        if arrow.is_integer(kind):
            return str(self.value)
        if (arrow.is_timestamp(kind) or arrow.is_date(kind)) and 0 <= self.value <= _LATEST_MS:
            return f"'{self._text(kind)}'"
        return None

    def _scalar(self, kind: Any) -> Any:
        if arrow.is_integer(kind):
            return pa.scalar(self.value, pa.int64())
        if not arrow.is_timestamp(kind) or not _NANOSECONDS_FROM_MS < self.value < _NANOSECONDS_TO_MS:
            return None
        return pa.scalar(np.datetime64(self.value, "ms"), pa.timestamp("ms")).cast(pa.timestamp(kind.unit, kind.tz))


def _without_end(query: str) -> str:
    """A query without the semicolon that ends a statement and cannot end a part of one."""
    return query.strip().rstrip(";").rstrip()
