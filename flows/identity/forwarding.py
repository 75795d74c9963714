"""Events that arrive at the shard of an identifier whose profile lives elsewhere.

Owns: events on their way out, gathered by receiver, and those that came in, gathered so that they are applied together.
Invariant: the order of a person's events is kept: what leaves is sent before any later mail to the same shard, what
came is applied before any later mail of the batch.
Not here: where to (flows.identity.graph), what an event does (flows.actor).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from flows.batch import LocalRecord
from flows.identity.letters import Astray, Forward, Sent, encode
from flows.identity.waiting import Waiting
from opportune.errors import RejectedEvent
from opportune.identity import ProfileId, shard_of
from opportune.people import People, Person
from opportune.profile import Change
from state.store import Batch as Write

if TYPE_CHECKING:
    from flows.actor import Actor

HOPS_MAX = 1_000
"""An event that was sent on more often goes round in circles, which cannot be; it becomes a dead letter."""
LETTER_BYTES = 200_000
PROFILES_MAX = 100_000


class ForwardedRecord(LocalRecord, frozen=True):
    """The record of an event that was sent on: its place is that of the topic it came from."""

    hops: int = 0


class Forwarding:
    """The events that a shard sends on, and is sent.

    Args:
        actor: the shard.
        shards: how many there are.

    Attributes:
        leaving: what is on its way out, by shard.
    """

    def __init__(self, actor: Actor, shards: int) -> None:
        self.actor = actor
        self.shards = shards
        self.people = People(shards, actor.compiled.project.identity, actor.compiled.event_type)
        self.profiles: dict[bytes, Person] = {}
        self.leaving: dict[int, list[Forward]] = {}
        self.arrived: list[Any] = []
        self.out: list[Change] = []
        self.refused: list[Any] = []
        self.write: Write = actor.store.batch()

    def begin(self, out: list[Change], refused: list[Any], write: Write) -> None:
        """As ``Graph.begin``."""
        self.out, self.refused, self.write = out, refused, write

    def letter(self, to: bytes, events: Sequence[Any]) -> Forward:
        """Events as a letter."""
        return Forward(to, [_sent(event) for event in events])

    def send_on(self, to: bytes, events: Sequence[Any]) -> None:
        """Events leave with the next mail to a profile's shard, or at the end of the batch; a profile here has them now."""
        if shard_of(to, self.shards) == self.actor.shard:
            person = self.addressed(to)
            for event in events:
                event.person = person
            self.arrived += events
            return
        self.actor.counts["forwarded"] += len(events)
        receiver = shard_of(to, self.shards)
        self.actor.graph.outgoing.close(receiver)
        letters = self.leaving.setdefault(receiver, [])
        size = LETTER_BYTES
        for event in events:
            sent = _sent(event)
            if size >= LETTER_BYTES:
                letters.append(Forward(to, []))
                size = 0
            letters[-1].events.append(sent)
            size += len(sent.value)

    def take(self, receiver: int) -> Iterator[Forward]:
        """What is on its way to a shard; it is the caller's now."""
        yield from self.leaving.pop(receiver, ())

    def addressed(self, to: bytes) -> Person:
        """A profile, as what events are sent to."""
        person = self.profiles.get(to)
        if person is None:
            if len(self.profiles) >= PROFILES_MAX:
                self.profiles.clear()
            person = self.profiles[to] = Person(ProfileId(to), "", 0, self.shards, addressed=True)
        return person

    def let_wait(self, profile: bytes, events: Sequence[Any], waiting: Waiting) -> None:
        """Events wait for what becomes of a frozen profile; where too much does already, they become dead letters."""
        if waiting.has_room(profile):
            waiting.park(profile, "forward", encode(self.letter(profile, events)))
            self.actor.mailbox.wrote = True
        else:
            self.refused += [(event.origin, RejectedEvent("merge_too_long")) for event in events]

    def astray(self, letter: Astray) -> None:
        """Events came back to the pointer of their strongest identifier, which is theirs to begin at again."""
        self._arrive(letter.events, None)

    def arrive(self, letter: Forward, *, taken: bool = True) -> None:
        """Events of a profile that lives here came in; those that are not taken become dead letters."""
        self._arrive(letter.events, self.addressed(letter.to), taken=taken)

    def _arrive(self, came: Sequence[Sent], person: Person | None, *, taken: bool = True) -> None:
        compiled = self.actor.compiled
        refusals: list[tuple[int, RejectedEvent]] = []
        values = [sent.value for sent in came]
        events = compiled.event_type.decode_all(values, refusals, compiled.project.settings.event_bytes_max)
        for sent, event in zip(came, events, strict=True):
            record = ForwardedRecord(sent.topic, sent.partition, sent.offset, sent.value, sent.hops)
            if event is None or sent.hops > HOPS_MAX:
                self.refused.append((record, RejectedEvent("bad_mail", f"an event that was sent on {sent.hops} times")))
                continue
            if not taken:
                self.refused.append((record, RejectedEvent("merge_too_long")))
                continue
            if person is None:
                event.person, event.also = self.people.find(event)
            else:
                event.person, event.also = person, self.people.others(event)
            event.at, event.arrival = sent.at, sent.arrival
            event.origin, event.handler = record, compiled.action(event)
            self.arrived.append(event)

    def apply(self) -> None:
        """Applies what came in."""
        while self.arrived:
            events, self.arrived = self.arrived, []
            self.actor.apply_events(events, self.out, self.refused, self.write)


def _sent(event: Any) -> Sent:
    record = event.origin
    return Sent(
        record.value() or b"",
        event.at,
        event.arrival,
        record.topic() or "",
        record.partition() or 0,
        record.offset() or 0,
        getattr(record, "hops", 0) + 1,
    )
