"""Events whose identifiers make one person of two: they are introduced, and only then they count.

Owns: the order within a batch. Where an event brings an identifier that belongs to somebody, or may within the batch, all that
arrived before it is applied first, then its identifiers find their profile, then it counts there: as in a replay, where
each event is alone. An identifier that is new to everybody changes nothing for anybody else, and waits for nothing.
Invariant: an event is introduced at most once, and only at the profile that it counts for; a repeat and one that is too late
introduce nobody. Identifiers of other shards are claimed by mail, and meet their profile later (docs/adr/0013).
Not here: what comes of a claim (flows.identity.graph), the work of an event (flows.actor).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from flows.identity.absorbed import earlier, hash_id
from flows.repeats import used_before, was_used
from opportune.people import Person, is_known
from opportune.profile import ELSEWHERE, Profile

if TYPE_CHECKING:
    from flows.identity.graph import Graph

ARRIVAL = attrgetter("arrival")


class Introductions:
    """The introductions of a shard.

    Args:
        graph: of the shard.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def apply(self, events: list[Any]) -> None:
        """Applies events of the shard's partitions, and what comes of their identifiers."""
        graph, start = self._graph, 0
        news = [event for event in events if event.also and not is_known(event.person, event.also)]
        if news and (meeting := self._meeting(events, news)):
            # Stable: the events of a partition stay in its order.
            events = sorted(events, key=ARRIVAL)
            for place, event in enumerate(events):
                if id(event) in meeting:
                    graph.count(events[start:place])
                    start = place
                    self._introduce(event)
        graph.count(events[start:] if start else events)

    def _meeting(self, events: Sequence[Any], news: Sequence[Any]) -> set[int]:
        """The events that may bring an identifier of somebody else, by ``id``."""
        shard = self._graph.actor.shard
        brought = [
            (event, other)
            for event in news
            for other in event.also
            if other.shard == shard and other.owner is not event.person
        ]
        if not brought:
            return set()
        first: dict[bytes, Person] = {}
        acting = {event.person.id for event in events}
        for event, other in brought:
            if first.setdefault(other.id, event.person) is not event.person:
                acting.add(other.id)
        self._graph.actor.refresh.load([other.id for _, other in brought], self._graph.out)
        profiles = self._graph.actor.desk.profiles
        return {
            id(event)
            for event, other in brought
            if (other.id in acting or profiles[other.id].now or profiles[other.id].fate)
            and self._meets(event.person, other, acting=other.id in acting)
        }

    def _meets(self, person: Person, other: Person, *, acting: bool) -> bool:
        """Whether an identifier may be somebody else's, and the person's profile would claim it."""
        profiles, profile = self._graph.actor.desk.profiles, self._profile_of(person)
        if not acting and not self._is_of_another(profiles[other.id], profile):
            return False
        return self._graph.claiming.is_wanted(profiles[profile], other.text)

    def _profile_of(self, person: Person) -> bytes:
        """The profile of an event, unless it lives in another shard; on the desk."""
        shortcuts = self._graph.shortcuts
        while True:
            profile = self._graph.profile(shortcuts.end(shortcuts.target(person.id) or person.id))
            if not profile.fate or not shortcuts.learn([profile]):
                return bytes(profile.id)

    def _is_of_another(self, head: Profile, profile: bytes) -> bool:
        if head.fate & ELSEWHERE:
            return self._graph.shortcuts.end(head.founder or b"") != profile
        return bool(head.now or head.fate)

    def _introduce(self, event: Any) -> None:
        graph = self._graph
        profile = graph.profile(self._profile_of(event.person))
        graph.lead([event])
        if profile.fate or self._counts_no_more(profile, event):
            return
        first = copy(event)
        first.handler = None
        graph.count([first])

    def _counts_no_more(self, profile: Profile, event: Any) -> bool:
        """Whether an event is too late for its profile, or a repeat."""
        actor = self._graph.actor
        now = max(event.arrival, profile.now)
        if event.at < now - actor.lateness_ms:
            return True
        if event.handler is None or not event.messageId or not profile.now:
            return False
        hashed = hash_id(event.messageId.encode()) ^ event.person.salt
        recalled = used_before(actor.seen, [hashed, *earlier({profile.id: [event]}, actor.desk.profiles)])
        return recalled is not None and was_used(hashed, now - actor.period_ms, recalled, {}, profile)
