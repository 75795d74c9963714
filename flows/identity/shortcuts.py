"""Identifiers and merged profiles that this process has seen to belong to profiles of the same shard.

Owns: a bounded memory, so that the events of such an identifier need not read its pointer first.
Invariant: what is remembered was true when it was written, and whoever changes a pointer says so; anything may be let go.
Not here: the pointers themselves (opportune.profile), sending events on (flows.identity.forwarding).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from opportune.identity import shard_of
from opportune.people import Person
from opportune.profile import ELSEWHERE, FORGOTTEN, MOVED, Profile

KEPT_MAX = 200_000


class Shortcuts:
    """The short ways of a shard.

    Args:
        shard: its number.
        shards: how many there are.

    Attributes:
        moves: identifiers whose profile is another one of this shard.
        merged: profiles that have merged into others of this shard.
    """

    def __init__(self, shard: int, shards: int) -> None:
        self._shard = shard
        self._shards = shards
        self.moves: dict[bytes, bytes] = {}
        self.merged: dict[bytes, bytes] = {}

    def move(self, id_: bytes, to: bytes) -> None:
        """Events of an identifier go to a profile; remembered if that is in this shard."""
        if len(self.moves) >= KEPT_MAX:
            self.moves.clear()
        if shard_of(to, self._shards) == self._shard:
            self.moves[id_] = to
        else:
            self.moves.pop(id_, None)

    def merge(self, id_: bytes, winner: bytes) -> None:
        """A profile is part of another one."""
        if len(self.merged) >= KEPT_MAX:
            self.merged.clear()
        if shard_of(winner, self._shards) == self._shard:
            self.merged[id_] = winner

    def forget(self, id_: bytes) -> None:
        """Nothing is known of an id."""
        self.moves.pop(id_, None)
        self.merged.pop(id_, None)

    def target(self, id_: bytes) -> bytes | None:
        """The profile that events of an identifier go to, as far as is known."""
        to = self.moves.get(id_)
        return None if to is None else self.end(to)

    def end(self, profile: bytes) -> bytes:
        """The profile that one has become part of, as far as is known."""
        while profile in self.merged:
            profile = self.merged[profile]
        return profile

    def learn(self, heads: Iterable[Profile]) -> bool:
        """Remembers where heads lead that were just read; says whether that was news."""
        known = len(self.moves), len(self.merged)
        for head in heads:
            if head.fate & FORGOTTEN:
                continue
            if head.fate & ELSEWHERE and head.founder is not None:
                self.move(head.id, head.founder)
            elif head.fate & MOVED and head.into is not None:
                self.move(head.id, head.into)
                self.merge(head.id, head.into)
        return known != (len(self.moves), len(self.merged))

    def redirect(self, events: Sequence[Any], addressed: Callable[[bytes], Person]) -> None:
        """Events of identifiers that are known to belong to other profiles of this shard go straight to them.

        Args:
            events: of the shard.
            addressed: a profile, as what events are sent to.
        """
        moves, merged = self.moves, self.merged
        for event in events:
            person = event.person
            if person.addressed:
                if person.id in merged:
                    event.person = addressed(self.end(person.id))
            elif person.id in moves:
                person.known = True
                event.person = addressed(self.end(moves[person.id]))
