"""Whose state a directory is: asked before anything of it is read.

Owns: four values of the meta family::

    identity    JSON: {"format": int, "project": text, "shard": int, "shards": int}
    plan        fingerprint of the definitions that the features were kept for
    routing     fingerprint of what decides an event's shard
    generation  u64: 1, and one more with each restore

Invariant: an empty store becomes what was expected, in one batch that is synced; any other is compared and never changed.
Not here: how a directory is locked (state.rocks), the fence of the engine (flows.actor).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from opportune.errors import StateError
from state.keys import (
    FORMAT_VERSION,
    META_GENERATION,
    META_IDENTITY,
    META_PLAN,
    META_ROUTING,
    U64,
    decode_u64,
)
from state.store import FAMILIES, Store

FIRST_GENERATION = 1


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a shard's directory says about itself.

    Args:
        format: of the byte layouts (state.keys).
        project: name of the project.
        shard: 0 to shards - 1.
        shards: how many there are.
    """

    format: int = FORMAT_VERSION
    project: str
    shard: int
    shards: int


class _Format(msgspec.Struct):
    """The one field that every format has."""

    format: int


@dataclass(frozen=True)
class Expected:
    """What the process that opens a shard takes it for.

    Args:
        identity: of the directory.
        plan: fingerprint of the compiled definitions, for a state that is made.
        routing: fingerprint of namespaces, blocked values and all else that decides an event's shard.
    """

    identity: Identity
    plan: bytes
    routing: bytes


@dataclass(frozen=True)
class Opened:
    """A shard that is what it was expected to be.

    Args:
        generation: of its state.
        new: whether the store was empty.
    """

    generation: int
    new: bool


def encode_identity(identity: Identity) -> bytes:
    """The value for the meta family."""
    return msgspec.json.encode(identity)


def decode_identity(value: bytes) -> Identity:
    """Reads ``encode_identity``'s bytes. Raises ``StateError`` on other ones, and on a newer format."""
    try:
        number = msgspec.json.decode(value, type=_Format).format
        if number > FORMAT_VERSION:
            raise StateError(
                f"the state is of format {number}, this version of Opportune reads up to {FORMAT_VERSION}: a newer version "
                "wrote it. Run that version or a later one."
            )
        if number < 1:
            raise StateError(f"the state is of format {number}, which no version wrote: {_START_ANEW}")
        return msgspec.json.decode(value, type=Identity)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StateError(f"the state does not say whose it is ({error}): {_START_ANEW}") from error


def open_shard(store: Store, expected: Expected, generation: int = FIRST_GENERATION) -> Opened:
    """Makes an empty store this shard's, or checks that it is.

    Args:
        store: just opened.
        expected: what it has to be.
        generation: for a store that is empty; one that is kept stays.

    Returns:
        Its generation, and whether it was empty.

    Raises:
        StateError: it is another project's, shard's or format's, or routed otherwise: the message says what to do. Other
            definitions are no error: what follows from them is flows.succession's.
    """
    value = store.get("meta", META_IDENTITY)
    if value is None:
        return _found(store, expected, generation)
    _compare(decode_identity(value), expected.identity)
    if store.get("meta", META_ROUTING) != expected.routing:
        raise StateError(
            "what decides an event's shard (identifier namespaces, blocked values) changed: records read again would go "
            f"to other shards and count twice. Put it back as it was, or: {_START_ANEW}"
        )
    kept = store.get("meta", META_GENERATION)
    return Opened(decode_u64(kept or b"", "the generation"), new=False)


def _found(store: Store, expected: Expected, generation: int) -> Opened:
    for name in FAMILIES:
        if next(store.scan(name), None) is not None:
            raise StateError(f"the state holds {name} and does not say whose they are: {_START_ANEW}")
    batch, meta = store.batch(), store.family("meta")
    batch.put(META_IDENTITY, encode_identity(expected.identity), meta)
    batch.put(META_ROUTING, expected.routing, meta)
    batch.put(META_PLAN, expected.plan, meta)
    batch.put(META_GENERATION, U64(generation), meta)
    store.write(batch)
    store.sync()
    return Opened(generation, new=True)


def _compare(found: Identity, wanted: Identity) -> None:
    if found.format != wanted.format:
        raise StateError(
            f"the state is of format {found.format}, this version keeps format {wanted.format} and has no way from one to "
            f"the other: run the version that wrote it, or: {_START_ANEW}"
        )
    if found.project != wanted.project:
        raise StateError(
            f"the state is of the project {found.project!r}, this is {wanted.project!r}: give it a state.directory of its "
            "own, or put the project's name back."
        )
    if found.shards != wanted.shards:
        raise StateError(
            f"the state was made with state.shards: {found.shards}, the project says {wanted.shards}. The number is fixed "
            f"when the state is made: set it to {found.shards}, or: {_START_ANEW}"
        )
    if found.shard != wanted.shard:
        raise StateError(
            f"the directory of shard {wanted.shard} holds shard {found.shard}: directories were moved or copied over each "
            "other. Put them back, or restore a checkpoint set."
        )


_START_ANEW = "start with a new state directory; the topics are read again from the beginning."
