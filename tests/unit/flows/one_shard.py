"""One shard under a test's hands: records in, messages out, and a restart over the same store.

Owns: ``Shard``. Instants are milliseconds after DAY_0. Not here: several shards (flows.loop).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from flows.actor import Actor
from flows.batch import Batch, LocalRecord, Span
from flows.changes import ChangeWriter
from flows.dead_letters import DeadLetters
from flows.loop import local_topic_id
from opportune.audiences.schema import Condition
from opportune.compiled import Compiled
from opportune.event import instant_ms
from opportune.membership import MembershipChange
from opportune.router import Router
from opportune.settings import Settings
from state.memory import MemoryStore
from state.outbox import OutboxMessage
from state.store import FAMILIES, Store
from tests.oracle.builders import DAY_0, project

TOPIC = "events"


class Told(NamedTuple):
    """A membership change in short."""

    at: int
    audience: str
    change: str
    cause: str


class Shard:
    """A shard and the log that it reads.

    Args:
        audiences: conditions by name.
        settings: of the project.
        store: the shard's state; a fresh one where it is None.
    """

    def __init__(
        self, audiences: Mapping[str, Condition], settings: Settings | None = None, store: Store | None = None
    ) -> None:
        self.compiled = Compiled(project(audiences, settings))
        self.store = store or MemoryStore()
        self.log: dict[int, list[tuple[bytes, int]]] = {}
        self.poisoned: list[LocalRecord] = []
        self.start()

    def start(self) -> None:
        """The process starts, again."""
        self.router = Router(self.compiled, 1)
        self.actor = Actor(
            0,
            self.compiled,
            self.store,
            tables={},
            changes=ChangeWriter(self.compiled, "memberships", 12, lambda: DAY_0),
            dead_letters=DeadLetters("dead-letters", 1 << 20),
            on_poison=lambda record, error: self.poisoned.append(record),
        )

    def feed(self, *records: tuple[bytes, int], partition: int = 0, time: int = 0) -> list[OutboxMessage]:
        """Appends records, each with its arrival, to a partition, and applies them."""
        log = self.log.setdefault(partition, [])
        first = len(log)
        log += records
        return self.read(first, partition=partition, time=time)

    def read(self, first: int, stop: int | None = None, *, partition: int = 0, time: int = 0) -> list[OutboxMessage]:
        """Applies records of a partition from an offset on, whether they were applied or not."""
        return self.actor.apply(self.batch(first, stop, partition=partition, time=time))

    def batch(self, first: int, stop: int | None = None, *, partition: int = 0, time: int = 0) -> Batch:
        """The batch of some records."""
        run = self.log[partition][first:stop]
        records = [LocalRecord(TOPIC, partition, first + at, raw) for at, (raw, _) in enumerate(run)]
        events: list[object] = []
        arrivals = [DAY_0 + arrival for _, arrival in run]
        refused = self.router.route(records, [raw for raw, _ in run], arrivals, [events.append])
        span = Span(TOPIC, local_topic_id(TOPIC), partition, first, first + len(run), max(arrivals, default=0))
        return Batch(DAY_0 + time if time else 0, [span], events, refused)

    def advance(self, time: int) -> list[OutboxMessage]:
        """Log time goes on to an instant, exclusive, until nothing is overdue."""
        messages = self.actor.apply(Batch(DAY_0 + time, [], []))
        while self.actor.overdue:
            messages += self.actor.sweep()
        return messages

    def resend(self) -> list[OutboxMessage]:
        """What waited in the outbox since before the start."""
        messages = []
        while self.actor.hand_over.resending:
            messages += self.actor.hand_over.resend()
        return messages

    def stored(self) -> dict[str, list[tuple[bytes, bytes]]]:
        """All of the state."""
        return {name: list(self.store.scan(name)) for name in FAMILIES}


def changes(messages: list[OutboxMessage]) -> list[MembershipChange]:
    """The membership changes among messages."""
    return [
        msgspec.json.decode(message.value or b"", type=MembershipChange)
        for message in messages
        if message.topic == "memberships"
    ]


def told(messages: list[OutboxMessage]) -> list[Told]:
    """The membership changes among messages, in short."""
    return [Told(instant_ms(one.at) - DAY_0, one.audience, one.change, one.cause) for one in changes(messages)]


def letters(messages: list[OutboxMessage]) -> list[str]:
    """The reasons of the dead letters among messages."""
    return [
        dict(message.headers)["opportune-reason"].decode() for message in messages if message.topic == "dead-letters"
    ]
