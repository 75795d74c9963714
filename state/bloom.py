"""A blocked Bloom filter over 64-bit hashes, all of a batch at once.

Owns: one array of 64-bit words. A hash has four bits in a word, which its upper bits choose, and four in that word's
neighbour: both lie in one cache line. The patterns come from a table of 65,536 that two of its lower 16-bit parts
choose (Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007, section 3: bit patterns).
Invariant: what was added is always found; of other hashes 3 in 10,000 when full (24 bits a hash), fewer before.
It lives in memory only, so nothing here is a format. Not here: what a positive means (state.seen).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from state.entries import Hashes

BITS_A_HASH: Final = 24


def _patterns() -> NDArray[np.uint64]:
    """65,536 words with up to four bits set, the same in every process."""
    places = np.random.default_rng(0x0B10C).integers(0, 64, (65_536, 4), np.uint64)
    patterns: NDArray[np.uint64] = np.bitwise_or.reduce(np.uint64(1) << places, axis=1)
    return patterns


_PATTERNS = _patterns()


class Probe:
    """Hashes with their patterns: made once, asked of many filters.

    Args:
        hashes: (n,) of uint64, contiguous.
    """

    __slots__ = ("first", "hashes", "second")

    def __init__(self, hashes: Hashes) -> None:
        parts = np.ascontiguousarray(hashes, np.dtype("<u8")).view(np.uint16)
        self.hashes = hashes
        self.first = _PATTERNS.take(parts[0::4])
        self.second = _PATTERNS.take(parts[1::4])


class Bloom:
    """A filter of ``2 ** words_log2`` words, at least two.

    Args:
        words_log2: 1 to 32.
    """

    __slots__ = ("_shift", "_words", "capacity")

    def __init__(self, words_log2: int) -> None:
        self._words = np.zeros(1 << words_log2, np.uint64)
        self._shift = np.uint64(64 - words_log2)
        self.capacity = (64 << words_log2) // BITS_A_HASH
        """How many hashes it holds at its promised rate of false positives."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._words.nbytes

    def add(self, probe: Probe) -> None:
        """Adds all hashes of a probe."""
        at = (probe.hashes >> self._shift).view(np.int64)
        np.bitwise_or.at(self._words, at, probe.first)
        np.bitwise_or.at(self._words, at ^ 1, probe.second)

    def positives(self, probe: Probe) -> NDArray[np.int64]:
        """Where in the probe the hashes are that may have been added, in order."""
        at = (probe.hashes >> self._shift).view(np.int64)
        words = self._words.take(at)
        words &= probe.first
        found = np.flatnonzero(words == probe.first)
        if len(found):
            second = probe.second[found]
            found = found[(self._words.take(at[found] ^ 1) & second) == second]
        return found


def words_log2_for(count: int, least: int = 1) -> int:
    """The size, at least ``least``, of a filter for ``count`` hashes."""
    return max(least, (max(count, 1) * BITS_A_HASH // 64).bit_length())
