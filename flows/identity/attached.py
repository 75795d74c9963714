"""Which profiles of this shard have an identifier that did not found them: for rows of the warehouse that change.

Owns: keys of the ``identifiers`` family, in the shard of the profile, and the mark ``attached`` of the meta family::

    0xFFFFFFFF:u32 | digest:16 -> profile_id:16, one after the other in order; usually one
    attached                   -> empty: the family has everybody

Invariant: it says nothing that the heads do not say, and is written with the heads that it follows; a state without the mark, which an earlier build wrote, is walked
once at the start. A project without a condition on attributes keeps nothing here, not even what one with them kept.
Not here: whose an identifier is for events, which is its pointer (flows.identity.graph).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
        wanted: whether anybody asks; if not, nothing is kept.
    """

    def __init__(self, store: Store, *, wanted: bool) -> None:
        self._store = store
        self._wanted = wanted
        self._family = store.family(FAMILY)
        self._changed: dict[bytes, set[bytes]] = {}
        marked = store.get("meta", META_ATTACHED) is not None
        if wanted and not marked:
            self._walk()
        elif marked and not wanted:
            self._give_up()
        self.any = wanted and next(store.scan(FAMILY, FIRST), None) is not None

    def follow(self, profile: bytes, before: Sequence[str], after: Sequence[str]) -> None:
        """A profile has other identifiers than before; with the next ``save``."""
        if not self._wanted or before == after:
            return
        gone, come = set(before) - set(after), set(after) - set(before)
        for text in (*gone, *come):
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
        """Definitions have changed, and nobody asks any more: what is not kept up would be wrong when somebody does again."""
        write = self._store.batch()
        for key, _ in self._store.scan(FAMILY, FIRST):
            write.delete(key, self._family)
        write.delete(META_ATTACHED, self._store.family("meta"))
        self._store.write(write)

    def _walk(self) -> None:
        """Finds all of them in the heads."""
        count = 0
        for key, value in self._store.scan("profiles"):
            if len(key) != PROFILE_BYTES:
                continue
            head = _decode_head(value)
            if head.now and not head.fate & MOVED and len(head.identifiers) > 1:
                self.follow(key, [], head.identifiers)
                count += 1
                if count % SLICE == 0:
                    self._write([])
        self._write([META_ATTACHED])

    def _write(self, marks: Iterable[bytes]) -> None:
        write = self._store.batch()
        self.save(write)
        for mark in marks:
            write.put(mark, b"", self._store.family("meta"))
        self._store.write(write)


def _split(value: bytes | None) -> list[bytes]:
    return [value[at : at + PROFILE_BYTES] for at in range(0, len(value), PROFILE_BYTES)] if value else []
