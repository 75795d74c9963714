"""Byte layouts of one shard's state.

Owns: keys and small values of every column family, and the number of this format. Integers are big-endian, so that
iteration is their order; ids are as opportune.identity makes them, so that keys about people begin with their slot::

    identifiers  sender:u32 | index:u32                 -> piece of a letter (flows.identity.parts)
                 0xFFFFFFFF | digest:16                 -> profile ids       (flows.identity.attached)
    identifiers  digest or profile_id:16                -> an entry          (flows.identity.suppression)
    profiles     profile_id:16                          -> head of the profile
                 profile_id:16 | group:u16              -> one group of its features
    timers       due_ms:u64 | profile_id:16             -> empty
    members      audience:u32 | profile_id:16           -> since_ms:u64 | version:u64
    outbox       sequence:u64                           -> messages          (state.outbox)
    seen         0x00 | generation:u32                  -> generation        (state.seen)
                 0x01 | generation:u32 | serial:u32     -> entries as added  (state.entries)
                 0x02 | generation:u32 | run:u16 | part:u16 -> entries in order of hash
    meta         text, see below                        -> by key

Invariant: a change of any of them, or of a value's layout, raises FORMAT_VERSION and has a line in CHANGELOG.md.
The hot path joins keys by itself with the packers below: ``U64(due_ms) + profile_id``.
Not here: who writes what when (flows.actor); values that are more than numbers have a file of their own.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from opportune.errors import StateError

FORMAT_VERSION: Final = 3

U16 = Struct(">H").pack
U32 = Struct(">I").pack
U64 = Struct(">Q").pack
PROFILE_BYTES: Final = 16

META_IDENTITY: Final = b"identity"
META_PLAN: Final = b"plan"
META_ROUTING: Final = b"routing"
META_GENERATION: Final = b"generation"
META_APPLIED: Final = b"applied"
META_CHANNELS: Final = b"channels"
META_SEQUENCES: Final = b"sequences"
META_ANCESTRY: Final = b"ancestry"
META_STARTED: Final = b"started"
META_LINEAGE: Final = b"lineage"
META_STAGE: Final = b"stage"
META_REACHED: Final = b"reached"
META_OUTBOX: Final = b"outbox"
META_ATTACHED: Final = b"attached"

_TIMER = Struct(">Q16s")
_MEMBER = Struct(">I16s")
_GROUP = Struct(">16sH")
_MEMBERSHIP = Struct(">QQ")

pack_timer = _TIMER.pack
"""``pack_timer(due_ms, profile_id)``: a key of the timers family."""
pack_member = _MEMBER.pack
"""``pack_member(audience, profile_id)``: a key of the members family."""
pack_group = _GROUP.pack
"""``pack_group(profile_id, group)``: a key of a feature group in the profiles family."""
pack_membership = _MEMBERSHIP.pack
"""``pack_membership(since_ms, version)``: a value of the members family."""


def decode_timer(key: bytes) -> tuple[int, bytes]:
    """(due_ms, profile_id) of a key of the timers family. Raises ``StateError`` on other bytes."""
    if len(key) != _TIMER.size:
        raise _damaged("timers", key)
    due_ms, profile = _TIMER.unpack(key)
    return due_ms, profile


def decode_member(key: bytes) -> tuple[int, bytes]:
    """(audience, profile_id) of a key of the members family. Raises ``StateError`` on other bytes."""
    if len(key) != _MEMBER.size:
        raise _damaged("members", key)
    audience, profile = _MEMBER.unpack(key)
    return audience, profile


def decode_membership(value: bytes) -> tuple[int, int]:
    """(since_ms, version) of a value of the members family. Raises ``StateError`` on other bytes."""
    if len(value) != _MEMBERSHIP.size:
        raise _damaged("members", value)
    since_ms, version = _MEMBERSHIP.unpack(value)
    return since_ms, version


def decode_group(key: bytes) -> tuple[bytes, int | None]:
    """(profile_id, group) of a key of the profiles family; the head's group is None. Raises ``StateError`` on other bytes."""
    if len(key) == PROFILE_BYTES:
        return key, None
    if len(key) != _GROUP.size:
        raise _damaged("profiles", key)
    profile, group = _GROUP.unpack(key)
    return profile, group


def decode_u64(value: bytes, what: str) -> int:
    """The number that ``U64`` packed. Raises ``StateError``, naming ``what``, on other bytes."""
    if len(value) != 8:
        raise _damaged(what, value)
    return int.from_bytes(value, "big")


def prefix_end(prefix: bytes) -> bytes | None:
    """The least key that is above every key with the prefix; None where there is none, for ``Store.scan``."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def _damaged(what: str, value: bytes) -> StateError:
    return StateError(
        f"the state of this shard is damaged: {what} holds {len(value)} bytes that are not its layout. Restore a "
        "checkpoint set, or start with an empty state directory; then the topics are read again from the beginning."
    )
