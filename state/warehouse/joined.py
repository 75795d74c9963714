"""Two columns end to end: the rows of a snapshot, and rows that were read since.

Owns: ``joined``, whole arrays at once where both have one layout; else the second, shorter one takes the layout of the
first, and where its values do not fit into that, both become distinct values.
Invariant: ``joined(one, other)`` takes what one takes, then what the other takes.
Not here: which rows stay (state.warehouse.incremental), layouts (state.warehouse.columns).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from opportune.audiences.schema import ValueType
from state.warehouse.columns import Coded, Column, Numbers, Texts
from state.warehouse.index import Mask
from state.warehouse.readings import CODED_MAX
from state.warehouse.values import Value, billionths

_STEP = 65_536


def joined(one: Column, other: Column) -> Column:
    """The values of one column, then those of another of the same type."""
    if isinstance(one, Texts):
        return Texts(pa.concat_arrays([one.arrow(), _as_texts(other)]))
    if isinstance(one, Numbers):
        like = _as_numbers(other, scaled=one.parts[2])
        if like is not None:
            return _numbers(one, like)
    if isinstance(one, Coded) and isinstance(other, Coded):
        return _coded(one, other)
    return _coded(_as_coded(one), _as_coded(other))


def compacted(column: Column, type_: ValueType) -> Column:
    """The column without distinct values that no row has any more, in the layout for as many as it has."""
    if not isinstance(column, Coded):
        return column
    codes, values = column.parts
    used = np.flatnonzero(np.bincount(codes, minlength=len(values)))
    if len(used) < len(values):
        places = np.zeros(len(values), dtype=np.int64)
        places[used] = np.arange(len(used))
        codes, values = places[codes], [values[at] for at in used.tolist()]
        column = Coded(codes, values)
    if type_ == "string" and len(values) > CODED_MAX:
        return Texts(pa.array(values, pa.large_string()).take(pa.array(codes)))
    return column


def values_of(column: Column) -> list[Value | None]:
    """All values, in order."""
    found: list[Value | None] = []
    for at in range(0, len(column), _STEP):
        found += column.take(np.arange(at, min(at + _STEP, len(column))))
    return found


def _numbers(one: Numbers, other: Numbers) -> Numbers:
    values, nulls, scaled = one.parts
    more, missing, _ = other.parts
    both: Mask | None = None
    if nulls is not None or missing is not None:
        both = np.concatenate([_mask(nulls, len(values)), _mask(missing, len(more))])
    return Numbers(np.concatenate([values, more.astype(np.int64)]), both, scaled=scaled)


def _mask(nulls: Mask | None, rows: int) -> Mask:
    return np.zeros(rows, dtype=np.bool_) if nulls is None else nulls


def _coded(one: Coded, other: Coded) -> Coded:
    codes, values = one.parts
    theirs, more = other.parts
    known = list(values)
    places: dict[tuple[type, Value | None], int] = {(type(value), value): at for at, value in enumerate(values)}
    translated: list[int] = []
    for value in more:
        key = (type(value), value)
        if key not in places:
            places[key] = len(known)
            known.append(value)
        translated.append(places[key])
    new: npt.NDArray[np.int64] = np.array(translated, dtype=np.int64)[theirs]
    return Coded(np.concatenate([codes.astype(np.int64), new]), known)


def _as_coded(column: Column) -> Coded:
    if isinstance(column, Coded):
        return column
    places: dict[tuple[type, Value | None], int] = {}
    codes = [places.setdefault((type(value), value), len(places)) for value in values_of(column)]
    return Coded(np.array(codes, dtype=np.int64), [value for _, value in places])


def _as_texts(column: Column) -> object:
    return column.arrow() if isinstance(column, Texts) else pa.array(values_of(column), pa.large_string())


def _as_numbers(column: Column, *, scaled: bool) -> Numbers | None:
    """The column in the layout of numbers; None where a value has no place there."""
    if isinstance(column, Numbers) and column.parts[2] == scaled:
        return column
    values = values_of(column)
    missing = [value is None for value in values]
    try:
        if scaled:
            integers = [0 if value is None else billionths(value) for value in values]  # type: ignore[arg-type]  # numbers
        elif all(value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in values):
            integers = [0 if value is None else int(value) for value in values]
        else:
            return None
        found = np.array(integers, dtype=np.int64)
    except OverflowError:
        return None
    return Numbers(found, np.array(missing, dtype=np.bool_) if any(missing) else None, scaled=scaled)
