"""Message ids that a shard has used: recalled exactly, remembered in the batch that used them.

Owns: the ``seen`` family. Ids are 64-bit hashes (the caller's: of profile and message id together). They live in
generations, each with one Bloom filter in memory (state.bloom) in front of its entries on disk (state.runs)::

    0x00 | generation:u32              -> sealed:u8 | words_log2:u8 | count:u64 | newest_ms:i64 | started_ms:i64
                                          | bits of each run:u8 *
    0x01 | generation:u32 | serial:u32 -> entries (state.entries), as one ``add`` brought them
    0x02 | generation:u32 | run:u16 | part:u16 -> entries in order of hash

Only the newest generation is open: ``add`` writes what it brings as one value and keeps it in memory; every RECENT_IDS
ids they become a run and the values go. A generation is sealed when its filter is full, and then the next has four times the
room, or when the shard's time has gone an eighth of the period further, and then the next has the room that this one
would have needed. So there are about nine generations; a filter costs 3 bytes an id when full, entries cost 12 on disk.

Invariant: ``recall`` answers as a dict of all adds would, but for entries that ``forget`` was allowed to drop. Nothing is
dropped by the times of entries alone: a profile whose clock ran ahead keeps its own generation longer and takes nothing
from anybody else. Changes in memory go with the batch: a process whose batch was refused starts again.
Not here: what a duplicate is (the caller: now less the recalled time is below the period), ids twice in one batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import Final

import numpy as np

from opportune.errors import StateError
from state.bloom import Bloom, Probe, words_log2_for
from state.entries import EMPTY_BYTES, Hashes, Times, decode_entries, decode_many, encode_entries
from state.runs import RUN, Recent, find_in_runs, write_run
from state.store import Batch, Store

RECENT_IDS: Final = 131_072
"""Ids of a shard whose entries are in memory, at 16 bytes each."""
WORDS_LOG2_FIRST: Final = 15
WORDS_LOG2_LEAST: Final = 12
WORDS_LOG2_MOST: Final = 22
"""Room for 87,000, 10,000 and 11 million ids."""
_ROTATIONS_A_PERIOD = 8
_UNKNOWN = -(1 << 63)

_generation_key = Struct(">BI").pack
_added_key = Struct(">BII").pack
_DESCRIPTION = Struct(">BBQqq")


@dataclass
class _Generation:
    """Ids of one stretch of time."""

    number: int
    words_log2: int
    bloom: Bloom
    count: int = 0
    newest_ms: int = _UNKNOWN
    started_ms: int = _UNKNOWN
    sealed: bool = False
    runs: list[int] = field(default_factory=list)
    serial: int = 0
    """Of the next value that ``add`` writes."""

    def encode(self) -> bytes:
        """What is kept of it beside its entries."""
        return _DESCRIPTION.pack(self.sealed, self.words_log2, self.count, self.newest_ms, self.started_ms) + bytes(
            self.runs
        )


class Seen:
    """Used message ids of one shard.

    Args:
        store: of the shard; what it has is loaded, 10 million ids in about a second.
        period_ms: for how long the caller wants ids.
        recent_ids: how many entries stay in memory.

    Raises:
        StateError: the family holds something else.
    """

    def __init__(self, store: Store, period_ms: int, recent_ids: int = RECENT_IDS) -> None:
        self._store = store
        self._family = store.family("seen")
        self._period_ms = period_ms
        self._recent_ids = recent_ids
        self._recent = Recent()
        self._generations: list[_Generation] = []
        self._next = 0
        # The shard's time at which ``forget`` has something to do; asked before any other work.
        self._due_ms = _UNKNOWN
        self._load()

    def recall(self, hashes: Hashes) -> Times:
        """For each hash the ``now`` at which it was last used, or -1: (n,) uint64 to (n,) int64."""
        used = np.full(len(hashes), -1, np.int64)
        if not self._generations or not len(hashes):
            return used
        probe = Probe(hashes)
        for generation in reversed(self._generations):
            at = generation.bloom.positives(probe)
            if len(at):
                at = at[used[at] < 0]
                if len(at):
                    used[at] = self._find(generation, hashes[at])
        return used

    def add(self, batch: Batch, hashes: Hashes, used_ms: Times) -> None:
        """Remembers ids, in the batch that makes their use durable.

        Args:
            batch: to write into; it must be written, or the process ends.
            hashes: (n,) of uint64; not to be changed afterwards.
            used_ms: (n,) of int64, the ``now`` at which each was used, not negative; not to be changed afterwards.
        """
        if not len(hashes):
            return
        generation = self._open(batch)
        batch.put(_added_key(0x01, generation.number, generation.serial), encode_entries(hashes, used_ms), self._family)
        generation.serial += 1
        generation.bloom.add(Probe(hashes))
        generation.count += len(hashes)
        generation.newest_ms = max(generation.newest_ms, int(used_ms.max()))
        self._recent.add(hashes, used_ms)

    def make_room(self, batch: Batch) -> None:
        """Writes runs where there is too much in memory; they are read again only after the batch is written."""
        generation = self._generations[-1] if self._generations else None
        if generation is None or generation.sealed:
            return
        if generation.count >= generation.bloom.capacity:
            self._seal(batch, generation)
        elif self._recent.count >= self._recent_ids:
            self._flush(batch, generation)
            self._describe(batch, generation)

    def forget(self, batch: Batch, now_ms: int) -> None:
        """Drops what nobody needs any more, a generation at a time, and brings to runs what is too much for memory.

        The last to be called for a batch: what is in runs is not found before it is written.

        Args:
            batch: to write into; it must be written, or the process ends.
            now_ms: the shard's time. Entries that are a period or more older are not needed any more: no event can come
                at a ``now`` before it.
        """
        self.make_room(batch)
        if now_ms < self._due_ms:
            return
        newest = self._generations[-1] if self._generations else None
        if newest is not None and not newest.sealed:
            if newest.started_ms == _UNKNOWN:
                newest.started_ms = now_ms
            elif now_ms - newest.started_ms >= self._rotation_ms:
                self._seal(batch, newest)
        for generation in [one for one in self._generations if one.newest_ms + self._period_ms <= now_ms]:
            self._drop(batch, generation)
        due = [one.newest_ms + self._period_ms for one in self._generations]
        due += [one.started_ms + self._rotation_ms for one in self._generations if not one.sealed]
        self._due_ms = min(due, default=1 << 62)

    @property
    def ids(self) -> int:
        """How many entries are kept."""
        return sum(generation.count for generation in self._generations)

    @property
    def memory_bytes(self) -> int:
        """Bytes of filters and of recent entries."""
        return sum(generation.bloom.nbytes for generation in self._generations) + 16 * self._recent.count

    @property
    def _rotation_ms(self) -> int:
        return max(1, self._period_ms // _ROTATIONS_A_PERIOD)

    def _find(self, generation: _Generation, wanted: Hashes) -> Times:
        if generation.sealed or not self._recent.count:
            return find_in_runs(self._store, generation.number, generation.runs, wanted)
        used = self._recent.find(wanted)
        at = np.flatnonzero(used < 0)
        if len(at) and generation.runs:
            used[at] = find_in_runs(self._store, generation.number, generation.runs, wanted[at])
        return used

    def _open(self, batch: Batch) -> _Generation:
        last = self._generations[-1] if self._generations else None
        if last is not None and not last.sealed:
            return last
        if last is None:
            words_log2 = WORDS_LOG2_FIRST
        elif last.count >= last.bloom.capacity:
            words_log2 = min(last.words_log2 + 2, WORDS_LOG2_MOST)
        else:
            words_log2 = min(words_log2_for(last.count * 5 // 4, WORDS_LOG2_LEAST), WORDS_LOG2_MOST)
        generation = _Generation(self._next, words_log2, Bloom(words_log2))
        self._next += 1
        self._generations.append(generation)
        self._due_ms = _UNKNOWN
        self._describe(batch, generation)
        return generation

    def _flush(self, batch: Batch, generation: _Generation) -> None:
        """Makes a run of what is in memory."""
        if not self._recent.count:
            return
        hashes, used_ms = self._recent.in_order()
        bits = write_run(batch, self._family, generation.number, len(generation.runs), hashes, used_ms)
        generation.runs.append(bits)
        end = _added_key(0x01, generation.number, generation.serial)
        batch.delete_range(_added_key(0x01, generation.number, 0), end, self._family)
        if len(hashes) == generation.count and generation.count < generation.bloom.capacity:
            # All of its ids are at hand: what the filter has too much of room is given back.
            self._shrink(generation, hashes)
        self._recent = Recent()

    def _shrink(self, generation: _Generation, hashes: Hashes) -> None:
        words_log2 = words_log2_for(generation.count)
        if generation.sealed and words_log2 < generation.words_log2:
            generation.words_log2 = words_log2
            generation.bloom = Bloom(words_log2)
            generation.bloom.add(Probe(hashes))

    def _seal(self, batch: Batch, generation: _Generation) -> None:
        generation.sealed = True
        self._flush(batch, generation)
        self._describe(batch, generation)

    def _describe(self, batch: Batch, generation: _Generation) -> None:
        batch.put(_generation_key(0x00, generation.number), generation.encode(), self._family)

    def _drop(self, batch: Batch, generation: _Generation) -> None:
        if not generation.sealed:
            self._recent = Recent()
        batch.delete(_generation_key(0x00, generation.number), self._family)
        for kind in (0x01, RUN):
            begin, end = _generation_key(kind, generation.number), _generation_key(kind, generation.number + 1)
            batch.delete_range(begin, end, self._family)
        self._generations.remove(generation)

    def _load(self) -> None:
        by_number: dict[int, _Generation] = {}
        for key, value in self._store.scan("seen", b"\x00", b"\x01"):
            generation = _decode_generation(key, value)
            by_number[generation.number] = generation
        self._generations = list(by_number.values())
        if any(not generation.sealed for generation in self._generations[:-1]):
            raise _damaged("an older generation is open")
        self._next = max(by_number, default=-1) + 1
        self._load_runs(by_number)
        self._load_recent(by_number)

    def _load_runs(self, by_number: dict[int, _Generation]) -> None:
        counted = dict.fromkeys(by_number, 0)
        for key, value in self._store.scan("seen", b"\x02"):
            number = int.from_bytes(key[1:5], "big")
            if key[0] != RUN or len(key) != 9 or number not in by_number:
                raise _damaged(f"the key {key.hex()}")
            hashes, _ = decode_entries(value)
            by_number[number].bloom.add(Probe(hashes))
            counted[number] += len(hashes)
        for number, generation in by_number.items():
            if counted[number] != generation.count:
                raise _damaged(f"generation {number} has {counted[number]} ids of {generation.count}")

    def _load_recent(self, by_number: dict[int, _Generation]) -> None:
        values: list[bytes] = []
        for key, value in self._store.scan("seen", b"\x01", b"\x02"):
            generation = by_number.get(int.from_bytes(key[1:5], "big"))
            if len(key) != 9 or generation is None or generation.sealed:
                raise _damaged(f"the key {key.hex()}")
            if len(value) <= EMPTY_BYTES:
                raise _damaged(f"no id under the key {key.hex()}")
            values.append(value)
            generation.serial = int.from_bytes(key[5:9], "big") + 1
        if not values:
            return
        # Only the last generation is open, so all are of that one: they are added at once, since each batch wrote a few.
        hashes, used_ms = decode_many(values)
        newest = self._generations[-1]
        newest.bloom.add(Probe(hashes))
        newest.count += len(hashes)
        newest.newest_ms = max(newest.newest_ms, int(used_ms.max()))
        self._recent.add(hashes, used_ms)


def _decode_generation(key: bytes, value: bytes) -> _Generation:
    if len(key) != 5 or len(value) < _DESCRIPTION.size:
        raise _damaged(f"the key {key.hex()}")
    sealed, words_log2, count, newest_ms, started_ms = _DESCRIPTION.unpack_from(value)
    runs = list(value[_DESCRIPTION.size :])
    if sealed > 1 or not 1 <= words_log2 <= WORDS_LOG2_MOST or any(bits > 16 for bits in runs):
        raise _damaged(f"the description of generation {key[1:].hex()}")
    number = int.from_bytes(key[1:], "big")
    return _Generation(number, words_log2, Bloom(words_log2), count, newest_ms, started_ms, bool(sealed), runs)


def _damaged(what: str) -> StateError:
    return StateError(
        f"the state of this shard is damaged: in its seen message ids, {what}. Restore a checkpoint set, or start with an "
        "empty state directory; then the topics are read again from the beginning."
    )
