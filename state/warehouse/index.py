"""Which row is whose: profile ids in order, found many at a time.

Owns: two arrays of the halves of the ids, both in order of the whole id::

    high: u64, ids[i][0:8]    low: u64, ids[i][8:16]    and, last, one row of all ones that belongs to nobody

and a directory: for each value of the first bits of an id, the first place at which an id begins so or higher.
Invariant: exact. The directory says where a search begins; both halves of an id are compared.
Not here: where ids come from (state.warehouse.keys), values (state.warehouse.columns).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from opportune.identity import SLOTS

Positions = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

ID_BYTES = 16
_PAIRS = np.dtype(">u8")
_END = np.uint64(2**64 - 1)
# Up to this many ids a walk in Python is quicker than the setup of numpy.
_FEW = 16
# About two rows an entry of the directory, two of its bytes a row: ids are uniform, so the walk is a step or two.
_ROWS_AN_ENTRY_BITS = 1


class ProfileIndex:
    """The places of profile ids.

    Args:
        high: the first eight bytes of each id, big-endian, in ascending order of the id.
        low: the last eight bytes.
    """

    def __init__(self, high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> None:
        self._rows = len(high)
        self._high = np.append(high, _END)
        self._low = np.append(low, _END)
        self._sorted = self._high[: self._rows]
        self._twins = bool((high[1:] == high[:-1]).any())
        bits = max(self._rows.bit_length() - _ROWS_AN_ENTRY_BITS, 1)
        self._shift = np.uint64(64 - bits)
        firsts = np.arange(2**bits, dtype=np.uint64) << self._shift
        self._directory = self._sorted.searchsorted(firsts).astype(np.uint32)
        self._few = self._directory.data, self._high.data, self._low.data, 64 - bits

    def __len__(self) -> int:
        return self._rows

    def find(self, profile_ids: Sequence[bytes]) -> tuple[Positions, Mask | None]:
        """The place of each id, and which of them have one (None: all do; other places mean nothing).

        Args:
            profile_ids: ids of 16 bytes each, in any order, repeats allowed.
        """
        if len(profile_ids) <= _FEW:
            return self._find_few(profile_ids)
        pairs = np.frombuffer(b"".join(profile_ids), dtype=_PAIRS).astype(np.uint64).reshape(-1, 2)
        high, low = pairs[:, 0], pairs[:, 1]
        places = self._directory[high >> self._shift].astype(np.intp)
        while (below := self._high[places] < high).any():
            places += below
        if self._twins:
            places = self._past_twins(places, high, low)
        found: Mask = self._high[places] == high
        found &= self._low[places] == low
        found &= places != self._rows
        return places, None if found.all() else found

    def span(self, shard: int, shards: int) -> tuple[int, int]:
        """The places, from and to, of the ids whose slots belong to a shard (``opportune.identity.shard_of``)."""
        edges = [-(-edge * SLOTS // shards) for edge in (shard, shard + 1)]
        start, end = (self._rows if edge >= SLOTS else self._before(edge) for edge in edges)
        return start, end

    def ids(self, start: int, end: int) -> list[bytes]:
        """The ids at these places."""
        pairs = np.column_stack((self._high[start:end], self._low[start:end])).astype(_PAIRS).tobytes()
        return [pairs[at : at + ID_BYTES] for at in range(0, len(pairs), ID_BYTES)]

    def content(self) -> tuple[bytes, bytes]:
        """All ids, as bytes; for fingerprints."""
        return self._high.tobytes(), self._low.tobytes()

    def _before(self, slot: int) -> int:
        return int(self._sorted.searchsorted(np.uint64(slot << 48)))

    def _find_few(self, profile_ids: Sequence[bytes]) -> tuple[Positions, Mask | None]:
        firsts, highs, lows, shift = self._few
        places, found = [], []
        for profile in profile_ids:
            high, low = int.from_bytes(profile[:8], "big"), int.from_bytes(profile[8:], "big")
            place = firsts[high >> shift]
            while highs[place] < high or (highs[place] == high and lows[place] < low and place < self._rows):
                place += 1
            places.append(place)
            found.append(highs[place] == high and lows[place] == low and place < self._rows)
        return np.array(places, dtype=np.intp), None if all(found) else np.array(found, dtype=np.bool_)

    def _past_twins(self, places: Positions, high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> Positions:
        """On from ids that share the high half and have a smaller low one."""
        while (short := (self._high[places] == high) & (self._low[places] < low) & (places < self._rows)).any():
            places += short
        return places
