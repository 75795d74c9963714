"""Many shards in one process, their mail under the hands of a seed.

Owns: the real actors over memory stores, with the real codecs: each shard reads the partitions of events and its partition
of the mailbox at its own pace; mail waits in its channel for as long as the seed likes; a shard may die at any step, and
then starts again over its store and sends again what was not acknowledged. Now and then all shards are copied at one moment,
and later all go on from one of the copies, under a new generation, while mail of the abandoned future still comes in.
Not here: what people do (tests.simulation.people), what is right (tests.oracle.identity).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from random import Random
from typing import Any, NamedTuple

from flows.actor import Actor
from flows.batch import Batch, LocalRecord, Mail, Span
from flows.changes import ChangeWriter
from flows.control import Forget, SnapshotDecision, encode_decision
from flows.dead_letters import DeadLetters
from flows.erasures import Erasures
from flows.identity.letters import Claims, Grants, Letter
from flows.in_force import in_force
from flows.loop import LocalSnapshots, local_topic_id
from flows.mail import LOCAL_TOPICS
from flows.mail_time import MailTime
from flows.refresh import put_in_force
from flows.replay_changes import decode_change
from flows.succession import compiled_for
from opportune.identity import digest_of
from opportune.membership import MembershipChange
from opportune.profile import Profile
from opportune.project import Project
from opportune.router import Router
from state.ancestry import continue_under
from state.keys import PROFILE_BYTES
from state.memory import MemoryStore
from state.outbox import OutboxMessage
from state.warehouse import WarehouseTable
from tests.oracle.builders import DAY_0
from tests.simulation.order import Order
from tests.simulation.people import STEP_MS, texts

TOPIC = "events"
TOPIC_ID = local_topic_id(TOPIC)


CHECKPOINTS_MAX = 4
IDLE_MS = 1 << 60


class Checkpoint(NamedTuple):
    """All shards at one moment, and what they had seen by then."""

    stores: list[MemoryStore]
    order: Order | None


class World:
    """Shards, topics, and what is on its way.

    Args:
        project: with its audiences and identities.
        shards: how many.
        log: by partition, records and their arrivals, in order.
        random: decides what happens next.
        tables: the warehouse tables that are in force from the start, by name.
        order: is told what the shards see.

    Attributes:
        crashes, restores: how often a shard died, and all were put back.
        sent, letters: records of the memberships topic and dead letters that were handed out, repeats included.
    """

    def __init__(
        self,
        project: Project,
        shards: int,
        log: list[list[tuple[bytes, int]]],
        random: Random,
        tables: Mapping[str, WarehouseTable] | None = None,
        order: Order | None = None,
    ) -> None:
        self.topic_id = TOPIC_ID
        self.shards = shards
        self.log = log
        self.random = random
        self.stores = [MemoryStore() for _ in range(shards)]
        self.compiled = compiled_for(project, self.stores)
        self.channels: list[dict[int, deque[bytes]]] = [{} for _ in range(shards)]
        self.mailbox: list[list[bytes]] = [[] for _ in range(shards)]
        self.control: list[tuple[bytes, int]] = []
        self.letters: list[OutboxMessage] = []
        self.tables = dict(tables or {})
        self.snapshots = LocalSnapshots(shards)
        self.snapshots.add(self.tables)
        self.sent: list[OutboxMessage] = []
        self.crashes = self.restores = 0
        self.generation = 1
        self.order = order
        self.checkpoints: list[Checkpoint] = []
        self.abandoned: list[tuple[int, deque[bytes]]] = []
        self.routers = [Router(self.compiled, shards) for _ in range(shards)]
        self.actors: list[Actor] = []
        for shard in range(shards):
            self.actors.append(self._actor(shard))
        self.erasures = Erasures(self.actors)
        self.mail_time = MailTime(self.actors, IDLE_MS, lambda: 0)

    def _actor(self, shard: int) -> Actor:
        known = in_force(self.stores[shard]).versions
        tables = self.snapshots.open(known) if known else self.tables
        assert tables is not None, "snapshots in memory are never gone"
        actor = Actor(
            shard,
            self.compiled,
            self.stores[shard],
            tables=tables,
            changes=ChangeWriter(self.compiled, "memberships", 1, lambda: DAY_0),
            dead_letters=DeadLetters("dead-letters", 1 << 20),
            shards=self.shards,
            snapshots=self.snapshots,
            on_lost=lambda text: self.routers[shard].people.disown(text),  # noqa: PLW0108 - the router changes at a crash
        )
        self._watch(actor)
        for messages in put_in_force(actor, tables, self.shards, DAY_0) if tables else ():
            self.take(actor, messages)
        actor.graph.forgetting.on_forgotten = self.routers[shard].people.forget
        return actor

    def _watch(self, actor: Actor) -> None:
        """What a shard decides is seen when it decides it, whether it says so by mail or to itself; so is what it applies."""
        outgoing, count = actor.graph.outgoing, actor.graph.count

        def counted(events: list[Any]) -> None:
            if self.order is not None:
                for event in events:
                    self.order.event((event.arrival - DAY_0) // STEP_MS, texts(event.origin.value()))
            count(events)

        send, gather = outgoing.send, outgoing.gather

        def sent(letter: Letter) -> None:
            if self.order is not None:
                self.order.letter(letter)
            send(letter)

        def gathered(id_: bytes, kind: type[Claims | Grants], item: Any) -> None:
            if self.order is not None:
                self.order.letter(item)
            gather(id_, kind, item)

        actor.graph.count = counted  # type: ignore[method-assign]  # looked at, not replaced
        outgoing.send = actor.graph.send = sent  # type: ignore[method-assign]  # looked at, not replaced
        outgoing.gather = gathered  # type: ignore[method-assign]  # looked at, not replaced

    @property
    def changes(self) -> list[MembershipChange]:
        """The membership changes that were handed out, repeats included."""
        return [decode_change(message.value) for message in self.sent if message.value is not None]

    def step(self, until_ms: int = 1 << 60) -> None:
        """Something happens to some shard; nothing is read that arrived after an instant."""
        shard = self.random.randrange(self.shards)
        choice = self.random.random()
        if choice < 0.3:
            self.read(shard, self.random.randrange(len(self.log)), self.random.randint(1, 6), until_ms)
        elif choice < 0.62:
            self.append(shard)
        elif choice < 0.66:
            self.decide(shard, self.random.randint(1, 3))
        elif choice < 0.95:
            self.deliver(shard, self.random.randint(1, 4))
        elif choice < 0.97:
            self.acknowledge(shard)
        elif choice < 0.98:
            self.checkpoint()
        elif choice < 0.984:
            self.restore()
        else:
            self.crash(shard)

    def refresh(self, tables: Mapping[str, WarehouseTable]) -> None:
        """Newer tables are to come into force; each shard reads of it when it comes to it."""
        decision = SnapshotDecision(generation=1, tables=self.snapshots.add(tables), at="")
        self.control.append((encode_decision(decision), 0))

    def go_on(self, shard: int) -> None:
        """A shard does some of what it left for later."""
        if self.actors[shard].overdue:
            self.take(self.actors[shard], self.actors[shard].sweep())

    def drain(self, until_ms: int) -> None:
        """Everything is read, all mail delivered; then time goes on to an instant, exclusive."""
        for shard in range(self.shards):
            for partition in range(len(self.log)):
                self.read(shard, partition, len(self.log[partition]))
        self.settle()
        self.pass_time(until_ms)
        self.settle()

    def pass_time(self, until_ms: int) -> None:
        """Log time goes on to an instant, exclusive."""
        for actor in self.actors:
            self.take(actor, actor.apply(Batch(until_ms, [], [])))
            while actor.overdue:
                self.take(actor, actor.sweep())

    def tick(self, shard: int, clock_ms: int) -> None:
        """A shard's time goes on as far as it has read and mail allows; partitions that are read to their end count as the clock."""
        actor, read_ms = self.actors[shard], clock_ms
        for partition, records in enumerate(self.log):
            first = (actor.positions.get(TOPIC_ID, partition) or (0, 0))[0]
            if first < len(records):
                read_ms = min(read_ms, records[first][1])
        time_ms = min(read_ms, self.mail_time.now())
        self.take(actor, actor.apply(Batch(time_ms, [], [], read_ms=read_ms)))

    def settle(self) -> None:
        """All mail is delivered, and all that comes of it."""
        busy = True
        while busy:
            for sender in range(self.shards):
                while any(self.channels[sender].values()):
                    self.append(sender)
            busy = sum(self.deliver(shard, 1 << 30) + self.decide(shard, 1 << 30) for shard in range(self.shards)) > 0

    def read(self, shard: int, partition: int, count: int, until_ms: int = 1 << 60) -> None:
        """A shard is given the next records of a partition, of which it applies those that are its own."""
        actor = self.actors[shard]
        first = (actor.positions.get(TOPIC_ID, partition) or (0, 0))[0]
        run = [one for one in self.log[partition][first : first + max(count, 0)] if one[1] <= until_ms]
        if not run:
            return
        events: list[list[Any]] = [[] for _ in range(self.shards)]
        records = [LocalRecord(TOPIC, partition, first + at, raw) for at, (raw, _) in enumerate(run)]
        arrivals = [arrival for _, arrival in run]
        refused = self.routers[shard].route(
            records, [raw for raw, _ in run], arrivals, [mine.append for mine in events]
        )
        assert not refused
        span = Span(TOPIC, TOPIC_ID, partition, first, first + len(run), arrivals[-1])
        self.take(actor, actor.apply(Batch(0, [span], events[shard])))

    def append(self, sender: int) -> None:
        """The oldest mail of one of a shard's channels reaches its partition; now and then twice."""
        if self.abandoned and self.random.random() < 0.5:
            receiver, queue = self.random.choice(self.abandoned)
            if queue:
                self.mailbox[receiver].append(queue.popleft())
        waiting = [receiver for receiver, queue in self.channels[sender].items() if queue]
        if waiting:
            receiver = self.random.choice(waiting)
            piece = self.channels[sender][receiver].popleft()
            self.mailbox[receiver] += [piece] * self.random.choice((1, 1, 1, 2))

    def deliver(self, shard: int, count: int) -> bool:
        """A shard reads on in its partition of the mailbox; says whether there was anything."""
        actor = self.actors[shard]
        first = (actor.positions.get(LOCAL_TOPICS.mailbox_id, shard) or (0, 0))[0]
        run = self.mailbox[shard][first : first + count]
        if not run:
            return False
        mail = [Mail(LOCAL_TOPICS.mailbox_id, shard, first + at, value) for at, value in enumerate(run)]
        span = Span(LOCAL_TOPICS.mailbox, LOCAL_TOPICS.mailbox_id, shard, first, first + len(run), 0)
        self.take(actor, actor.apply(Batch(0, [span], [], mail=mail)))
        return True

    def decide(self, shard: int, count: int) -> bool:
        """A shard reads on in the control topic; says whether there was anything."""
        actor = self.actors[shard]
        first = (actor.positions.get(LOCAL_TOPICS.control_id, 0) or (0, 0))[0]
        run = self.control[first : first + count]
        if not run:
            return False
        mail = [Mail(LOCAL_TOPICS.control_id, 0, first + at, *record) for at, record in enumerate(run)]
        span = Span(LOCAL_TOPICS.control, LOCAL_TOPICS.control_id, 0, first, first + len(run), 0)
        self.take(actor, actor.apply(Batch(0, [span], [], mail=mail)))
        return True

    def forget(self, request: str, identifiers: list[str], at_ms: int) -> None:
        """Somebody asks that whoever has these identifiers is forgotten."""
        digests = [digest_of(text).hex() for text in identifiers]
        self.control.append((encode_decision(Forget(request=request, identifiers=digests, at="")), at_ms))

    def take(self, actor: Actor, messages: list[OutboxMessage]) -> None:
        """What a shard sends is on its way."""
        for message in messages:
            if message.topic == LOCAL_TOPICS.mailbox:
                queue = self.channels[actor.shard].setdefault(message.partition, deque())
                queue.append(message.value or b"")
            elif message.topic == LOCAL_TOPICS.control:
                self.control.append((message.value or b"", 0))
            elif message.topic == "dead-letters":
                self.letters.append(message)
            else:
                self.sent.append(message)

    def acknowledge(self, shard: int) -> None:
        """An epoch of a shard ends, if all that it sent has arrived."""
        if not any(self.channels[shard].values()):
            self.actors[shard].snapshot()
            self.actors[shard].committed()

    def crash(self, shard: int) -> None:
        """A shard dies: what it had on its way is lost, and sent again by its next life."""
        self.crashes += 1
        self.channels[shard] = {}
        self.routers[shard] = Router(self.compiled, self.shards)
        actor = self.actors[shard] = self._actor(shard)
        self.mail_time = MailTime(self.actors, IDLE_MS, lambda: 0)
        while actor.hand_over.resending:
            self.take(actor, actor.hand_over.resend())

    def checkpoint(self) -> None:
        """All shards are copied, as they are between two steps."""
        made = Checkpoint(list(map(MemoryStore.copy, self.stores)), self.order and self.order.copy())
        self.checkpoints = [*self.checkpoints, made][-CHECKPOINTS_MAX:]

    def restore(self) -> None:
        """Where the order is kept, all shards go on from one of the copies; what they had on its way still comes in, each channel in its order."""
        if not self.checkpoints or self.order is None:
            return
        self.restores += 1
        self.generation += 1
        stores, order = self.random.choice(self.checkpoints)
        self.stores = list(map(MemoryStore.copy, stores))
        continue_under(self.stores, self.generation)
        self.order = order and order.copy()
        self.abandoned += [(receiver, queue) for channels in self.channels for receiver, queue in channels.items()]
        self.channels = [{} for _ in range(self.shards)]
        for shard in range(self.shards):
            self.crash(shard)

    def deploy(self, project: Project) -> None:
        """All shards die, and start again with other definitions."""
        self.compiled = compiled_for(project, self.stores)
        for shard in range(self.shards):
            self.crash(shard)

    def heads(self) -> dict[bytes, Profile]:
        """The heads and pointers of all shards, as stored."""
        found: dict[bytes, Profile] = {}
        for actor in self.actors:
            actor.desk.forget()
            ids = [key for key, _ in actor.store.scan("profiles") if len(key) == PROFILE_BYTES]
            actor.desk.load(ids)
            found |= actor.desk.profiles
        return found
