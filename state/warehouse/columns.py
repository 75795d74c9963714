"""How the values of a column are kept: three layouts, chosen by what the column holds.

Owns: ``Coded`` (few distinct values: a small code a row), ``Numbers`` (whole numbers, instants, and decimals as
billionths: up to eight bytes a row) and ``Texts`` (many distinct strings: UTF-8 end to end). Python objects are made
when rows are looked up, so that 2,000,000 rows of one of five plans cost a byte each and not a tuple each.
Invariant: ``take`` gives for each position exactly the value that was read; ``ranks`` orders as the language compares,
null below everything.
Not here: the choice of a layout (state.warehouse.readings), which position is whose (state.warehouse.index).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from state.warehouse.index import Mask, Positions
from state.warehouse.values import Value, number_of_billionths

Ranks = npt.NDArray[np.int64]
_STEP = 65_536


class Column(Protocol):
    """The values of one column, one a row."""

    def __len__(self) -> int:
        """How many rows there are."""

    def take(self, positions: Positions) -> list[Value | None]:
        """The values at these positions, in their order."""

    def arranged(self, order: Positions) -> Self:
        """The column whose row i is this one's row ``order[i]``."""

    def ranks(self) -> Ranks:
        """One integer a row that compares like its value; equal values have equal ranks; null is below all."""

    def content(self) -> Iterator[bytes | memoryview]:
        """Bytes that are equal where the values are, row by row; for fingerprints."""

    def same(self, positions: Positions, other: Column, theirs: Positions) -> Mask:
        """Whether the value at each position is that of another column of the same type at its position."""


class Bitmap:
    """Which rows are null, as Arrow keeps it: one bit a row, which may be memory-mapped.

    Args:
        validity: the buffer, in which a row that is null has 0.
        offset: the bit of the first row.
        rows: how many there are.
    """

    def __init__(self, validity: Any, offset: int, rows: int) -> None:
        self._bytes = np.frombuffer(validity, dtype=np.uint8)
        self._offset = offset
        self._rows = rows

    def __getitem__(self, positions: Positions) -> Mask:
        bits = positions + self._offset
        null: Mask = (self._bytes[bits >> 3] >> (bits & 7).astype(np.uint8)) & 1 == 0
        return null

    def mask(self) -> Mask:
        """All rows."""
        return self[np.arange(self._rows)]


def nulls_of(array: Any) -> Bitmap | None:
    """The nulls of an Arrow array; None where it has none."""
    return Bitmap(array.buffers()[0], array.offset, len(array)) if array.null_count else None


class Coded:
    """Distinct values, and for each row the place of its value among them.

    Args:
        codes: one a row.
        values: what codes mean; None is null.
    """

    def __init__(self, codes: npt.NDArray[Any], values: list[Value | None]) -> None:
        self._codes = codes.astype(np.min_scalar_type(max(len(values) - 1, 0)), copy=False)
        self._values = values

    def __len__(self) -> int:
        return len(self._codes)

    def take(self, positions: Positions) -> list[Value | None]:
        """See ``Column``."""
        values = self._values
        return [values[code] for code in self._codes[positions].tolist()]

    def arranged(self, order: Positions) -> Coded:
        """See ``Column``."""
        return Coded(self._codes[order], self._values)

    def ranks(self) -> Ranks:
        """See ``Column``."""
        known: list[Any] = [value for value in self._values if value is not None]
        rank_of = {value: rank for rank, value in enumerate(sorted(set(known)))}
        ranks = [-1 if value is None else rank_of[value] for value in self._values]
        in_rows: Ranks = np.array(ranks, dtype=np.int64)[self._codes]
        return in_rows

    def content(self) -> Iterator[bytes | memoryview]:
        """See ``Column``."""
        place: dict[Any, int] = {}
        # The type stands beside the value because True == 1.
        canonical = [place.setdefault((type(value), value), len(place)) for value in self._values]
        codes = np.array(canonical, dtype=np.int64)[self._codes]
        used, first, codes = np.unique(codes, return_index=True, return_inverse=True)
        by_appearance = np.argsort(first)
        names = list(place)
        yield repr([names[used[place]][1] for place in by_appearance]).encode("utf-8", "surrogatepass")
        renumber = np.empty(len(used), dtype=np.int64)
        renumber[by_appearance] = np.arange(len(used))
        yield renumber[codes].tobytes()

    def same(self, positions: Positions, other: Column, theirs: Positions) -> Mask:
        """See ``Column``."""
        if not isinstance(other, Coded):
            return _same_one_by_one(self, positions, other, theirs)
        places = {(type(value), value): place for place, value in enumerate(other._values)}
        translated = np.array([places.get((type(value), value), -1) for value in self._values], dtype=np.int64)
        same: Mask = translated[self._codes[positions]] == other._codes[theirs]
        return same

    @property
    def parts(self) -> tuple[npt.NDArray[Any], list[Value | None]]:
        """Codes, and what they mean."""
        return self._codes, self._values


