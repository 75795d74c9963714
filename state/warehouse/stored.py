"""Columns of a table as columns of an Arrow file, readable by any Arrow tool.

Owns: which Arrow type stands for which layout, and the way back without a copy. The field's metadata say type and layout::

    coded       dictionary<uint8|16|32, string>: texts of the distinct values, null among them where a row is null
    integers    int8|16|32|64: whole numbers, or instants in milliseconds since the epoch
    billionths  int8|16|32|64: numbers times 10^9
    texts       large_string

Invariant: ``column_of(*stored(name, type, column))`` takes the values that ``column`` takes.
Not here: the file (state.warehouse.snapshot), layouts in memory (state.warehouse.columns).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from opportune.audiences.schema import ValueType
from state.warehouse.columns import Coded, Column, Numbers, Texts, nulls_of
from state.warehouse.values import Value, boolean_of_text, number_of_text

TYPE = b"opportune.type"
LAYOUT = b"opportune.layout"


def stored(name: str, type_: ValueType, column: Column) -> tuple[Any, Any]:
    """The Arrow field and array of a column."""
    if isinstance(column, Coded):
        codes, values = column.parts
        dictionary = pa.array([None if value is None else _text(value) for value in values], pa.string())
        return _field(name, type_, "coded", pa.DictionaryArray.from_arrays(pa.array(codes), dictionary))
    if isinstance(column, Numbers):
        integers, nulls, scaled = column.parts
        return _field(name, type_, "billionths" if scaled else "integers", pa.array(integers, mask=nulls))
    assert isinstance(column, Texts), "a layout without a form in files"
    return _field(name, type_, "texts", column.arrow())


def column_of(field: Any, array: Any) -> tuple[ValueType, Column]:
    """Type and column of a field and an array that ``stored`` made."""
    type_: ValueType = field.metadata[TYPE].decode()
    layout = field.metadata[LAYOUT]
    if layout == b"coded":
        values = [None if text is None else _value(text, type_) for text in array.dictionary.to_pylist()]
        return type_, Coded(np.asarray(array.indices), values)
    if layout == b"texts":
        return type_, Texts(array)
    integers = np.frombuffer(array.buffers()[1], array.type.to_pandas_dtype(), len(array))
    return type_, Numbers(integers, nulls_of(array), scaled=layout == b"billionths", as_it_is=True)


def _field(name: str, type_: ValueType, layout: str, array: Any) -> tuple[Any, Any]:
    return pa.field(name, array.type, metadata={TYPE: type_.encode(), LAYOUT: layout.encode()}), array


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _value(text: str, type_: ValueType) -> Value:
    if type_ == "number":
        return number_of_text(text)
    if type_ == "timestamp":
        return int(text)
    return boolean_of_text(text) if type_ == "boolean" else text
