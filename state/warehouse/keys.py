"""Whose a row is: key cells become identifiers, and identifiers places in order of profile id.

Owns: which text a key cell is, the refusal of rows without one, blocked keys, and which of several rows with one key holds.
Invariant: a key is what the same value is as an identifier of an event (``opportune.event.identifier_text``); after ``arrange`` each profile id has one row; nothing is dropped but what ``order_by`` outranks and blocked
keys, which are counted.
Not here: the derivation of a profile id (opportune.identity), the look-up (state.warehouse.index).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types as arrow

from opportune.event import identifier_text
from opportune.identifiers import Namespace, is_too_long, normalised
from opportune.identity import profile_id
from state.warehouse.columns import Column, Texts
from state.warehouse.index import Mask, Positions, ProfileIndex
from state.warehouse.problems import Problems, shown
from state.warehouse.readings import plain, value_type_of
from state.warehouse.values import number_of_decimal, number_of_float, number_of_text

Halves = npt.NDArray[np.uint64]


class Arranged(NamedTuple):
    """Rows in order of profile id: row i of the table is row ``order[i]`` of the file."""

    profiles: ProfileIndex
    order: Positions

    def without(self, gone: Mask) -> Arranged:
        """The rows but for some, as their places say."""
        if not gone.any():
            return self
        high, low = self.profiles.halves
        return Arranged(ProfileIndex(high[~gone], low[~gone]), self.order[~gone])


class Keys:
    """The key column on its way in, batch by batch.

    Args:
        name: the key column.
        namespace: the kind of identifier that its values are.
        number: whether text in it is declared to be numbers (1.0 and 1 are one key then).
        blocked: whether a key stands for nobody.
        problems: takes what is wrong.
    """

    def __init__(
        self, name: str, namespace: Namespace, *, number: bool, blocked: Callable[[str], bool], problems: Problems
    ) -> None:
        self._name = name
        self._namespace = namespace
        self._number = number
        self._blocked = blocked
        self._problems = problems
        self._ids: list[Halves] = []
        self._texts: list[Any] = []
        self._rows = 0
        self._empty: list[int] = []
        self._blocked_rows: list[int] = []

    def add(self, array: Any) -> None:
        """Takes the keys of the next rows, an Arrow array of strings or numbers."""
        texts = self._as_texts(array)
        if array.null_count or "" in texts:
            self._empty += [self._rows + at for at, text in enumerate(texts) if not text]
            texts = [text or "" for text in texts]
        namespace, blocked = self._namespace, self._blocked
        if namespace.normalise != "text":
            given, texts = texts, [text and normalised(namespace, text) for text in texts]
            # What is no address or number of its kind can be nobody's, as in events.
            self._blocked_rows += [self._rows + at for at, text in enumerate(texts) if not text and given[at]]
        # Nor what is longer than an identifier: nobody could look such a person up, or ask that they be forgotten.
        self._blocked_rows += [
            self._rows + at for at, text in enumerate(texts) if text and (blocked(text) or is_too_long(text))
        ]
        name = namespace.name
        ids = b"".join([profile_id(name, text) for text in texts])
        self._ids.append(np.frombuffer(ids, dtype=">u8").astype(np.uint64).reshape(-1, 2))
        self._texts.append(pa.array(texts, pa.large_string()))
        self._rows += len(texts)

    @property
    def blocked_rows(self) -> int:
        """How many rows have a blocked key."""
        return len(self._blocked_rows)

    def texts(self) -> Texts:
        """The keys, in the file's order."""
        return Texts(pa.concat_arrays([*self._texts, pa.array([], pa.large_string())]))

    def arrange(self, order_by: Column | None) -> Arranged:
        """Orders the rows by profile id, one a profile.

        Args:
            order_by: of several rows with one key the greatest value in it holds.

        Raises:
            DefinitionError: rows without a key; several rows with one key, and none of them the greatest.
        """
        self._refuse_empty()
        ids = np.concatenate([*self._ids, np.empty((0, 2), dtype=np.uint64)])
        self._ids = []
        high, low = ids[:, 0], ids[:, 1]
        order = high.argsort(kind="stable")
        ranks = None
        if self._blocked_rows:
            order = order[~np.isin(order, self._blocked_rows)]
        if (high[order[1:]] == high[order[:-1]]).any():
            ranks = order_by.ranks() if order_by is not None else None
            minor = (low[order], high[order]) if ranks is None else (ranks[order], low[order], high[order])
            order = self._one_a_key(order[np.lexsort(minor)], ids, ranks)
        return Arranged(ProfileIndex(high[order], low[order]), order)

    def _one_a_key(self, order: Positions, ids: Halves, ranks: npt.NDArray[np.int64] | None) -> Positions:
        """Keeps the last of each run of rows with one id, which must outrank the one before it."""
        same = (ids[order[1:]] == ids[order[:-1]]).all(axis=1)
        last = np.append(~same, True)
        final = same & last[1:]
        tied = same if ranks is None else final & (ranks[order[1:]] == ranks[order[:-1]])
        if tied.any():
            keys = int((final & tied).sum())
            self._refuse_tie(order[:-1][tied], order[1:][tied], keys, ranked=ranks is not None)
        kept: Positions = order[last]
        return kept

    def _refuse_tie(self, firsts: Positions, seconds: Positions, keys: int, *, ranked: bool) -> None:
        pick = int(np.minimum(firsts, seconds).argmin())
        one, other = sorted((int(firsts[pick]), int(seconds[pick])))
        key = shown(self.texts().texts(np.array([one]))[0])
        more = f" ({keys} keys are so)" if keys > 1 else ""
        if ranked:
            what = f"rows {one + 1} and {other + 1} have the key {key} and the same greatest `order_by` value{more}; "
            what += "order by a column that differs, or keep one row a key"
        else:
            what = f"rows {one + 1} and {other + 1} have the key {key}{more}; keep one row a key, "
            what += "or name under `order_by` the column whose greatest value holds"
        self._problems.fail(what, column=self._name)

    def _refuse_empty(self) -> None:
        if self._empty:
            more = f", as in {len(self._empty)} rows" if len(self._empty) > 1 else ""
            what = f"the key is empty{more}; give each row a key, or leave such rows out of the file"
            self._problems.fail(what, column=self._name, row=self._empty[0] + 1)

    def _as_texts(self, array: Any) -> list[Any]:
        kind = plain(array.type)
        array = array.cast(kind)
        if arrow.is_integer(kind):
            return [None if number is None else str(number) for number in array.to_pylist()]
        if arrow.is_floating(kind):
            known = zip(np.asarray(array.fill_null(0)), array.is_valid().to_pylist(), strict=True)
            cells: list[Any] = [str(number) if valid else None for number, valid in known]
            return self._numbers(cells, number_of_float)
        if arrow.is_decimal(kind):
            return self._numbers(array.to_pylist(), number_of_decimal)
        texts: list[Any] = array.cast(pa.string()).to_pylist()
        if self._number:
            return self._numbers(texts, number_of_text)
        return [None if text is None else identifier_text(text) for text in texts]

    def _numbers(self, cells: list[Any], read: Callable[[Any], Any]) -> list[Any]:
        texts: list[Any] = []
        for at, cell in enumerate(cells):
            try:
                texts.append(None if cell is None or cell == "" else identifier_text(read(cell)))
            except ValueError as error:
                what = f"{shown(cell)} {error}; correct the key"
                self._problems.fail(what, column=self._name, row=self._rows + at + 1)
        return texts


def can_be_key(kind: Any) -> bool:
    """Whether a column of this Arrow type can hold keys: strings and numbers can."""
    return value_type_of(kind) in ("string", "number")
