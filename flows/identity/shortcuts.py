"""Identifiers and merged profiles that this process has seen to belong to profiles of the same shard.

Owns: a bounded memory, so that the events of such an identifier need not read its pointer first.
Invariant: what is remembered was true when it was written, and whoever changes a pointer says so; anything may be let go.
Not here: the pointers themselves (opportune.profile), sending events on (flows.identity.forwarding).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opportune.identity import shard_of
from opportune.people import Person

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
        while to in self.merged:
            to = self.merged[to]
        return to

    def redirect(self, events: Sequence[Any], addressed: Callable[[bytes], Person]) -> None:
        """Events of identifiers that are known to belong to other profiles of this shard go straight to them.

        Args:
            events: of the shard.
            addressed: a profile, as what events are sent to.
        """
        moves = self.moves
        for event in events:
            if event.person.id in moves and not event.person.addressed:
                to = self.target(event.person.id)
                assert to is not None, "it is among the moves"
                event.person = addressed(to)
