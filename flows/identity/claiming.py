"""What events bring of identifiers, and what of it is claimed.

Owns: the pairs of profiles and identifiers that events have shown and nobody has claimed yet, and whether a profile asks for
one: not for what it has or has asked for, nor beyond a limit, nor for what it was refused for ever.
Not here: what comes of a claim (flows.identity.graph), counting (flows.identity.limits).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.identity.letters import Claims, Origin, Suit
from flows.identity.notes import mark_of, origin_of
from opportune.people import Person
from opportune.profile import Profile

if TYPE_CHECKING:
    from flows.identity.graph import Graph

OPPOSED_MAX = 250
"""A profile that was refused so many identifiers of others asks for no more that cannot change hands."""


class Claiming:
    """The claims of a shard's profiles.

    Args:
        graph: of the shard.

    Attributes:
        noted: profiles and events that brought identifiers which the profile is not known to have.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.noted: list[tuple[Profile, Any]] = []

    def apply(self) -> None:
        """Claims what events have brought and nobody has claimed for their profiles."""
        noted, self.noted = self.noted, []
        for profile, event in noted:
            for other in event.also:
                self._join(profile, event, other)

    def suit(self, profile: Profile, text: str, origin: Origin, seen: bytes = b"") -> Suit:
        """A profile's claim on an identifier, which an event brought."""
        strong = self._graph.limits.strong(profile.identifiers)
        return Suit(text, profile.id, profile.rank, strong, seen, 0, max(profile.now, origin.at), origin)

    def is_wanted(self, profile: Profile, text: str) -> bool:
        """Whether a profile would claim an identifier, which it may not exist for yet."""
        if text in profile.identifiers or text in profile.pending:
            return False
        return not profile.now or self._refusal(profile, text) == ""

    def _join(self, profile: Profile, event: Any, other: Person) -> None:
        graph, text, person = self._graph, other.text, event.person
        other.owner = None if person.addressed else person
        if text in profile.identifiers or text in profile.pending:
            return
        if (word := self._refusal(profile, text)) is None:
            return
        graph.actor.desk.touch(profile)
        if word:
            other.owner = None
            graph.tell(profile, word, text, origin_of(event))
            return
        profile.pending = [*profile.pending, text]
        graph.outgoing.gather(other.id, Claims, self.suit(profile, text, origin_of(event)))

    def _refusal(self, profile: Profile, text: str) -> str | None:
        """Why a profile does not claim an identifier: a word of its history, none, or None where nothing is to be told."""
        limits = self._graph.limits
        if not limits.is_shared(text):
            history = self._graph.notes.history(profile.id)
            if history.opposed and mark_of(text) in history.settled:
                return None
            if history.opposed >= OPPOSED_MAX:
                return "refused"
        return "" if limits.has_room(profile, text) else "refused"
