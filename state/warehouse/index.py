"""Which row is whose: profile ids in order, found many at a time.

Owns: two arrays of the halves of the ids, both in order of the whole id::

    high: u64, ids[i][0:8]    low: u64, ids[i][8:16]

and a directory: for each value of the first bits of an id, the first place at which an id begins so or higher. All of
them may be memory-mapped: they are read where they lie.
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
# Up to this many ids a walk in Python is quicker than the setup of numpy.
_FEW = 16
# About two rows an entry of the directory, two of its bytes a row: ids are uniform, so the walk is a step or two.
_ROWS_AN_ENTRY_BITS = 1


class ProfileIndex:
    """The places of profile ids.

    Args:
        high: the first eight bytes of each id, big-endian, in ascending order of the id.
        low: the last eight bytes.
        directory: as ``directory`` gives it, where it was kept; None: it is made.
    """

    def __init__(
        self,
        high: npt.NDArray[np.uint64],
        low: npt.NDArray[np.uint64],
        directory: npt.NDArray[np.uint32] | None = None,
    ) -> None:
        self._rows = len(high)
        self._last = max(self._rows - 1, 0)
        self._high = high
        self._low = low
        bits = _directory_bits(self._rows)
        self._shift = np.uint64(64 - bits)
        if directory is None:
            firsts = np.arange(2**bits, dtype=np.uint64) << self._shift
            directory = high.searchsorted(firsts).astype(np.uint32)
        self._directory = directory[: 2**bits]
        self._few = self._directory.data, high.data, low.data, 64 - bits

    def __len__(self) -> int:
        return self._rows

    @property
    def directory(self) -> npt.NDArray[np.uint32]:
        """Where searches begin; no longer than the ids where there are two or more of them."""
        return self._directory

    @property
    def halves(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """The ids' first and last eight bytes, in order."""
        return self._high, self._low

    def find(self, profile_ids: Sequence[bytes]) -> tuple[Positions, Mask | None]:
        """The place of each id, and which of them have one (None: all do; other places mean nothing).

        Args:
            profile_ids: ids of 16 bytes each, in any order, repeats allowed.
        """
        if not self._rows:
            return np.zeros(len(profile_ids), dtype=np.intp), np.zeros(len(profile_ids), dtype=np.bool_)
        if len(profile_ids) <= _FEW:
            return self._find_few(profile_ids)
        pairs = np.frombuffer(b"".join(profile_ids), dtype=_PAIRS).astype(np.uint64).reshape(-1, 2)
        places, found = self.find_halves(pairs[:, 0], pairs[:, 1])
        return places, None if found.all() else found

    def find_halves(self, high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> tuple[Positions, Mask]:
        """As ``find``, of ids in halves; says of each whether it has a place."""
        if not self._rows:
            return np.zeros(len(high), dtype=np.intp), np.zeros(len(high), dtype=np.bool_)
        places = self._directory[high >> self._shift].astype(np.intp)
        np.minimum(places, self._last, out=places)
        while (below := (self._high[places] < high) & (places < self._last)).any():
            places += below
        # Ids that share the high half: on from those that have a smaller low one.
        while (below := (self._high[places] == high) & (self._low[places] < low) & (places < self._last)).any():
            places += below
        found: Mask = self._high[places] == high
        found &= self._low[places] == low
        return places, found

    def span(self, shard: int, shards: int) -> tuple[int, int]:
        """The places, from and to, of the ids whose slots belong to a shard (``opportune.identity.shard_of``)."""
        edges = [-(-edge * SLOTS // shards) for edge in (shard, shard + 1)]
        start, end = (self._rows if edge >= SLOTS else self._before(edge) for edge in edges)
        return start, end

    def ids(self, start: int, end: int) -> list[bytes]:
        """The ids at these places."""
        return ids_of(self._high[start:end], self._low[start:end])

    def ids_at(self, places: Positions) -> list[bytes]:
        """The ids at places in any order."""
        return ids_of(self._high[places], self._low[places])

    def content(self) -> tuple[bytes, bytes]:
        """All ids, as bytes; for fingerprints."""
        return self._high.tobytes(), self._low.tobytes()

    def _before(self, slot: int) -> int:
        return int(self._high.searchsorted(np.uint64(slot << 48)))

    def _find_few(self, profile_ids: Sequence[bytes]) -> tuple[Positions, Mask | None]:
        firsts, highs, lows, shift = self._few
        last = self._last
        places, found = [], []
        for profile in profile_ids:
            high, low = int.from_bytes(profile[:8], "big"), int.from_bytes(profile[8:], "big")
            place = min(firsts[high >> shift], last)
            while place < last and (highs[place] < high or (highs[place] == high and lows[place] < low)):
                place += 1
            places.append(place)
            found.append(highs[place] == high and lows[place] == low)
        return np.array(places, dtype=np.intp), None if all(found) else np.array(found, dtype=np.bool_)


def ids_of(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> list[bytes]:
    """Ids from their halves."""
    pairs = np.column_stack((high, low)).astype(_PAIRS).tobytes()
    return [pairs[at : at + ID_BYTES] for at in range(0, len(pairs), ID_BYTES)]


def _directory_bits(rows: int) -> int:
    return max(rows.bit_length() - _ROWS_AN_ENTRY_BITS, 1)
