"""Many numbers at once: Arrow arrays as billionths in eight bytes, where that is exact.

Owns: the vectorised twin of ``number_of_float``, ``number_of_decimal`` and ``number_of_text`` (state.warehouse.values).
Invariant: it gives what they give, or says that it does not know; a number that is near the middle of two is theirs.
Not here: the choice between them (state.warehouse.readings).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as arrow

from state.warehouse.values import BILLION, NUMBER

Billionths = npt.NDArray[np.int64]

# Below it neighbouring floats are less than 10^-9 apart.
_FINE_BELOW = 2.0**22
_WIDE = pa.decimal128(38, 9)
# Below it a float times 10^9 is off by less than 2e-4, its shortest text included.
_NEAR_BELOW = 1024.0
_DOUBT = 1e-3


def billionths_of(array: Any) -> Billionths | None:
    """The numbers of an array without nulls times 10^9; None where one of them is not exact in that, or too large.

    Args:
        array: an Arrow array of floats of 64 bits, decimals, or strings.
    """
    if arrow.is_float64(array.type):
        return _of_floats(np.asarray(array))
    if arrow.is_string(array.type):
        numbers = pc.all(pc.match_substring_regex(array, f"^(?:{NUMBER})$")).as_py()
        return _of_decimals(array) if numbers else None
    return _of_decimals(array) if arrow.is_decimal(array.type) else None


def rounded_billionths_of(array: Any) -> tuple[Billionths, npt.NDArray[np.bool_]]:
    """Floats of 64 bits without nulls times 10^9, rounded to whole ones; and of which of them that is not sure."""
    numbers = np.asarray(array)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = numbers * BILLION
        whole = np.rint(scaled)
        # Written so that NaN is in doubt.
        sure = (np.abs(numbers) < _NEAR_BELOW) & (np.abs(np.abs(scaled - whole) - 0.5) > _DOUBT)
    return np.where(sure, whole, 0).astype(np.int64), ~sure


def _of_floats(numbers: npt.NDArray[np.float64]) -> Billionths | None:
    """Exact where ``n / 10^9`` is the float itself, n whole.

    Of the decimals of nine places only one can then read back as this float, for floats lie closer together than such
    decimals do; the shortest text of the float has no more places than that one, so it is that one.
    """
    if not (np.abs(numbers) < _FINE_BELOW).all():
        return None
    whole = np.rint(numbers * BILLION)
    return whole.astype(np.int64) if (whole / BILLION == numbers).all() else None


def _of_decimals(array: Any) -> Billionths | None:
    try:
        wide = array.cast(_WIDE)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    halves = np.frombuffer(wide.buffers()[1], dtype="<i8").reshape(-1, 2)[wide.offset : wide.offset + len(wide)]
    low, high = halves[:, 0], halves[:, 1]
    return low.astype(np.int64) if (high == low >> 63).all() else None
