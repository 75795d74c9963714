"""Letters that are larger than a record may be, in pieces.

Owns: cutting and joining. A piece is the body of the kind ``part``, a MessagePack array ``[kind, index, count, bytes]``; the
pieces of a letter follow each other in their channel. What has come of one lies in the identifiers family::

    sender:u32 | index:u32 -> the piece

Not here: channels (flows.mail), what the letters say (flows.identity.letters).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

import msgspec

from opportune.errors import RejectedEvent
from state.store import Batch, Store

PART_BYTES = 400_000
KEY_BYTES = 8
"""Longer keys of the family are those of flows.identity.suppression."""
_key = Struct(">II").pack


class Part(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A piece of a letter."""

    kind: str
    index: int
    count: int
    body: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Part).decode


class Parts:
    """The letters of a shard that are not whole yet.

    Args:
        store: the shard's state.
        part_bytes: the most that a piece has.
    """

    def __init__(self, store: Store, part_bytes: int = PART_BYTES) -> None:
        self._family = store.family("identifiers")
        self._part_bytes = part_bytes
        self._come: dict[int, list[bytes]] = {}
        for key, value in store.scan("identifiers"):
            if len(key) != KEY_BYTES:
                continue
            self._come.setdefault(int.from_bytes(key[:4], "big"), []).append(value)

    def cut(self, kind: str, body: bytes) -> Iterator[tuple[str, bytes]]:
        """Kinds and bodies that a letter is sent as; nearly always one, itself."""
        if len(body) <= self._part_bytes:
            yield kind, body
            return
        count = -(-len(body) // self._part_bytes)
        for index in range(count):
            piece = body[index * self._part_bytes : (index + 1) * self._part_bytes]
            yield "part", _encode(Part(kind, index, count, piece))

    def take(self, sender: int, value: bytes, write: Batch) -> tuple[str, bytes] | None:
        """Takes a piece; returns kind and body of the letter where it is whole now.

        Raises:
            RejectedEvent: ``bad_mail``: it is no piece, or not the next one.
        """
        try:
            part = _decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedEvent("bad_mail", f"not the body of a part: {error}") from error
        come = self._come.setdefault(sender, [])
        if part.index != len(come):
            raise RejectedEvent("bad_mail", f"piece {part.index} of a letter, where piece {len(come)} was to come")
        come.append(value)
        if len(come) < part.count:
            write.put(_key(sender, part.index), value, self._family)
            return None
        for index in range(part.count):
            write.delete(_key(sender, index), self._family)
        del self._come[sender]
        return part.kind, b"".join(_decode(piece).body for piece in come)
