"""Which shard an event goes to, and whether it has to go at all.

Owns: the one loop over all events of a poll: refuse what is wrong, find the effective time, the person and the action;
stop here with an event that touches nothing and brings nobody new.
Invariant: an event that is stopped would change nothing (DESIGN.md section 4): its person exists and no condition
mentions its kind. Here, and not in the actor, since most events of most topics are such.
Not here: bytes (opportune.decode), what the person's shard does (flows.actor).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from opportune.compiled import Compiled
from opportune.decode import TRACK, Event
from opportune.errors import RejectedEvent
from opportune.event import Instants, effective_ms
from opportune.people import People, Person, is_known


class Router:
    """Routes the events of one process.

    Args:
        compiled: the project.
        shards: how many shards there are.

    Attributes:
        untouched: how many events were stopped here.
        clamped: how many claimed to be later than they were received, or arrived.
    """

    def __init__(self, compiled: Compiled, shards: int) -> None:
        self.compiled = compiled
        self.people = People(shards, compiled.project.identity, compiled.event_type)
        self.instants = Instants()
        self.lateness_ms = compiled.project.settings.clock.lateness_ms
        self.bytes_max = compiled.project.settings.event_bytes_max
        self.untouched = 0
        self.clamped = 0

    def route(
        self,
        records: Sequence[Any],
        values: Sequence[bytes | None],
        arrivals: Sequence[int],
        deliver: Sequence[Callable[[Event], None]],
    ) -> list[tuple[Any, RejectedEvent]]:
        """Hands events to their shards.

        Args:
            records: where each message comes from; an event keeps its record as ``origin``.
            values: the messages' bytes.
            arrivals: the messages' arrivals, milliseconds.
            deliver: by shard, what takes an event.

        Returns:
            The records that are refused, and why.
        """
        refusals: list[tuple[int, RejectedEvent]] = []
        events = self.compiled.event_type.decode_all(values, refusals, self.bytes_max)
        refused = [(records[place], refusal) for place, refusal in refusals]
        rows: Iterable[tuple[Any, Event, int]] = zip(records, events, arrivals, strict=True)
        if refusals:
            rows = [row for row in rows if row[1] is not None]
        self._deliver(rows, max(arrivals, default=0) - self.lateness_ms, deliver, refused)
        return refused

    def _deliver(  # noqa: C901, PLR0912 - the hot loop: a call for each of its cases would cost more than the case
        self,
        rows: Iterable[tuple[Any, Event, int]],
        late: int,
        deliver: Sequence[Callable[[Event], None]],
        refused: list[tuple[Any, RejectedEvent]],
    ) -> None:
        """Finds time, person and action of each event, and hands it on; before ``late`` it may be too late for its arrival."""
        tracks, other, unnamed = self.compiled.tracks, self.compiled.action, self.compiled.other_tracks
        seconds, suffixes = self.instants.seconds, self.instants.suffixes
        users, strangers, slow_types = self.people.by_user, self.people.by_anonymous, self.people.slow_types
        also: tuple[Person, ...]
        lateness, untouched = self.lateness_ms, 0
        for record, event, arrival in rows:
            try:
                if event.type is TRACK:
                    action = tracks.get(event.event, unnamed)
                elif event.type is not None:
                    action = other(event)
                else:
                    raise RejectedEvent("bad_type", "there is no type")
                text = event.timestamp
                if (
                    text is None
                    or event.receivedAt is not None
                    or event.originalTimestamp is not None
                    or event.sentAt is not None
                ):
                    at = self.effective(event, arrival)
                else:
                    try:
                        at = seconds[text[:19]] + suffixes[text[19:]]
                    except KeyError:
                        at = self.effective(event, arrival)
                if at > arrival:
                    at = arrival
                    self.clamped += 1
                elif at < late and at < arrival - lateness:
                    raise RejectedEvent("too_late", f"{arrival - at} ms behind")
                user, device, also = event.userId, event.anonymousId, ()
                if user is None:
                    person = strangers.get(device)
                else:
                    person = users.get(user)
                    if device is not None:
                        weaker = strangers.get(device)
                        if weaker is None:
                            person = None
                        elif weaker.owner is not person:
                            also = weaker.alone
                if person is None or event.type in slow_types:
                    person, also = self.people.find(event)
                if action is None and person.known and (not also or is_known(person, also)):
                    untouched += 1
                    continue
            except RejectedEvent as refusal:
                refused.append((record, refusal))
                continue
            event.person = person
            event.also = also
            event.at = at
            event.arrival = arrival
            event.origin = record
            event.handler = action
            deliver[person.shard](event)
        self.untouched += untouched

    def effective(self, event: Event, arrival: int) -> int:
        """The effective time of an event with any of its four times, cut to its arrival."""
        at, clamped = effective_ms(
            self.instants, event.timestamp, event.originalTimestamp, event.sentAt, event.receivedAt, arrival
        )
        assert at is not None
        if at > arrival:
            at, clamped = arrival, True
        self.clamped += clamped
        return at
