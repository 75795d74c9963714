"""Requests of erasure that are not known to be complete.

Owns: the value ``erasures`` of the meta family of the first shard, MessagePack: ``{request: [digests, offset]}``: the digests of the
request that nobody has answered for, and the offset of its last record on the control topic. The other shards keep nothing.
Invariant: what is changed here is written by the batch that changed it.
Not here: what an erasure does (flows.identity.forgetting), when a request is complete (flows.erasures).
"""

from __future__ import annotations

import msgspec

from flows.control import Erasure, Forget, Forgotten
from state.store import Batch, Store

META_ERASURES = b"erasures"


class Open(msgspec.Struct, array_like=True):
    """A request: the digests that nobody has answered for, its last record's offset."""

    waiting: list[str]
    offset: int


class Requests:
    """The requests that a shard follows.

    Args:
        store: its state.
        follows: whether this is the shard that does.

    Attributes:
        open: by name.
    """

    def __init__(self, store: Store, *, follows: bool) -> None:
        self._meta = store.family("meta")
        self._follows = follows
        self._moved = False
        kept = store.get("meta", META_ERASURES)
        self.open: dict[str, Open] = msgspec.msgpack.decode(kept, type=dict[str, Open]) if kept else {}

    def follow(self, erasure: Erasure, offset: int) -> bool:
        """Takes a record; says whether that has to be written."""
        if not self._follows:
            return False
        self._moved = True
        if isinstance(erasure, Forget):
            self.open.setdefault(erasure.request, Open(list(erasure.identifiers), offset))
        elif isinstance(erasure, Forgotten):
            # One that was complete is open again: a merge that was under way has made it so.
            one = self.open.setdefault(erasure.request, Open([], offset))
            one.waiting = [digest for digest in one.waiting if digest != erasure.asked]
            one.offset = offset
        else:
            self.open.pop(erasure.request, None)
        return True

    def save(self, write: Batch) -> None:
        """Puts what has changed into a write."""
        if self._moved:
            write.put(META_ERASURES, msgspec.msgpack.encode(self.open), self._meta)
            self._moved = False
