"""Mail that waits for a profile while it is frozen.

Owns: values of the profiles family, in order of their number, each a MessagePack list of ``[kind, body]``::

    profile_id:16 | 0xFFFF | number:u32 -> what one batch let wait

So what waits costs what comes, and not what waits already. Invariant: what is changed here is written by the batch that
changed it. Events beyond WAITING_BYTES are not taken: a freeze lasts as long as mail to another shard and back, and whoever
sends that much meanwhile is no person.
Not here: what the mail says (flows.identity.letters), what becomes of it (flows.identity.graph).
"""

from __future__ import annotations

import msgspec

from state.keys import U16, U32, prefix_end
from state.store import Batch, Store

WAITING = 0xFFFF
WAITING_BYTES = 1 << 20
PLACES_MAX = 10_000
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode


class _Place:
    """How far the values of a profile go: the number of the next one, and the bytes of all."""

    __slots__ = ("next", "size")

    def __init__(self) -> None:
        self.next = self.size = 0


class Waiting:
    """What waits in a shard.

    Args:
        store: the shard's state.
        most: bytes of mail that wait for one profile before events are not taken any more.
    """

    def __init__(self, store: Store, most: int = WAITING_BYTES) -> None:
        self._store = store
        self._family = store.family("profiles")
        self._most = most
        self._places: dict[bytes, _Place] = {}
        self._new: dict[bytes, list[tuple[str, bytes]]] = {}
        self._gone: dict[bytes, list[bytes]] = {}

    def park(self, profile: bytes, kind: str, body: bytes) -> None:
        """Lets a piece of mail wait behind what waits already."""
        self._place(profile).size += len(body)
        self._new.setdefault(profile, []).append((kind, body))

    def has_room(self, profile: bytes) -> bool:
        """Whether events may wait, too."""
        return self._place(profile).size < self._most

    def all(self, profile: bytes) -> list[tuple[str, bytes]]:
        """What waits for a profile, in order."""
        stored = [] if profile in self._gone else [one for _, value in self._stored(profile) for one in _decode(value)]
        return [*stored, *self._new.get(profile, ())]

    def release(self, profile: bytes) -> list[tuple[str, bytes]]:
        """Takes what waits; nothing does from here on."""
        waiting = self.all(profile)
        if profile not in self._gone:
            self._gone[profile] = [key for key, _ in self._stored(profile)]
        self._new.pop(profile, None)
        self._places[profile] = _Place()
        return waiting

    def save(self, write: Batch) -> None:
        """Puts what has changed into a write."""
        for keys in self._gone.values():
            for key in keys:
                write.delete(key, self._family)
        for profile, waiting in self._new.items():
            place = self._place(profile)
            write.put(profile + U16(WAITING) + U32(place.next), _encode(waiting), self._family)
            place.next += 1
        self._gone.clear()
        self._new.clear()
        if len(self._places) > PLACES_MAX:
            self._places.clear()

    def _place(self, profile: bytes) -> _Place:
        place = self._places.get(profile)
        if place is None:
            place = self._places[profile] = _Place()
            for key, value in self._stored(profile):
                place.next = int.from_bytes(key[-4:], "big") + 1
                place.size += len(value)
        return place

    def _stored(self, profile: bytes) -> list[tuple[bytes, bytes]]:
        prefix = profile + U16(WAITING)
        return list(self._store.scan("profiles", prefix, prefix_end(prefix)))
