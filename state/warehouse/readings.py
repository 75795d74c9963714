"""How a column of a file becomes a column of a table.

Owns: which types of files are which types of the language, what a declared type asks of a column, the conversion of the
whole column, and the choice of its layout.
Invariant: conversion works on distinct values, vectorised where the file's type is exact already; the first value that
cannot be converted is reported with its row.
Not here: the meaning of one value (state.warehouse.values), layouts (state.warehouse.columns).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as arrow

from opportune.audiences.schema import ValueType
from state.warehouse.billionths import billionths_of, rounded_billionths_of
from state.warehouse.columns import Coded, Column, Numbers, Texts
from state.warehouse.index import Mask
from state.warehouse.problems import Problems, shown
from state.warehouse.values import (
    NUMBER,
    Value,
    billionths,
    boolean_of_text,
    instant_of_text,
    number_of_billionths,
    number_of_decimal,
    number_of_float,
    number_of_text,
)

CODED_MAX = 65_536
"""A column of more distinct values than this gets a layout without Python objects, where one fits."""

_STEP = 65_536
_DAY_MS = 86_400_000
_UNITS_A_MS = {"s": 1, "ms": 1, "us": 1_000, "ns": 1_000_000}
_TRUTH = "(?i)true|false"
_OF_TEXT: dict[ValueType, Callable[[str], Value]] = {
    "string": str,
    "number": number_of_text,
    "boolean": boolean_of_text,
    "timestamp": instant_of_text,
}


class Read(NamedTuple):
    """A column, and the type of its values."""

    type: ValueType
    column: Column


class Reading(Protocol):
    """A column on its way in, batch by batch."""

    def add(self, array: Any) -> None:
        """Takes the column's next rows, an Arrow array."""

    def finish(self) -> Read | None:
        """The column; None where it has problems, which are told."""


def value_type_of(kind: Any) -> ValueType | None:
    """The language's type for an Arrow type; None for those that no condition can use."""
    if arrow.is_dictionary(kind):
        return "string" if value_type_of(kind.value_type) == "string" else None
    if _is_text(kind) or arrow.is_null(kind):
        return "string"
    if arrow.is_integer(kind) or arrow.is_floating(kind) or arrow.is_decimal(kind):
        return "number"
    if arrow.is_boolean(kind):
        return "boolean"
    return "timestamp" if arrow.is_timestamp(kind) or arrow.is_date(kind) else None


def reading_of(name: str, kind: Any, declared: ValueType | None, problems: Problems, *, text: bool) -> Reading | None:
    """How to read a column; None where it cannot be, which is told.

    Args:
        name: the column.
        kind: its Arrow type in the file.
        declared: the type that it must have; None: the file's own.
        problems: takes what is wrong.
        text: whether every cell of the file is text, whatever it means (CSV).
    """
    own = value_type_of(kind)
    if own is None:
        problems.add(
            f"it is of the type {kind}, which no condition can use; write it as strings, numbers, booleans or timestamps",
            column=name,
        )
        return None
    if text or arrow.is_null(kind):
        return _Distinct(name, kind, declared, problems)
    if declared not in (None, own) and (declared, own) != ("timestamp", "string"):
        problems.add(
            f"it is declared {declared}, and the file has {own} ({kind}); declare it {own} in warehouse.yml, "
            "or convert it where the file is made",
            column=name,
        )
        return None
    if own == "timestamp" or (arrow.is_integer(kind) and kind != pa.uint64()):
        return _Integers(name, own, problems)
    if kind == pa.float64():
        return _Floats(name, problems)
    return _Distinct(name, kind, declared or own, problems)


class Inference:
    """What an undeclared column of text is: numbers if all of it are, or truth values if all are; else strings."""

    def __init__(self) -> None:
        self._number = self._boolean = True
        self._seen = False

    def add(self, array: Any) -> None:
        """Takes more of the column's texts."""
        if not len(array) - array.null_count:
            return
        self._seen = True
        self._number = self._number and _all_match(array, NUMBER)
        self._boolean = self._boolean and _all_match(array, _TRUTH)

    @property
    def open(self) -> bool:
        """Whether more texts can change the answer."""
        return self._number or self._boolean

    def type(self) -> ValueType:
        """The answer for what was taken."""
        if self._seen and self.open:
            return "number" if self._number else "boolean"
        return "string"