class Numbers:
    """Integers that fit into eight bytes.

    Args:
        values: one a row; anything where the row is null.
        nulls: which rows are null; None: no row is.
        scaled: the integers are billionths of the numbers.
        as_it_is: the array is kept as it is, in whatever type.
    """

    def __init__(
        self, values: npt.NDArray[Any], nulls: Mask | Bitmap | None, *, scaled: bool, as_it_is: bool = False
    ) -> None:
        self._values = values if as_it_is else _smallest(values)
        self._nulls = nulls
        self._scaled = scaled

    def __len__(self) -> int:
        return len(self._values)

    def take(self, positions: Positions) -> list[Value | None]:
        """See ``Column``."""
        integers: list[int] = self._values[positions].tolist()
        values: list[Value | None] = [*map(number_of_billionths, integers)] if self._scaled else [*integers]
        return _without(values, self._nulls, positions)

    def arranged(self, order: Positions) -> Numbers:
        """See ``Column``."""
        nulls = None if self._nulls is None else self._nulls[order]
        return Numbers(self._values[order], nulls, scaled=self._scaled)

    def ranks(self) -> Ranks:
        """See ``Column``."""
        _, ranks = np.unique(self._values, return_inverse=True)
        nulls = _mask(self._nulls)
        return ranks.astype(np.int64) if nulls is None else np.where(nulls, -1, ranks)

    def content(self) -> Iterator[bytes | memoryview]:
        """See ``Column``."""
        nulls = _mask(self._nulls)
        if nulls is None:
            nulls = np.zeros(len(self._values), dtype=np.bool_)
        yield b"billionths" if self._scaled else b"integers"
        yield np.where(nulls, 0, self._values).astype(np.int64).tobytes()
        yield np.packbits(nulls).tobytes()

    def same(self, positions: Positions, other: Column, theirs: Positions) -> Mask:
        """See ``Column``."""
        if not isinstance(other, Numbers) or other._scaled != self._scaled:
            return _same_one_by_one(self, positions, other, theirs)
        same: Mask = self._values[positions] == other._values[theirs]
        return _same_nulls(same, self._nulls, positions, other._nulls, theirs)

    @property
    def parts(self) -> tuple[npt.NDArray[Any], Mask | None, bool]:
        """The integers, which rows are null, and whether they are billionths."""
        return self._values, _mask(self._nulls), self._scaled


class Texts:
    """Strings, UTF-8 end to end.

    Args:
        array: an Arrow array of the type ``large_string``.
    """

    def __init__(self, array: Any) -> None:
        # What lies under a null is empty in all that Arrow makes; offsets are read as they are.
        self._array = array
        self._nulls = nulls_of(array)
        _, offsets, data = array.buffers()
        self._offsets = np.frombuffer(offsets, dtype=np.int64, count=len(array) + 1, offset=8 * array.offset)
        self._data = memoryview(data) if data is not None else memoryview(b"")

    def __len__(self) -> int:
        return len(self._array)

    def take(self, positions: Positions) -> list[Value | None]:
        """See ``Column``."""
        return _without(list(self.texts(positions)), self._nulls, positions)

    def texts(self, positions: Positions) -> list[str]:
        """The strings at these positions; null is the empty string."""
        data = self._data
        starts = self._offsets[positions].tolist()
        ends = self._offsets[positions + 1].tolist()
        return [str(data[start:end], "utf-8") for start, end in zip(starts, ends, strict=True)]

    def arranged(self, order: Positions) -> Texts:
        """See ``Column``."""
        return Texts(self.arrow().take(pa.array(order)))

    def ranks(self) -> Ranks:
        """See ``Column``. The order of UTF-8 is the order of code points."""
        ranks = np.asarray(pc.rank(self.arrow(), sort_keys="ascending", tiebreaker="dense")).astype(np.int64)
        nulls = _mask(self._nulls)
        return ranks if nulls is None else np.where(nulls, -1, ranks)

    def content(self) -> Iterator[bytes | memoryview]:
        """See ``Column``."""
        yield (self._offsets - self._offsets[0]).tobytes()
        yield self._data[self._offsets[0] : self._offsets[-1]]
        nulls = _mask(self._nulls)
        yield b"" if nulls is None else np.packbits(nulls).tobytes()

    def same(self, positions: Positions, other: Column, theirs: Positions) -> Mask:
        """See ``Column``."""
        if not isinstance(other, Texts):
            return _same_one_by_one(self, positions, other, theirs)
        one, another = self.arrow().take(pa.array(positions)), other.arrow().take(pa.array(theirs))
        same: Mask = np.asarray(pc.fill_null(pc.equal(one, another), False))
        same |= np.asarray(one.is_null()) & np.asarray(another.is_null())
        return same

    def arrow(self) -> Any:
        """The Arrow array."""
        return self._array


def _smallest(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same integers in the smallest signed type that holds them all."""
    if not len(values):
        return values
    lowest, highest = int(values.min()), int(values.max())
    for candidate in (np.int8, np.int16, np.int32):
        if np.iinfo(candidate).min <= lowest and highest <= np.iinfo(candidate).max:
            return values.astype(candidate)
    return values.astype(np.int64, copy=False)


def _mask(nulls: Mask | Bitmap | None) -> Mask | None:
    return nulls.mask() if isinstance(nulls, Bitmap) else nulls


def _same_nulls(
    same: Mask, one: Mask | Bitmap | None, positions: Positions, other: Mask | Bitmap | None, theirs: Positions
) -> Mask:
    """Equal values of which neither is null, and pairs of nulls."""
    if one is None and other is None:
        return same
    nothing = np.zeros(len(same), dtype=np.bool_)
    left = nothing if one is None else one[positions]
    right = nothing if other is None else other[theirs]
    result: Mask = np.where(left | right, left & right, same)
    return result


def _same_one_by_one(one: Column, positions: Positions, other: Column, theirs: Positions) -> Mask:
    """For columns of different layouts; in steps, since it makes Python objects."""
    same = np.empty(len(positions), dtype=np.bool_)
    for at in range(0, len(positions), _STEP):
        until = at + _STEP
        pairs = zip(one.take(positions[at:until]), other.take(theirs[at:until]), strict=True)
        same[at:until] = [left == right for left, right in pairs]
    return same


def _without(values: list[Value | None], nulls: Mask | Bitmap | None, positions: Positions) -> list[Value | None]:
    """The values, None where the row is null."""
    if nulls is None:
        return values
    return [None if null else value for value, null in zip(values, nulls[positions].tolist(), strict=True)]
