"""Messages of a replay become events: decoded, with their action and their person.

Owns: ``Intake``, for messages that come some thousands at a time, and what is counted of those that become none.
Not here: the time of an event and what is done with it (flows.replay), the job's way, which goes to shards
(opportune.router).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flows.actor import hash_id
from opportune.compiled import Action, Compiled
from opportune.decode import TRACK, Event
from opportune.errors import RejectedEvent
from opportune.people import People


class Intake:
    """What a replay reads.

    Args:
        compiled: the project.

    Attributes:
        people: remembers whom identifiers name.
        refused: how many messages were refused, by reason.
        unread_pages: page and screen calls that no condition reads.
    """

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled
        self.people = People(1, compiled.project.identity, compiled.event_type)
        self.bytes_max = compiled.project.settings.event_bytes_max
        self.refused: dict[str, int] = {}
        self.unread_pages = 0

    def refuse(self, refusal: RejectedEvent) -> None:
        """Counts a refused message."""
        self.refused[refusal.reason] = self.refused.get(refusal.reason, 0) + 1

    def take(
        self, values: Sequence[bytes | None], records: Sequence[Any], arrivals: Sequence[int | None]
    ) -> list[tuple[Event, int]]:
        """The events of messages, each with the hash of its message id as the actor has it, 0 for none.

        Args:
            values: the messages' bytes.
            records: where each comes from.
            arrivals: when each arrived, milliseconds; None where nothing says.

        Returns:
            In order, without those that are refused.
        """
        refusals: list[tuple[int, RejectedEvent]] = []
        events = self.compiled.event_type.decode_all(values, refusals, self.bytes_max)
        for _, refusal in refusals:
            self.refuse(refusal)
        people, tracks, unnamed = self.people, self.compiled.tracks, self.compiled.other_tracks
        users, slow_types = people.by_user, people.slow_types
        taken: list[tuple[Event, int]] = []
        for event, record, arrival in zip(events, records, arrivals, strict=True):
            if event is None:
                continue
            event.origin, event.arrival = record, arrival
            try:
                event.handler = tracks.get(event.event, unnamed) if event.type is TRACK else self._other(event)
                # A user id that was seen before needs no more than a look, where nothing else says who it is.
                person = None
                if event.anonymousId is None and event.type not in slow_types:
                    person = users.get(event.userId) or people.user(event.userId)
                if person is None:
                    person, event.also = people.find(event)
                else:
                    event.also = ()
                users = people.by_user
            except RejectedEvent as refusal:
                self.refuse(refusal)
                continue
            event.person = person
            taken.append((event, hash_id(event.messageId.encode()) ^ person.salt if event.messageId else 0))
        return taken

    def _other(self, event: Event) -> Action | None:
        """The action of an event that is no track call."""
        if event.type is None:
            raise RejectedEvent("bad_type", "there is no type")
        action = self.compiled.action(event)
        if action is None and event.type in ("page", "screen"):
            self.unread_pages += 1
        return action