class _Integers:
    """Integers and instants: no conversion of single values."""

    def __init__(self, name: str, type_: ValueType, problems: Problems) -> None:
        self._name = name
        self._type = type_
        self._problems = problems
        self._rows = 0
        self._values: list[npt.NDArray[np.int64]] = []
        self._nulls: list[Mask] = []

    def add(self, array: Any) -> None:
        nulls = np.asarray(array.is_null())
        kind = array.type
        if arrow.is_date32(kind):
            array = array.cast(pa.int32())
        values = np.asarray(pc.fill_null(array.cast(pa.int64()), 0)).astype(np.int64)
        factor = _DAY_MS if arrow.is_date32(kind) else 1000 if arrow.is_timestamp(kind) and kind.unit == "s" else 1
        if factor > 1:
            beyond = np.flatnonzero(np.abs(values) > np.iinfo(np.int64).max // factor)
            if len(beyond):
                self._problems.fail("the time is out of range", column=self._name, row=self._rows + int(beyond[0]) + 1)
            values = values * factor
        elif arrow.is_timestamp(kind):
            values = values // _UNITS_A_MS[kind.unit]
        self._values.append(values)
        self._nulls.append(nulls)
        self._rows += len(values)

    def finish(self) -> Read | None:
        values = np.concatenate([*self._values, np.empty(0, dtype=np.int64)])
        nulls = np.concatenate([*self._nulls, np.empty(0, dtype=np.bool_)])
        return Read(self._type, Numbers(values, nulls if nulls.any() else None, scaled=False))


class _Floats:
    """Floats of 64 bits: vectorised, but for those of which the ninth decimal place is in doubt."""

    def __init__(self, name: str, problems: Problems) -> None:
        self._name = name
        self._problems = problems
        self._rows = 0
        self._raw: list[Any] = []
        self._integers: list[npt.NDArray[np.int64]] = []
        self._wide = self._refused = False

    def add(self, array: Any) -> None:
        self._raw.append(array)
        if not (self._wide or self._refused):
            filled = pc.fill_null(array, 0.0)
            exact = billionths_of(filled)
            self._integers.append(self._rounded(filled) if exact is None else exact)
        self._rows += len(array)

    def _rounded(self, array: Any) -> npt.NDArray[np.int64]:
        integers, doubt = rounded_billionths_of(array)
        places = np.flatnonzero(doubt)
        for place, raw in zip(places.tolist(), _raw(array.take(pa.array(places))), strict=True):
            try:
                integers[place] = billionths(number_of_float(raw))
            except OverflowError:
                self._wide = True
            except ValueError as error:
                told = f"{raw} {error}; correct the value, or declare the column otherwise in warehouse.yml"
                self._problems.add(told, column=self._name, row=self._rows + place + 1)
                self._refused = True
                break
        return integers

    def finish(self) -> Read | None:
        if self._refused:
            return None
        if self._wide:
            distinct = _Distinct(self._name, pa.float64(), "number", self._problems)
            for array in self._raw:
                distinct.add(array)
            return distinct.finish()
        nulls = np.concatenate([*(np.asarray(array.is_null()) for array in self._raw), np.empty(0, np.bool_)])
        self._raw = []
        integers = np.concatenate([*self._integers, np.empty(0, np.int64)])
        self._integers = []
        values = np.unique(integers)
        if len(values) > CODED_MAX:
            return Read("number", Numbers(integers, nulls if nulls.any() else None, scaled=True))
        codes = np.where(nulls, len(values), values.searchsorted(integers))
        return Read("number", Coded(codes, [*map(number_of_billionths, values.tolist()), None]))


class _Distinct:
    """Everything else: distinct values are found by Arrow and converted one by one.

    Strings of which most differ are kept as they are, since looking for distinct ones would cost more than they do.
    """

    def __init__(self, name: str, kind: Any, type_: ValueType | None, problems: Problems) -> None:
        self._name = name
        self._kind = pa.string() if arrow.is_null(kind) else plain(kind)
        self._type = type_
        self._problems = problems
        self._chunks: list[Any] = []
        self._rows = 0
        self._plain = False

    def add(self, array: Any) -> None:
        array = array.cast(self._kind)
        self._rows += len(array)
        if self._plain:
            self._chunks.append(array.cast(pa.large_string()))
            return
        encoded = array.dictionary_encode()
        self._chunks.append(encoded)
        if self._type == "string" and self._rows > CODED_MAX and len(encoded.dictionary) > max(len(array) // 2, 1):
            self._plain = True
            self._chunks = [chunk.dictionary_decode().cast(pa.large_string()) for chunk in self._chunks]

    def finish(self) -> Read | None:
        if self._plain:
            texts = pa.concat_arrays(self._chunks)
            self._chunks = []
            return Read("string", Texts(texts))
        encoded = pa.chunked_array(self._chunks, pa.dictionary(pa.int32(), self._kind)).unify_dictionaries()
        chunks = encoded.chunks
        dictionary = chunks[0].dictionary if chunks else pa.array([], self._kind)
        # The code behind the last value is null.
        codes = np.concatenate(
            [np.asarray(pc.fill_null(chunk.indices, len(dictionary))) for chunk in chunks] or [np.empty(0, np.int32)]
        )
        self._chunks = []
        type_ = self._type or self._inferred(dictionary)
        try:
            return Read(type_, self._laid_out(dictionary, codes, type_))
        except _Unconvertible:
            return None

    def _laid_out(self, dictionary: Any, codes: npt.NDArray[np.int32], type_: ValueType) -> Column:
        count = len(dictionary)
        nulls = codes == count
        if type_ == "string" and count > CODED_MAX and count > len(codes) // 8:
            return Texts(dictionary.cast(pa.large_string()).take(pa.array(codes, mask=nulls)))
        if count <= CODED_MAX or type_ in ("string", "boolean"):
            return Coded(codes, [*self._converted(dictionary, codes, type_), None])
        scaled = type_ == "number"
        integers = billionths_of(dictionary) if scaled else None
        if integers is None:
            try:
                integers = self._integers(dictionary, codes, type_)
            except OverflowError:
                return Coded(codes, [*self._converted(dictionary, codes, type_), None])
        return Numbers(np.append(integers, 0)[codes], nulls if nulls.any() else None, scaled=scaled)

    def _integers(self, dictionary: Any, codes: npt.NDArray[np.int32], type_: ValueType) -> npt.NDArray[np.int64]:
        """The values as integers of eight bytes, converted one by one."""
        values: Iterator[Any] = self._converted(dictionary, codes, type_)
        return np.fromiter(map(billionths, values) if type_ == "number" else values, np.int64, len(dictionary))

    def _inferred(self, dictionary: Any) -> ValueType:
        inference = Inference()
        inference.add(dictionary)
        return inference.type()

    def _converted(self, dictionary: Any, codes: npt.NDArray[np.int32], type_: ValueType) -> Iterator[Value]:
        convert: Callable[[Any], Value] = _conversion(self._kind, type_)
        for at in range(0, len(dictionary), _STEP):
            for place, raw in enumerate(_raw(dictionary.slice(at, _STEP)), start=at):
                try:
                    yield convert(raw)
                except ValueError as error:
                    self._problems.add(
                        f"{shown(raw)} {error}; correct the value, or declare the column otherwise in warehouse.yml",
                        column=self._name,
                        row=int(np.argmax(codes == place)) + 1,
                    )
                    raise _Unconvertible from error


class _Unconvertible(Exception):
    """A value that was told as a problem."""


def _conversion(kind: Any, type_: ValueType) -> Callable[[Any], Value]:
    if _is_text(kind):
        return _OF_TEXT[type_]
    if arrow.is_floating(kind):
        return number_of_float
    if arrow.is_decimal(kind):
        return number_of_decimal
    return int if type_ == "number" else bool


def _raw(array: Any) -> list[Any]:
    """The values as Python objects; floating-point numbers as the shortest text that reads back as the same."""
    if arrow.is_floating(array.type):
        return [str(number) for number in np.asarray(array)]
    values: list[Any] = array.to_pylist()
    return values


def plain(kind: Any) -> Any:
    """The Arrow type in which a column of this one is worked on."""
    if arrow.is_dictionary(kind):
        return plain(kind.value_type)
    return pa.string() if _is_text(kind) else kind


def _is_text(kind: Any) -> bool:
    return bool(arrow.is_string(kind) or arrow.is_large_string(kind) or arrow.is_string_view(kind))


def _all_match(texts: Any, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(texts, f"^(?:{pattern})$")).as_py())
