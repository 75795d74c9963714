"""Message ids of one generation: the newest in memory, the others in sorted runs on disk.

Owns: ``Recent``, in which ids wait in the order in which they came, and runs, which are written once and never changed.
A run's parts are cut by the upper bits of the hash, so that one id is in one known part of each run::

    0x02 | generation:u32 | run:u16 | part:u16 -> entries (state.entries) in order of hash

Invariant: of two entries of one hash the later added is found.
Not here: which generations there are, what is durable when (state.seen).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from struct import Struct
from typing import Any, Final

import numpy as np

from state.entries import Hashes, Times, decode_entries, encode_entries, find_entry
from state.store import Batch, Store

PART_IDS: Final = 1024
"""About how many ids a part of a run has: what one look-up reads."""
_TAIL_IDS = 8192
_FEW = 16

run_key = Struct(">BIHH").pack
"""``run_key(RUN, generation, run, part)``."""
RUN: Final = 0x02


class Recent:
    """Ids that are in no run yet: sorted pieces, and a tail that is as it came.

    Sorting waits for the first look-up that needs it: where no id comes again there is none before the run is written.
    """

    __slots__ = ("_pieces", "_tail", "_tail_ids", "count")

    def __init__(self) -> None:
        self._pieces: list[tuple[Hashes, Times]] = []
        self._tail: list[tuple[Hashes, Times]] = []
        self._tail_ids = 0
        self.count = 0

    def add(self, hashes: Hashes, used_ms: Times) -> None:
        """Takes ids in; the arrays must not be changed afterwards."""
        self._tail.append((hashes, used_ms))
        self._tail_ids += len(hashes)
        self.count += len(hashes)

    def find(self, wanted: Hashes) -> Times:
        """When each hash was last used; -1 for those that are not here."""
        used = np.full(len(wanted), -1, np.int64)
        if self._tail_ids >= _TAIL_IDS:
            self._pieces.append(_in_order(self._tail))
            self._tail, self._tail_ids = [], 0
        elif self._tail:
            self._find_in_tail(wanted, used)
        for hashes, times in reversed(self._pieces):
            at = np.flatnonzero(used < 0)
            if not len(at):
                break
            used[at] = _search(hashes, times, wanted[at])
        return used

    def in_order(self) -> tuple[Hashes, Times]:
        """All of it in order of hash, those of one hash in the order in which they came."""
        return _in_order([*self._pieces, *self._tail])

    def _find_in_tail(self, wanted: Hashes, used: Times) -> None:
        if len(wanted) > _FEW:
            used[:] = _search(*_in_order(self._tail), wanted)
            return
        if len(self._tail) > 1:
            self._tail = [_joined(self._tail)]
        hashes, times = self._tail[0]
        for place, one in enumerate(wanted):
            at = np.flatnonzero(hashes == one)
            if len(at):
                used[place] = times[at[-1]]


def write_run(batch: Batch, family: Any, generation: int, run: int, hashes: Hashes, used_ms: Times) -> int:
    """Puts a run of ids, in order of hash, into a batch.

    Args:
        batch: to write into.
        family: the handle of the seen family.
        generation: number of the generation.
        run: number of the run within it.
        hashes: in order, at least one.
        used_ms: when each was used.

    Returns:
        How many upper bits of a hash choose its part; ``find_in_runs`` wants it.
    """
    bits = max(0, (len(hashes) - 1) // PART_IDS).bit_length()
    starts = np.arange(1 << bits, dtype=np.uint64) << np.uint64(64 - bits) if bits else np.zeros(1, np.uint64)
    cuts = [*np.searchsorted(hashes, starts).tolist(), len(hashes)]
    for part in range(1 << bits):
        begin, end = cuts[part], cuts[part + 1]
        if begin < end:
            value = encode_entries(hashes[begin:end], used_ms[begin:end])
            batch.put(run_key(RUN, generation, run, part), value, family)
    return bits


def find_in_runs(store: Store, generation: int, runs: Sequence[int], wanted: Hashes) -> Times:
    """When each hash was last used according to the runs of a generation; -1 for those that are in none.

    Args:
        store: of the shard.
        generation: its number.
        runs: what ``write_run`` returned for each, oldest first.
        wanted: hashes.
    """
    used = np.full(len(wanted), -1, np.int64)
    after, many = len(runs), 4
    # Newest first, where most repeats are; the older ones in ever larger reads, as what is left is mostly in none.
    while after > 0 and len(at := np.flatnonzero(used < 0)):
        first = max(0, after - many)
        left = list(zip(at.tolist(), wanted[at].tolist(), strict=True))
        asked: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for run in range(first, after):
            for place, one in left:
                asked[run, one >> (64 - runs[run])].append(place)
        values = store.get_many("seen", [run_key(RUN, generation, run, part) for run, part in asked])
        # Runs are asked in the order in which they were written: the last to answer is the newest.
        for places, value in zip(asked.values(), values, strict=True):
            if value is not None:
                _find_in_part(value, wanted, places, used)
        after, many = first, 4 * many
    return used


def _find_in_part(value: bytes, wanted: Hashes, places: list[int], used: Times) -> None:
    """Fills in what a part of a run knows of the hashes at some places."""
    if len(places) == 1:
        found = find_entry(value, wanted[places[0]])
        if found >= 0:
            used[places[0]] = found
        return
    times = _search(*decode_entries(value), wanted[places])
    used[places] = np.where(times >= 0, times, used[places])


def _joined(pieces: Sequence[tuple[Hashes, Times]]) -> tuple[Hashes, Times]:
    return np.concatenate([hashes for hashes, _ in pieces]), np.concatenate([times for _, times in pieces])


def _in_order(pieces: Sequence[tuple[Hashes, Times]]) -> tuple[Hashes, Times]:
    hashes, times = _joined(pieces)
    order = np.argsort(hashes)
    ordered = hashes[order]
    if (ordered[1:] == ordered[:-1]).any():
        # The quicker sort does not keep the order of equals, of which there are next to none.
        order = np.argsort(hashes, kind="stable")
    return ordered, times[order]


def _search(hashes: Hashes, times: Times, wanted: Hashes) -> Times:
    """The times of the last of equals; where a hash is below all, index -1 is the greatest, which it does not equal."""
    at = np.searchsorted(hashes, wanted, side="right") - 1
    found: Times = np.where(hashes[at] == wanted, times[at], -1)
    return found
