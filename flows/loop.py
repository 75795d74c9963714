"""Drives actors without Bytewax and without Kafka: the same work, one call after the other.

Owns: ``Loop``, for tests, simulations and, should the engine ever fail its users, for running without it.
Time is what ``advance`` is told; records carry their arrivals.
Not here: the watermark of a replay (flows.replay).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import groupby

import msgspec

from flows.actor import Actor
from flows.batch import Batch, LocalRecord, Mail, Span
from flows.changes import ChangeWriter
from flows.control import SnapshotDecision, encode_decision
from flows.dead_letters import DeadLetters
from flows.in_force import in_force, versions_of
from flows.mail import LOCAL_TOPICS
from flows.refresh import put_in_force
from flows.replay_changes import decode_change
from flows.succession import compiled_for
from opportune.clock import Clock, wall_clock_ms
from opportune.membership import MembershipChange
from opportune.project import Project
from opportune.router import Router
from state.memory import MemoryStore
from state.outbox import OutboxMessage
from state.store import Store
from state.warehouse import WarehouseTable, version_text


class Arrived(msgspec.Struct, frozen=True):
    """A record of a topic, with its arrival in milliseconds."""

    topic: str
    partition: int
    offset: int
    arrival_ms: int
    value: bytes | None


class LocalSnapshots:
    """Tables in memory as snapshots: the versions that were given to ``add``.

    Args:
        shards: how many shards there are.
    """

    def __init__(self, shards: int) -> None:
        self.shards = shards
        self.known: dict[tuple[str, str], WarehouseTable] = {}
        self.made = 0

    def forget(self) -> None:
        """The snapshots of before are read in another way: none of them is there any more."""
        self.known = {}

    def add(self, tables: Mapping[str, WarehouseTable]) -> dict[str, str]:
        """Gives each of these tables the next version; returns the versions by table."""
        for name, table in tables.items():
            self.made += 1
            table.version = version_text(self.made)
            self.known[name, table.version] = table
        return versions_of(tables)

    def open(self, versions: Mapping[str, str]) -> Mapping[str, WarehouseTable] | None:
        """The tables of these versions; see ``flows.refresh.Snapshots``."""
        found = {name: self.known.get((name, version)) for name, version in versions.items()}
        tables = {name: table for name, table in found.items() if table is not None}
        return tables if len(tables) == len(found) else None


class Loop:
    """All shards of a project in one place.

    Args:
        project: a valid project.
        shards: how many.
        stores: makes the store of a shard; the same number gives the same store again after a restart.
        tables: the warehouse tables in force from ``began_ms`` on.
        began_ms: the instant of the first event, for what rows alone cause.
        counting: whether evaluations are counted.
        clock: for ``emitted_at``.

    Attributes:
        sent: every membership change that was handed out, repeats after a restart included.
        changes: those that a subscriber who keeps the contract sees: per profile with rising versions.
        letters: every dead letter that was handed out.
        tombstones: the keys of the memberships topic that were given up.
        mailbox: the records of the mailbox topic, by partition; the shards read on when records are fed or time advances.
        control: the records of the control topic; tests append to it.
    """

    def __init__(
        self,
        project: Project,
        shards: int = 2,
        stores: Callable[[int], Store] | None = None,
        tables: Mapping[str, WarehouseTable] | None = None,
        *,
        began_ms: int = 1,
        counting: bool = False,
        clock: Clock = wall_clock_ms,
    ) -> None:
        self.counting = counting
        self.shards = shards
        if stores is None:
            kept = [MemoryStore() for _ in range(shards)]
            self.stores: Callable[[int], Store] = kept.__getitem__
        else:
            self.stores = stores
        self.compiled = compiled_for(project, [self.stores(shard) for shard in range(shards)], counting=counting)
        self.tables = dict(tables or {})
        self.snapshots = LocalSnapshots(shards)
        self.snapshots.add(self.tables)
        self.began_ms = began_ms
        self.clock = clock
        self.time_ms = 0
        self.sent: list[MembershipChange] = []
        self.changes: list[MembershipChange] = []
        self.letters: list[OutboxMessage] = []
        self.tombstones: list[bytes] = []
        self.topics = LOCAL_TOPICS
        self.mailbox: list[list[bytes]] = [[] for _ in range(shards)]
        self.control: list[bytes] = []
        self.versions: dict[str, int] = {}
        self._start()

    def _start(self) -> None:
        self.router = Router(self.compiled, self.shards)
        writer = ChangeWriter(self.compiled, "memberships", 12, self.clock)
        letters = DeadLetters("dead-letters", self.compiled.project.settings.event_bytes_max)
        self.actors = []
        for shard in range(self.shards):
            store = self.stores(shard)
            known = in_force(store).versions
            tables = (self.snapshots.open(known) if known else None) or self.tables
            self.actors.append(
                Actor(
                    shard,
                    self.compiled,
                    store,
                    tables=tables,
                    changes=writer,
                    dead_letters=letters,
                    shards=self.shards,
                    snapshots=self.snapshots,
                    on_lost=self.router.people.disown,
                )
            )
        for actor in self.actors:
            actor.graph.forgetting.on_forgotten = self.router.people.forget
            while actor.hand_over.resending:
                self.take(actor.hand_over.resend())
            for messages in put_in_force(actor, actor.refresh.tables, self.shards, self.began_ms):
                self.take(messages)

    def restart(self) -> None:
        """The process dies and starts again: what was not trimmed from the outboxes is sent again."""
        self._start()

    def deploy(self, project: Project, tables: Mapping[str, WarehouseTable] | None = None) -> None:
        """The process ends and starts again with other definitions.

        Args:
            project: the new ones, of the same name.
            tables: the tables that they read, by name; None: those of before.
        """
        stores = [self.stores(shard) for shard in range(self.shards)]
        self.compiled = compiled_for(project, stores, counting=self.counting)
        if tables is not None:
            self.tables = dict(tables)
            self.snapshots.forget()
            self.snapshots.add(self.tables)
        self._start()

    def commit(self) -> None:
        """An epoch ends and is committed."""
        for actor in self.actors:
            actor.snapshot()
            actor.committed()

    def feed(self, records: Sequence[Arrived]) -> None:
        """Hands records to the shards, as one poll; records of a partition in order of their offsets."""
        events: list[list[object]] = [[] for _ in self.actors]
        deliver = [shard.append for shard in events]
        spans: list[Span] = []
        refused = []
        for (topic, partition), group in groupby(records, key=lambda record: (record.topic, record.partition)):
            run = list(group)
            refused += self.router.route(
                [LocalRecord(topic, partition, one.offset, one.value) for one in run],
                [one.value for one in run],
                [one.arrival_ms for one in run],
                deliver,
            )
            spans.append(
                Span(topic, local_topic_id(topic), partition, run[0].offset, run[-1].offset + 1, run[-1].arrival_ms)
            )
        for actor in self.actors:
            mine = [one for one in refused if one[0].partition() % self.shards == actor.shard]
            self.take(actor.apply(Batch(self.time_ms, spans, events[actor.shard], mine)))
        self._deliver()

    def advance(self, time_ms: int) -> None:
        """Log time goes on: everything that is due before ``time_ms`` is fired."""
        self.time_ms = max(self.time_ms, time_ms)
        for actor in self.actors:
            self.take(actor.apply(Batch(self.time_ms, [], [])))
            while actor.overdue:
                self.take(actor.sweep())
        self._deliver()

    def refresh(self, tables: Mapping[str, WarehouseTable], *, finish: bool = True) -> None:
        """Decides that newer tables come into force; those that are not named stay.

        Args:
            tables: by name.
            finish: whether everybody whom they concern is switched at once, and not when something else happens.
        """
        decision = SnapshotDecision(generation=1, tables=self.snapshots.add(tables), at="")
        self.control.append(encode_decision(decision))
        self._deliver()
        for actor in self.actors if finish else ():
            while actor.overdue:
                self.take(actor.sweep())

    def _deliver(self) -> None:
        """Hands mail and decisions to the shards until none is on its way."""
        while [actor for actor in self.actors if self._delivered(actor)]:
            pass

    def _delivered(self, actor: Actor) -> bool:
        """Hands a shard what it has not read; says whether there was anything."""
        topics, shard = self.topics, actor.shard
        mail: list[Mail] = []
        spans: list[Span] = []
        for topic, topic_id, partition, log in (
            (topics.mailbox, topics.mailbox_id, shard, self.mailbox[shard]),
            (topics.control, topics.control_id, 0, self.control),
        ):
            first = (actor.positions.get(topic_id, partition) or (0, 0))[0]
            if first < len(log):
                mail += [
                    Mail(topic_id, partition, offset, log[offset], self.time_ms) for offset in range(first, len(log))
                ]
                spans.append(Span(topic, topic_id, partition, first, len(log), 0))
        if mail:
            self.take(actor.apply(Batch(self.time_ms, spans, [], mail=mail)))
        return bool(mail)

    def take(self, messages: Iterable[OutboxMessage]) -> None:
        """Takes what a shard sends: mail goes into the mailbox, the rest is kept."""
        for message in messages:
            if message.topic == self.topics.mailbox:
                self.mailbox[message.partition].append(message.value or b"")
                continue
            if message.topic == self.topics.control:
                self.control.append(message.value or b"")
                continue
            if message.topic != "memberships":
                self.letters.append(message)
                continue
            if message.value is None:
                self.tombstones.append(message.key or b"")
                continue
            change = decode_change(message.value)
            self.sent.append(change)
            if change.version > self.versions.get(change.profile_id, 0):
                self.versions[change.profile_id] = change.version
                self.changes.append(change)


def local_topic_id(topic: str) -> bytes:
    """16 bytes for a topic that no broker has given an id."""
    return blake2b(topic.encode(), digest_size=16).digest()
