"""What a shard keeps of a profile beside its head and features: how it came to be.

Owns: one value a profile in the profiles family, behind its id: ``0xFFFE`` its history (``History``, MessagePack).
Invariants: what is changed here is written by the batch that changed it; a history has an upper bound (HISTORY_BYTES, the
same again for ORIGINS_BYTES, SETTLED_MAX numbers and MERGED_MAX ids), whatever a sender does.
Not here: mail that waits (flows.identity.waiting), what the mail says (flows.identity.letters), features (flows.desk).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from flows.identity.letters import Origin
from opportune.identity import digest_of
from opportune.people import salt_of
from state.keys import U16
from state.store import Batch, Store

HISTORY = 0xFFFE
HISTORY_MAX = 128
HISTORY_BYTES = 8_192
ORIGINS_BYTES = 8_192
ENTRY_BYTES = 24
"""Of an instant, a word and what MessagePack puts around."""
TOLD_ALL = 8
"""So many of each word are told one by one, then each whose number is a power of two: a flood says nothing new."""
FEW = 8
"""So many entries are within bounds however long their texts are."""
SETTLED_MAX = 128
MERGED_MAX = 256
MESSAGE_CHARS = 64
NO_ORIGIN = Origin(0, "", "")


class History(msgspec.Struct, array_like=True):
    """How a profile came to be.

    Args:
        last: instant (milliseconds), word, identifier or profile id that it is about, place and message id of the event.
        counts: how often, by word: attached, merged, refused, conflict, lost.
        came: the event that brought each identifier, by ``mark_of`` it.
        settled: of identifiers that stay with others, whatever is claimed: the last, by ``mark_of`` them.
        opposed: how often a claim ended so.
        merged: the profiles that became part of it, the last of them: whoever forgets it forgets them.
    """

    last: list[tuple[int, str, str, str, str]] = []
    counts: dict[str, int] = {}
    came: dict[int, Origin] = {}
    settled: list[int] = []
    opposed: int = 0
    merged: list[bytes] = []


_encode = msgspec.msgpack.Encoder().encode
decode_history = msgspec.msgpack.Decoder(History).decode


def mark_of(text: str) -> int:
    """64 bits that stand for an identifier where its text would take too much room."""
    return salt_of(digest_of(text))


def origin_of(event: Any) -> Origin:
    """The event that something comes from: its arrival, where it was read, its message id."""
    record = event.origin
    place = f"{record.topic()}/{record.partition()}/{record.offset()}"
    return Origin(event.arrival, place, (event.messageId or "")[:MESSAGE_CHARS])


class Notes:
    """The histories of a shard's profiles.

    Args:
        store: the shard's state.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._family = store.family("profiles")
        self._history: dict[bytes, History] = {}
        self._changed: set[bytes] = set()

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

    def found(self, profile: bytes, text: str, event: Any) -> None:
        """Notes the event that founded a profile, which has no history yet, and by which identifier."""
        self._history[profile] = History(came={mark_of(text): origin_of(event)})
        self._changed.add(profile)

    def tell(self, profile: bytes, now: int, word: str, about: str, origin: Origin = NO_ORIGIN) -> None:
        """Adds to the history of a profile.

        Args:
            profile: its id.
            now: the instant, milliseconds.
            word: one of ``History.counts``.
            about: an identifier, or the id of another profile.
            origin: the event that did it.
        """
        history = self.history(profile)
        count = history.counts[word] = history.counts.get(word, 0) + 1
        self._changed.add(profile)
        if count <= TOLD_ALL or not count & (count - 1):
            history.last.append((now, word, about, origin.place, origin.message))
            _shorten(history)

    def bring(self, profile: bytes, text: str, origin: Origin) -> None:
        """Notes the event that brought an identifier."""
        history = self.history(profile)
        history.came[mark_of(text)] = origin
        _shorten_origins(history.came)
        self._changed.add(profile)

    def drop(self, profile: bytes, text: str) -> None:
        """An identifier has gone: what brought it is of no interest any more."""
        if self.history(profile).came.pop(mark_of(text), None) is not None:
            self._changed.add(profile)

    def settle(self, profile: bytes, text: str) -> None:
        """An identifier stays with somebody else; to claim it again would change nothing."""
        history = self.history(profile)
        history.settled = [*history.settled, mark_of(text)][-SETTLED_MAX:]
        history.opposed += 1
        self._changed.add(profile)

    def join(self, winner: bytes, loser: bytes, theirs: bytes) -> None:
        """Puts the history of another profile, as ``encoded``, into the winner's."""
        ours, other = self.history(winner), decode_history(theirs)
        ours.last = sorted([*ours.last, *other.last])
        for word, count in other.counts.items():
            ours.counts[word] = ours.counts.get(word, 0) + count
        ours.came = {**other.came, **ours.came}
        ours.settled = [*other.settled, *ours.settled][-SETTLED_MAX:]
        ours.opposed += other.opposed
        ours.merged = [*other.merged, *ours.merged, loser][-MERGED_MAX:]
        _shorten(ours)
        _shorten_origins(ours.came)
        self._changed.add(winner)

    def encoded(self, profile: bytes) -> bytes:
        """The history of a profile as it is stored."""
        return _encode(self.history(profile))

    def forget(self, profile: bytes) -> None:
        """The history of a profile is in another one now."""
        self._history[profile] = History()
        self._changed.add(profile)

    def save(self, write: Batch) -> None:
        """Puts what has changed into a write."""
        for profile in sorted(self._changed):
            key, history = profile + U16(HISTORY), self._history[profile]
            if history == History():
                write.delete(key, self._family)
            else:
                write.put(key, _encode(history), self._family)
        self._changed.clear()
        self._history.clear()


def _shorten(history: History) -> None:
    """Leaves out the oldest of what is told, if it is too much."""
    last = history.last
    if len(last) <= FEW:
        return
    size = sum([_size(place, message) + len(about.encode()) for _, _, about, place, message in last])
    while len(last) > HISTORY_MAX or size > HISTORY_BYTES:
        _, _, about, place, message = last.pop(0)
        size -= _size(place, message) + len(about.encode())


def _shorten_origins(came: dict[int, Origin]) -> None:
    """Leaves out the events that brought the first identifiers, if all are too much."""
    if len(came) <= FEW:
        return
    size = sum([_size(origin.place, origin.message) for origin in came.values()])
    while size > ORIGINS_BYTES:
        first = came.pop(next(iter(came)))
        size -= _size(first.place, first.message)


def _size(place: str, message: str) -> int:
    return ENTRY_BYTES + len(place.encode()) + len(message.encode())
