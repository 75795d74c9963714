"""Where the events of identifiers go that belong to other profiles of the same shard, as far as this process has seen it.

Owns: a bounded memory in front of heads, so that a batch does not begin with reading pointers. Invariant: it forgets, and
never says anything that a head does not.
Not here: heads (opportune.profile), events for other shards (flows.identity.forwarding).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opportune.identity import shard_of
from opportune.people import Person

MOVES_MAX = 200_000


class Moves:
    """The memory of one shard.

    Args:
        shard: its number.
        shards: how many there are.
        addressed: a profile, as what events are sent to.

    Attributes:
        targets: identifiers whose profile is another one of this shard.
        merged: profiles that have merged into others of this shard.
    """

    def __init__(self, shard: int, shards: int, addressed: Callable[[bytes], Person]) -> None:
        self.shard = shard
        self.shards = shards
        self.addressed = addressed
        self.targets: dict[bytes, bytes] = {}
        self.merged: dict[bytes, bytes] = {}

    def belongs(self, id_: bytes, to: bytes) -> None:
        """An identifier belongs to a profile."""
        if len(self.targets) >= MOVES_MAX:
            self.targets.clear()
        if shard_of(to, self.shards) == self.shard:
            self.targets[id_] = to
        else:
            self.targets.pop(id_, None)

    def merge(self, id_: bytes, winner: bytes) -> None:
        """A profile has become part of another one."""
        if len(self.merged) >= MOVES_MAX:
            self.merged.clear()
        if shard_of(winner, self.shards) == self.shard:
            self.merged[id_] = winner

    def redirect(self, events: Sequence[Any]) -> None:
        """Events of identifiers that are known to belong to other profiles of this shard go straight to them."""
        targets, merged = self.targets, self.merged
        for event in events:
            to = targets.get(event.person.id)
            if to is not None and not event.person.addressed:
                while to in merged:
                    to = merged[to]
                event.person = self.addressed(to)
