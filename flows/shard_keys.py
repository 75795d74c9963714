"""Stream keys of shards: names that Bytewax's routing spreads evenly over workers.

Owns: ``shard_key``. Bytewax sends a key to worker ``SipHash-1-3(key + 0xff) % workers``; a suffix is searched so that the
hash agrees with the shard's number modulo 12, and so modulo 1, 2, 3, 4, 6 and 12: shard s sits on worker s % workers.
Source: J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF" (2012), with one and three rounds and key 0.
Not here: which slots a shard owns (opportune.identity).
"""

from __future__ import annotations

from itertools import count

MASK = (1 << 64) - 1
WORKERS = 12


def siphash_1_3(data: bytes) -> int:
    """SipHash-1-3 of some bytes under the key 0, 64 bits."""
    state = [0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573]
    whole = len(data) - len(data) % 8
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, whole, 8)]
    words.append((len(data) & 0xFF) << 56 | int.from_bytes(data[whole:], "little"))
    for word in words:
        state[3] ^= word
        _round(state)
        state[0] ^= word
    state[2] ^= 0xFF
    for _ in range(3):
        _round(state)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _round(state: list[int]) -> None:
    a, b, c, d = state
    a = (a + b) & MASK
    b = _rotated(b, 13) ^ a
    a = _rotated(a, 32)
    c = (c + d) & MASK
    d = _rotated(d, 16) ^ c
    a = (a + d) & MASK
    d = _rotated(d, 21) ^ a
    c = (c + b) & MASK
    b = _rotated(b, 17) ^ c
    c = _rotated(c, 32)
    state[:] = a, b, c, d


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & MASK


def shard_key(shard: int) -> str:
    """The stream key of a shard, such as ``s0003.5``."""
    for suffix in count():
        key = f"s{shard:04d}.{suffix}"
        if siphash_1_3(key.encode() + b"\xff") % WORKERS == shard % WORKERS:
            return key
    raise AssertionError("unreachable")
