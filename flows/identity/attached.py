"""Which profiles of this shard have an identifier that did not found them: for rows of the warehouse that change.

Owns: keys of the ``identifiers`` family, in the shard of the profile, and the mark ``attached`` of the meta family::

    0xFFFFFFFF:u32 | digest:16 -> profile_id:16, one after the other in order; usually one
    attached                   -> the namespaces whose identifiers are kept, a line each: those of the keys of tables

Invariant: it says nothing that the heads do not say, and is written with the heads that it follows. A state whose mark
says other namespaces is walked once at the start. A project without a condition on attributes keeps nothing here.
Not here: whose an identifier is for events, which is its pointer (flows.identity.graph).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from opportune.identity import digest_of
from opportune.profile import MOVED, Profile
from state.keys import META_ATTACHED, PROFILE_BYTES
from state.store import Batch as Write
from state.store import Store

FAMILY = "identifiers"
FIRST = b"\xff" * 4
"""Keys of letters that are not whole yet (flows.identity.parts) begin with the number of a shard, which is less."""
SLICE = 2_000
_decode_head = msgspec.msgpack.Decoder(Profile).decode


class Attached:
    """The attached identifiers of a shard.

    Args:
        store: its state.
        prefixes: of the identifiers that anybody asks for, ``namespace:`` each, in order; of others nothing is kept.
    """

    def __init__(self, store: Store, prefixes: tuple[str, ...]) -> None:
        self._store = store
        self._prefixes = prefixes
        self._family = store.family(FAMILY)
        self._changed: dict[bytes, set[bytes]] = {}
        mark = "\n".join(prefix[:-1] for prefix in prefixes).encode() if prefixes else None
        kept = store.get("meta", META_ATTACHED)
        if kept != mark:
            if kept is not None:
                self._give_up()
            if mark is not None:
                self._walk(mark)
        self.any = mark is not None and next(store.scan(FAMILY, FIRST), None) is not None

    def follow(self, profile: bytes, before: Sequence[str], after: Sequence[str]) -> None:
        """A profile has other identifiers than before; with the next ``save``."""
        if not self._prefixes or before == after:
            return
        gone, come = set(before).difference(after), set(after).difference(before)
        for text in (*gone, *come):
            if not text.startswith(self._prefixes):
                continue
            digest = digest_of(text)
            if digest == profile:
                continue
            holders = self._changed.get(digest)
            if holders is None:
                holders = self._changed[digest] = set(_split(self._store.get(FAMILY, FIRST + digest)))
            if text in come:
                holders.add(profile)
            else:
                holders.discard(profile)

    def holders(self, digests: Sequence[bytes]) -> list[bytes]:
        """The profiles that have one of these identifiers, of which some other one founded them."""
        if not self.any or not digests:
            return []
        values = self._store.get_many(FAMILY, [FIRST + digest for digest in digests])
        return [profile for value in values if value is not None for profile in _split(value)]

    def save(self, write: Write) -> None:
        """Puts what has changed into a write."""
        for digest, holders in self._changed.items():
            if holders:
                self.any = True
                write.put(FIRST + digest, b"".join(sorted(holders)), self._family)
            else:
                write.delete(FIRST + digest, self._family)
        self._changed.clear()

    def _give_up(self) -> None:
        """Other namespaces are asked for now: what is not kept up would be wrong when somebody asks for it again."""
        write = self._store.batch()
        for key, _ in self._store.scan(FAMILY, FIRST):
            write.delete(key, self._family)
        write.delete(META_ATTACHED, self._store.family("meta"))
        self._store.write(write)

    def _walk(self, mark: bytes) -> None:
        """Finds all of them in the heads, and leaves the mark."""
        count = 0
        for key, value in self._store.scan("profiles"):
            if len(key) != PROFILE_BYTES:
                continue
            head = _decode_head(value)
            if head.now and not head.fate & MOVED and len(head.identifiers) > 1:
                self.follow(key, [], head.identifiers)
                count += 1
                if count % SLICE == 0:
                    self._write()
        self._write(mark)

    def _write(self, mark: bytes | None = None) -> None:
        write = self._store.batch()
        self.save(write)
        if mark is not None:
            write.put(META_ATTACHED, mark, self._store.family("meta"))
        self._store.write(write)


def _split(value: bytes | None) -> list[bytes]:
    return [value[at : at + PROFILE_BYTES] for at in range(0, len(value), PROFILE_BYTES)] if value else []
