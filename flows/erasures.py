"""When a request of erasure is complete.

Owns: ``Erasures``, which compares what each shard has sent to each other one with what that has taken: the sequence numbers of a
channel are marks that mail cannot pass.
Invariant: a request is complete only when every digest of it was answered for, every shard has read that, all mail that was sent
before has been taken, several times over (the answers to it too), and all that shards had to say by then is delivered.
Not here: what an erasure does (flows.identity.forgetting), who asks for one (flows.erasure_log).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from flows.actor import Actor

ROUNDS = 3
"""Mail that was on its way to a forgotten profile may cause other mail, and that a further record; both are waited for."""


class Mark(msgspec.Struct, frozen=True):
    """How far everybody had sent at a moment.

    Args:
        offset: the last control record of the request then.
        left: so many rounds follow.
        sent: by sender and receiver, the sequence of the last piece.
        outbox: by shard, its last entry.
    """

    offset: int
    left: int
    sent: list[dict[int, int]]
    outbox: list[int]


class Erasures:
    """The open requests of a process that runs all shards.

    Args:
        actors: by shard.
    """

    def __init__(self, actors: Sequence[Actor]) -> None:
        self._actors = actors
        self._marks: dict[str, Mark] = {}

    @property
    def open(self) -> int:
        """How many requests are not known to be complete."""
        return len(self._actors[0].graph.forgetting.requests.open)

    def complete(self) -> list[str]:
        """The requests that have become complete, each once in the life of this process."""
        found = []
        for request, one in list(self._actors[0].graph.forgetting.requests.open.items()):
            if one.waiting or any(self._read(actor) <= one.offset for actor in self._actors):
                continue
            mark = self._marks.get(request)
            if mark is None or mark.offset != one.offset:
                self._marks[request] = self._mark(one.offset, ROUNDS)
            elif mark.left and self._reached(mark):
                self._marks[request] = self._mark(one.offset, mark.left - 1)
                if mark.left == 1:
                    found.append(request)
        self._marks = {request: mark for request, mark in self._marks.items() if request in self._opened()}
        return found

    def _opened(self) -> dict[str, object]:
        return dict(self._actors[0].graph.forgetting.requests.open)

    def _read(self, actor: Actor) -> int:
        """The offset of the control topic that a shard reads next."""
        return (actor.positions.get(actor.topics.control_id, 0) or (0, 0))[0]

    def _mark(self, offset: int, left: int) -> Mark:
        actors = self._actors
        return Mark(offset, left, [actor.mailbox.sent() for actor in actors], [actor.outbox.last for actor in actors])

    def _reached(self, mark: Mark) -> bool:
        taken = [actor.mailbox.heard() for actor in self._actors]
        return all(
            taken[receiver].get(sender, 0) >= sequence
            for sender, to in enumerate(mark.sent)
            for receiver, sequence in to.items()
        ) and all(actor.outbox.first > last for actor, last in zip(self._actors, mark.outbox, strict=True))
