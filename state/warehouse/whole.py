"""A column as whole numbers: for comparing rows by when they were written.

Owns: ``integers_of``. Fractions are cut down, so that a row is never taken for newer than it is.
Not here: the layouts (state.warehouse.columns).
"""

from __future__ import annotations

from math import floor

import numpy as np
import numpy.typing as npt

from state.warehouse.columns import Column, Numbers
from state.warehouse.index import Mask
from state.warehouse.values import BILLION

_STEP = 65_536
_LEAST, _GREATEST = -(2**63), 2**63 - 1


def integers_of(column: Column) -> tuple[npt.NDArray[np.int64], Mask]:
    """The whole parts of numbers, or instants, one a row; and which rows are null."""
    if isinstance(column, Numbers):
        values, nulls, scaled = column.parts
        wide = values.astype(np.int64)
        whole: npt.NDArray[np.int64] = wide // BILLION if scaled else wide
        return whole, np.zeros(len(values), dtype=np.bool_) if nulls is None else nulls
    integers, missing = [], []
    for at in range(0, len(column), _STEP):
        for value in column.take(np.arange(at, min(at + _STEP, len(column)))):
            missing.append(value is None)
            # Beyond eight bytes everything is as far away.
            integers.append(0 if value is None else min(max(floor(value), _LEAST), _GREATEST))  # type: ignore[arg-type]  # a number
    return np.array(integers, dtype=np.int64), np.array(missing, dtype=np.bool_)
