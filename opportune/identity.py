"""Who an event belongs to: identifiers, profile ids, slots and shards.

Owns: the derivation of a profile's id from the identifier that founded it, and of its slot and shard from the id alone.

A profile id is 16 bytes, BLAKE2b (RFC 7693) of ``namespace NUL value``; its first two bytes, big-endian, are the slot, so
that every key that begins with a profile id begins with its slot. A later incarnation hashes ``namespace NUL value NUL
number`` and keeps the slot of the identifier. A cryptographic hash, because senders choose identifiers.
Not here: which identifiers an event carries (opportune.event), where state lies (state.keys).
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import NewType

ProfileId = NewType("ProfileId", bytes)
"""16 bytes; shown to people as 32 hexadecimal digits."""

NOBODY = ProfileId(bytes(16))
"""No profile: where the pointer of an identifier leads whose person was forgotten."""
SLOTS = 65_536
NAMESPACES = ("user_id", "anonymous_id")
"""Identifier namespaces in order of priority, strongest first."""


def profile_id(namespace: str, value: str, incarnation: int = 0) -> ProfileId:
    """The id of the profile that an identifier founds.

    Args:
        namespace: for example ``user_id``.
        value: the identifier's value after normalisation.
        incarnation: how often the identifier has founded a profile before.
    """
    name = f"{namespace}\0{value}".encode("utf-8", "surrogatepass")
    digest = blake2b(name, digest_size=16).digest()
    if incarnation:
        later = blake2b(name + b"\0%d" % incarnation, digest_size=16).digest()
        digest = digest[:2] + later[2:]
    return ProfileId(digest)


@lru_cache(maxsize=20_000)
def digest_of(text: str) -> ProfileId:
    """The id of the profile that an identifier founds at first, and of its pointer, given ``namespace:value``."""
    namespace, _, value = text.partition(":")
    return profile_id(namespace, value)


def slot_of(profile: bytes) -> int:
    """The slot, 0 to 65,535, of a profile id."""
    return profile[0] << 8 | profile[1]


def shard_of(profile: bytes, shards: int) -> int:
    """The shard, 0 to shards - 1, that owns the slot of a profile id; each shard owns a range of slots."""
    return slot_of(profile) * shards >> 16
