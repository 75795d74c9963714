"""Events of people who were forgotten: refused, or the beginning of somebody new.

Owns: what becomes of an event that is sent to an id on the suppression list: by its arrival it is older than the erasure, and
refused (``forgotten``), or newer; then its identifier founds a profile with its next incarnation.
Invariant: a newer event is lost to nobody, whatever way it came.
Not here: erasures (flows.identity.forgetting), the list (flows.identity.suppression).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flows.identity.letters import Astray
from flows.identity.notes import mark_of
from flows.identity.suppression import Entry
from opportune.errors import RejectedEvent
from opportune.identity import NOBODY, profile_id
from opportune.profile import ELSEWHERE, Profile

if TYPE_CHECKING:
    from flows.identity.forgetting import Forgetting


class Returning:
    """Looks at the events of a shard's forgotten people.

    Args:
        forgetting: the erasures of the shard.
    """

    def __init__(self, forgetting: Forgetting) -> None:
        self._forgetting = forgetting
        self._graph = forgetting.graph

    def sift(self, profile: Profile, events: Sequence[Any]) -> bool:
        """Looks at events that were sent to a forgotten id. Returns False where all of them belong to a profile here."""
        entry, gone = self._forgetting.entries.get(profile.id), self._forgetting.is_gone(profile)
        stay: list[Any] = []
        onward: dict[bytes, list[Any]] = {}
        for event in events:
            until = (entry.gone if gone else 0) if event.person.addressed else entry.until
            if event.arrival <= until:
                self._graph.forwarding.refused.append((event.origin, RejectedEvent("forgotten")))
            elif event.person.addressed and gone:
                self._astray(event)
            elif event.person.addressed or not profile.fate & ELSEWHERE:
                stay.append(event)
            else:
                # What was known of its other identifiers may have been of the person who was forgotten.
                _, event.also = self._graph.forwarding.people.find(event)
                to = self._refound(profile, event, entry) if profile.founder == NOBODY else profile.founder
                assert to is not None, "a pointer says where to"
                if to == profile.id:
                    stay.append(event)
                else:
                    onward.setdefault(to, []).append(event)
        for to, theirs in onward.items():
            self._graph.forwarding.send_on(to, theirs)
        if len(stay) == len(events):
            return False
        self._graph.forwarding.arrived += stay
        return True

    def _refound(self, pointer: Profile, event: Any, entry: Entry) -> bytes:
        """The identifier of a pointer founds a profile again; returns its id."""
        text = event.person.text
        namespace, _, value = text.partition(":")
        id_: bytes = profile_id(namespace, value, entry.incarnation)
        desk = self._graph.actor.desk
        desk.touch(pointer)
        if id_ == pointer.id:
            pointer.fate &= ~ELSEWHERE
            pointer.founder = None
            return id_
        pointer.founder = id_
        founded = self._graph.profile(id_)
        desk.touch(founded)
        founded.identifiers, founded.rank = [text], event.person.rank
        founded.turns, founded.rowless = {mark_of(text): entry.turn}, [text] if entry.rows else []
        # The identifier's row is the new profile's, whose id is not the identifier's digest.
        self._graph.attached.follow(id_, [], founded.identifiers)
        desk.join(founded)
        return id_

    def _astray(self, event: Any) -> None:
        """A newer event of somebody who was forgotten begins anew, at the pointer of its identifier.

        By mail in any case: so it comes behind the word that takes the pointer away.
        """
        person, _ = self._graph.forwarding.people.find(event)
        self._graph.send(Astray(person.id, self._graph.forwarding.letter(person.id, [event]).events))
