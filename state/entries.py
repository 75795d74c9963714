"""Packed (hash, used at) pairs of message ids.

Owns: the values of the seen family that hold ids, laid out for numpy, hence little-endian::

    kind:u8 | 0:u8 * 3 | count:u32 | base_ms:i64 | hash:u64 * count | used_ms less base_ms:(u32 | u64) * count

``kind`` 0 has u32 behind the base, 1 has u64: one wild clock in a batch makes its entry wide and no other one.
Invariant: what is decoded is what was encoded, in the same order; 12 bytes an id and 16 a value.
Not here: which value an id is in (state.seen).
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from opportune.errors import StateError

Hashes: TypeAlias = NDArray[np.uint64]
Times: TypeAlias = NDArray[np.int64]

_HEAD: Final = Struct("<B3xIq")
EMPTY_BYTES: Final = _HEAD.size
"""A value of no entries has so many bytes."""
_HASH = np.dtype("<u8")
_DELTAS = (np.dtype("<u4"), np.dtype("<u8"))


def encode_entries(hashes: Hashes, used_ms: Times) -> bytes:
    """Packs hashes and the instants at which they were used: two arrays of one length."""
    if not len(hashes):
        return _HEAD.pack(0, 0, 0)
    base = int(used_ms.min())
    kind = 0 if int(used_ms.max()) - base < 1 << 32 else 1
    # In u64, where the difference of any two instants fits.
    behind = used_ms.astype(np.uint64) - np.uint64(base & 0xFFFF_FFFF_FFFF_FFFF)
    return (
        _HEAD.pack(kind, len(hashes), base)
        + hashes.astype(_HASH, copy=False).tobytes()
        + behind.astype(_DELTAS[kind], copy=False).tobytes()
    )


def decode_entries(value: bytes) -> tuple[Hashes, Times]:
    """Hashes and instants in the order in which they were packed. Raises ``StateError`` on other bytes."""
    kind, count, base = _head(value)
    hashes = np.frombuffer(value, _HASH, count, _HEAD.size)
    behind = np.frombuffer(value, _DELTAS[kind], count, _HEAD.size + 8 * count)
    used = (behind.astype(np.uint64) + np.uint64(base & 0xFFFF_FFFF_FFFF_FFFF)).astype(np.int64)
    return hashes.astype(np.uint64, copy=False), used


def decode_many(values: Sequence[bytes]) -> tuple[Hashes, Times]:
    """What several values hold, one after the other: as ``decode_entries`` of each, in a few calls for all."""
    heads = [_head(value) for value in values]
    if any(kind for kind, _, _ in heads):
        parts = [decode_entries(value) for value in values]
        return np.concatenate([hashes for hashes, _ in parts]), np.concatenate([used for _, used in parts])
    counts = [count for _, count, _ in heads]
    ends = [_HEAD.size + 8 * count for count in counts]
    hashes = np.frombuffer(b"".join([value[_HEAD.size : end] for value, end in zip(values, ends, strict=True)]), _HASH)
    behind = np.frombuffer(b"".join([value[end:] for value, end in zip(values, ends, strict=True)]), _DELTAS[0])
    bases = np.repeat(np.array([base for _, _, base in heads], np.int64), counts)
    return hashes.astype(np.uint64, copy=False), bases + behind


def find_entry(value: bytes, wanted: np.uint64) -> int:
    """When a hash was used, -1 where it is not there: one look-up in entries that are in order of hash.

    Of equal hashes the last counts. Raises ``StateError`` as ``decode_entries`` does.
    """
    kind, count, base = _head(value)
    hashes = np.frombuffer(value, _HASH, count, _HEAD.size)
    at = int(hashes.searchsorted(wanted, side="right")) - 1
    if at < 0 or hashes[at] != wanted:
        return -1
    size = _DELTAS[kind].itemsize
    place = _HEAD.size + 8 * count + size * at
    used = base + int.from_bytes(value[place : place + size], "little")
    return used if used < 1 << 63 else used - (1 << 64)


def _head(value: bytes) -> tuple[int, int, int]:
    """(kind, count, base_ms), checked against the length."""
    if len(value) < _HEAD.size:
        raise _damaged(value)
    kind, count, base = _HEAD.unpack_from(value)
    if kind > 1 or len(value) != _HEAD.size + count * (8 + _DELTAS[kind].itemsize):
        raise _damaged(value)
    return kind, count, base


def _damaged(value: bytes) -> StateError:
    return StateError(
        f"the state of this shard is damaged: {len(value)} bytes of seen message ids are not of their layout. Restore a "
        "checkpoint set, or start with an empty state directory; then the topics are read again from the beginning."
    )
