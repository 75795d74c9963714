"""Whether a job is drained: everything that its topics have is applied, and nothing is on its way.

Owns: the question, put to a running job: applied positions are the ends of all topics that it reads, all mail that was sent has
been taken, all outboxes are delivered; and all of that was so at the look before too, with nothing between.
Invariant: it is never said of a job whose topics' ends are not known as they are now: not while Kafka is away or hangs.
Not here: who asks (flows.job puts it into the status file, opportune.cli.status prints it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flows.actor import Actor
from flows.inputs import Input


def under_way(actors: Sequence[Actor]) -> int:
    """How many pieces of mail were sent and not taken yet."""
    taken = [actor.mailbox.heard() for actor in actors]
    return sum(
        max(0, sequence - taken[receiver].get(actor.shard, 0))
        for actor in actors
        for receiver, sequence in actor.mailbox.sent().items()
    )


def undelivered(actors: Sequence[Actor]) -> int:
    """How many entries of outboxes are not known to be delivered."""
    return sum(actor.outbox.last - actor.outbox.first + 1 for actor in actors)


def is_quiet(actors: Sequence[Actor]) -> bool:
    """Whether no mail is on its way and nothing waits to be delivered."""
    return not under_way(actors) and not undelivered(actors)


class Drained:
    """Looks at a job again and again.

    Args:
        actors: by shard.
        events: the inputs that events come from.
        end: where the input of an index ends now, None where that is not known: an end of before says nothing.
        decisions: the inputs that decisions come from.
    """

    def __init__(
        self,
        actors: Sequence[Actor],
        events: Sequence[Input],
        end: Callable[[int], int | None],
        decisions: Sequence[Input],
    ) -> None:
        self._actors = actors
        self._events = events
        self._end = end
        self._decisions = decisions
        self._before: tuple[object, ...] | None = None

    def look(self) -> bool:
        """Whether the job is drained, and was at the look before, with nothing between."""
        ends = [self._end(index) for index in range(len(self._events))]
        read = all(end is not None and self._applied(one) >= end for one, end in zip(self._events, ends, strict=True))
        decided = all(one.at_end and self._applied(one) >= one.read for one in self._decisions)
        if not read or not decided or not is_quiet(self._actors):
            self._before = None
            return False
        now = (*ends, *(actor.outbox.last for actor in self._actors), *(one.read for one in self._decisions))
        before, self._before = self._before, now
        return before == now

    def _applied(self, one: Input) -> int:
        places = [actor.positions.get(one.topic_id, one.partition) for actor in self._actors]
        return min(place[0] if place is not None else -1 for place in places)
