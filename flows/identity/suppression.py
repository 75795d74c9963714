"""Who was forgotten in a shard: of which identifiers earlier events stay refused, and of which profiles late mail is swallowed.

Owns: the suppression list, in the identifiers family, MessagePack arrays of ``Entry``'s fields in their order::

    digest or profile_id:16 -> entry

An identifier is kept as its digest, which is the id of the profile that it founds at first; nothing else of the person is kept.
Invariant: what is changed here is written by the batch that changed it; an entry stays for its stated life, and as long as
``held`` says so.
Not here: when somebody is forgotten (flows.identity.forgetting); pieces of letters, which lie in the same family under shorter
keys (flows.identity.parts).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from opportune.errors import StateError
from opportune.profile import NEVER
from state.keys import PROFILE_BYTES
from state.store import Batch, Store


class Entry(msgspec.Struct, array_like=True):
    """What is kept of an identifier or a profile that was forgotten. Instants are milliseconds of log time.

    Args:
        until: events of the identifier that arrived up to it stay refused; 0: of the identifier nothing is refused.
        erased: of the last erasure that has counted in ``incarnation``: its ``until``.
        cleared: of the last erasure that has taken the pointer away: its ``until``.
        incarnation: how often profiles that had the identifier were forgotten; numbers the next one that it founds.
        expires: when the entry goes.
        gone: the profile of this id was forgotten with its events up to this instant; 0: it was not.
        strong: that profile's identifiers that cannot change hands, as ``veiled``.
        request: that did it.
        asked: the request that named the identifier while nobody had it: whoever turns out to have claimed it before is meant.
        turn: how often the identifier has changed hands; the heads of the forgotten do not say it, since they name none.
        rows: a warehouse row of the identifier is there since before the erasure; whoever has the identifier next goes without.
        owner: the last profile that was forgotten with the identifier: it answers whoever claimed that before; empty: none.
    """

    until: int = 0
    erased: int = 0
    cleared: int = 0
    incarnation: int = 0
    expires: int = 0
    gone: int = 0
    strong: list[str] = []
    request: str = ""
    asked: str = ""
    turn: int = 0
    rows: bool = False
    owner: bytes = b""

    def count(self, until: int) -> None:
        """An erasure up to an instant counts once, however often it is heard of."""
        if until > self.erased:
            self.erased = until
            self.incarnation += 1
            self.asked = ""


encode_entry = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


def decode_entry(value: bytes) -> Entry:
    """Reads an entry. Raises ``StateError`` on other bytes."""
    try:
        return _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StateError(
            f"the state of this shard is damaged: an entry of the suppression list is not readable ({error}). Restore a "
            "checkpoint set, or start with an empty state directory; then the topics are read again from the beginning."
        ) from error


class Suppression:
    """The suppression list of a shard.

    Args:
        store: its state.

    Attributes:
        due_ms: when the next entry may go.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._family = store.family("identifiers")
        self._known: dict[bytes, Entry] = {}
        self._changed: set[bytes] = set()
        self.due_ms = min((entry.expires for _, entry in self._all()), default=NEVER)

    def get(self, id_: bytes) -> Entry:
        """What is kept under an id; an empty entry where nothing is."""
        entry = self._known.get(id_)
        if entry is None:
            value = self._store.get("identifiers", id_)
            entry = self._known[id_] = Entry() if value is None else decode_entry(value)
        return entry

    def change(self, id_: bytes, expires: int) -> Entry:
        """The same, to be changed and kept; it stays until ``expires`` at least."""
        entry = self.get(id_)
        entry.expires = max(entry.expires, expires)
        self.due_ms = min(self.due_ms, entry.expires)
        self._changed.add(id_)
        return entry

    def expire(self, now: int, limit: int, held: Callable[[bytes], bool], write: Batch) -> list[bytes]:
        """Takes entries from the list whose life has ended.

        Args:
            now: log time.
            limit: so many at once; ``due_ms`` stays below ``now`` where there are more.
            held: whether something else still asks for an entry; then it stays for another life's rest.
            write: takes what changes.

        Returns:
            The ids that are no longer kept.
        """
        gone: list[bytes] = []
        # What this batch has changed is not in the store yet.
        due = min((self._known[id_].expires for id_ in self._changed), default=NEVER)
        for id_, entry in self._all():
            if id_ in self._changed:
                continue
            if entry.expires > now or len(gone) >= limit or held(id_):
                # What is held is looked at again with the next that is due, or after a day.
                due = min(due, entry.expires if entry.expires > now or len(gone) >= limit else now + DAY_MS)
                continue
            gone.append(id_)
            write.delete(id_, self._family)
            self._known.pop(id_, None)
        self.due_ms = due
        return gone

    def save(self, write: Batch) -> None:
        """Puts what has changed into a write."""
        for id_ in sorted(self._changed):
            write.put(id_, encode_entry(self._known[id_]), self._family)
        self._changed.clear()
        self._known.clear()

    def _all(self) -> list[tuple[bytes, Entry]]:
        found = self._store.scan("identifiers")
        return [(key, decode_entry(value)) for key, value in found if len(key) == PROFILE_BYTES]


DAY_MS = 86_400_000
