"""What a shard keeps of a profile beside its head and features: what waits for it, and how it came to be.

Owns: two values a profile in the profiles family, behind its id: ``0xFFFF`` the mail that waits while it is frozen, a
MessagePack list of ``[kind, body]``, and ``0xFFFE`` its history: ``[[instant, word, identifier or profile], ...]``, the
last HISTORY_MAX of them, and how many there were by word.
Invariant: what is changed here is written by the batch that changed it.
Not here: what the mail says (flows.identity.letters), features (flows.desk).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from state.keys import U16
from state.store import Batch, Store

WAITING = 0xFFFF
HISTORY = 0xFFFE
HISTORY_MAX = 128


class History(msgspec.Struct, array_like=True):
    """How a profile came to be.

    Args:
        last: instant (milliseconds), word, and the identifier or profile id that it is about.
        counts: how often, by word: attached, merged, refused, conflict, lost.
    """

    last: list[tuple[int, str, str]] = []
    counts: dict[str, int] = {}


_encode = msgspec.msgpack.Encoder().encode
decode_history = msgspec.msgpack.Decoder(History).decode
_decode_waiting = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode


class Notes:
    """The notes of a shard's profiles.

    Args:
        store: the shard's state.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._family = store.family("profiles")
        self._waiting: dict[bytes, list[tuple[str, bytes]]] = {}
        self._history: dict[bytes, History] = {}
        self._changed: set[bytes] = set()
        self._gone: set[bytes] = set()

    def park(self, profile: bytes, kind: str, body: bytes) -> None:
        """Lets a piece of mail wait behind what waits already."""
        self.waiting(profile).append((kind, body))
        self._changed.add(profile + U16(WAITING))

    def waiting(self, profile: bytes) -> list[tuple[str, bytes]]:
        """What waits for a profile, in order."""
        waiting = self._waiting.get(profile)
        if waiting is None:
            value = self._store.get("profiles", profile + U16(WAITING))
            waiting = self._waiting[profile] = [] if value is None else _decode_waiting(value)
        return waiting

    def release(self, profile: bytes) -> list[tuple[str, bytes]]:
        """Takes what waits; nothing does from here on."""
        waiting = self.waiting(profile)
        self._waiting[profile] = []
        self._changed.add(profile + U16(WAITING))
        return waiting

    def history(self, profile: bytes) -> History:
        """The history of a profile."""
        history = self._history.get(profile)
        if history is None:
            value = self._store.get("profiles", profile + U16(HISTORY))
            history = self._history[profile] = History() if value is None else decode_history(value)
        return history

    def load(self, profiles: Iterable[bytes]) -> None:
        """Reads the histories of many profiles together."""
        lacking = [profile for profile in dict.fromkeys(profiles) if profile not in self._history]
        values = self._store.get_many("profiles", [profile + U16(HISTORY) for profile in lacking])
        for profile, value in zip(lacking, values, strict=True):
            self._history[profile] = History() if value is None else decode_history(value)

    def tell(self, profile: bytes, now: int, word: str, about: str) -> None:
        """Adds to the history of a profile."""
        history = self.history(profile)
        history.last = [*history.last, (now, word, about)][-HISTORY_MAX:]
        history.counts[word] = history.counts.get(word, 0) + 1
        self._changed.add(profile + U16(HISTORY))

    def join(self, winner: bytes, theirs: bytes) -> None:
        """Puts the history of another profile, as ``encoded``, into the winner's."""
        ours, other = self.history(winner), decode_history(theirs)
        ours.last = sorted([*ours.last, *other.last])[-HISTORY_MAX:]
        for word, count in other.counts.items():
            ours.counts[word] = ours.counts.get(word, 0) + count
        self._changed.add(winner + U16(HISTORY))

    def encoded(self, profile: bytes) -> bytes:
        """The history of a profile as it is stored."""
        return _encode(self.history(profile))

    def forget(self, profile: bytes) -> None:
        """The history of a profile is in another one now."""
        self._history[profile] = History()
        self._changed.add(profile + U16(HISTORY))

    def save(self, write: Batch) -> None:
        """Puts what has changed into a write."""
        for key in sorted(self._changed):
            profile, group = key[:16], int.from_bytes(key[16:], "big")
            value: object = self._waiting[profile] if group == WAITING else self._history[profile]
            if value in ([], History()):
                write.delete(key, self._family)
            else:
                write.put(key, _encode(value), self._family)
        self._changed.clear()
        self._waiting.clear()
        self._history.clear()
