"""One shard at work: what a batch does to its state, and what it has to say about it.

Owns: the order of things in a batch (DESIGN.md section 5): leave out what is applied, read the profiles, fire what is
due of them, fold, evaluate, sweep timers, ONE atomic write of {profiles, timers, members, seen, positions, outbox}.
Invariants: what is returned is in the outbox before it is returned; applied positions move in the write that holds
their effects; ``at`` never goes back for a profile; no clock is read to decide anything.
Not here: Bytewax (flows.bytewax_step), Kafka (flows.hub, flows.sinks), generated code (opportune.audiences.compiler).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np
import xxhash

from flows.batch import Batch
from flows.changes import ChangeWriter, net
from flows.control import Decisions
from flows.dead_letters import DeadLetters
from flows.desk import Desk
from flows.hand_over import HandOver
from flows.identity import Graph, earlier
from flows.mail import LOCAL_TOPICS, Incoming, Mailbox, MailTopics
from flows.refresh import Refresh, Snapshots
from flows.repeats import cover, covered_by, is_new, used_before, was_used
from flows.succession import Succession
from flows.timers import Timers
from opportune.compiled import Compiled
from opportune.decode import Event
from opportune.errors import RejectedEvent
from opportune.profile import FROZEN, Change, Profile, advance, fire
from state.keys import META_APPLIED, decode_timer, pack_member, pack_membership
from state.outbox import Outbox, OutboxMessage, encode_messages
from state.positions import Positions, Reached
from state.seen import Seen
from state.store import Batch as Write
from state.store import Store
from state.warehouse import WarehouseTable

SWEEP_MAX = 200
"""So many timers are fired in one go; events come between."""
SAVE_MS = 1_000
"""A shard that has nothing to do saves its positions this often, by log time."""
ARRIVAL = attrgetter("arrival")
hash_id = xxhash.xxh3_64_intdigest


def ignore(*_: Any) -> None:
    """Nobody listens."""


class Actor:
    """A shard.

    Args:
        shard: its number.
        compiled: the project.
        store: its state, opened for it (state.identity).
        tables: the warehouse tables in force, by name.
        changes: makes records of changes.
        dead_letters: makes records of refused events.
        mail: the topics of mail and decisions.
        shards: how many there are.
        snapshots: opens the tables that later decisions put in force.
        on_point: called with the name of a point of the work; tests kill the process there.
        on_poison: called with the record of an event whose work raised, and the error.
        on_lost: called with an identifier that has changed hands (``People.disown`` of who routes the events).
        mail_pace_ms: as ``HandOver`` has it.

    Attributes:
        counts: what was done since the start, by word.
        refused: refused records since the start, by reason.
        time_ms, read_ms: log time, and how far the inputs are read: the former waits for mail (flows.mail_time).
        mail_read: the offset below which the shard's mail is applied and synced, as of the last snapshot.
    """

    # A replay has its own (flows.replay_actor).
    DESK: ClassVar[type[Desk]] = Desk
    TIMERS: ClassVar[type[Timers]] = Timers
    SWEEP: ClassVar[int] = SWEEP_MAX

    def __init__(
        self,
        shard: int,
        compiled: Compiled,
        store: Store,
        *,
        tables: Mapping[str, WarehouseTable],
        changes: ChangeWriter,
        dead_letters: DeadLetters,
        mail: MailTopics = LOCAL_TOPICS,
        shards: int = 1,
        snapshots: Snapshots | None = None,
        on_point: Callable[[str], None] = ignore,
        on_poison: Callable[[Any, BaseException], None] = ignore,
        on_lost: Callable[[str], None] = ignore,
        mail_pace_ms: int = 0,
    ) -> None:
        self.shard = shard
        self.compiled = compiled
        self.store = store
        self.changes = changes
        self.dead_letters = dead_letters
        self.on_point = on_point
        self.on_poison = on_poison
        self.topics = mail
        self.on_lost = on_lost
        settings = compiled.project.settings
        self.durable_batches = settings.state.durability == "batch"
        self.lateness_ms = settings.clock.lateness_ms
        self.period_ms = settings.dedupe.period_ms
        self.desk = self.DESK(compiled, store, tables)
        self.timers = self.TIMERS(store)
        self.positions = Positions(store.get("meta", META_APPLIED) or b"")
        self.outbox = Outbox(store)
        self.mail_topics = mail
        self.mail_read = 0
        self.mailbox = Mailbox(shard, store, mail.mailbox)
        self.decisions = Decisions(store, self.mailbox.generation)
        self.incoming = Incoming(shard, mail, self.mailbox, self.decisions, on_poison)
        self.seen = Seen(store, self.period_ms)
        self.evaluate = compiled.program.evaluate
        self.members = store.family("members")
        self.meta = store.family("meta")
        self.succession = Succession(self)
        self.refresh = Refresh(self, tables, snapshots)
        self.time_ms = self.read_ms = 0
        self.settled_ms = 0
        self.reached = Reached(store)
        self.saved_ms = 0
        self.moved = False
        self.hand_over = HandOver(self.outbox, store, mail_pace_ms)
        self.entered, self.exited = ([0] * (len(compiled.names) + len(compiled.gone)) for _ in range(2))
        self.counts = dict.fromkeys(
            ("applied", "duplicates", "replayed", "changes", "fired", "profiles", "forwarded"), 0
        )
        self.refused: dict[str, int] = {}
        self.graph = Graph(self, shards)

    def apply(self, batch: Batch, *, quiet: bool = False) -> list[OutboxMessage]:
        """Does all that a batch asks for.

        Args:
            batch: events, refused records, and how far the inputs are read.
            quiet: whether there is time for some of those whom a new warehouse snapshot concerns.

        Returns:
            What is to be sent; it is in the outbox already.

        Raises:
            TransientError: the store refused the write; nothing of the batch is applied.
        """
        covered = covered_by(self.positions, batch.spans)
        refused = [one for one in batch.refused if not covered or is_new(one[0], covered)]
        events = batch.events
        if covered and events:
            events = [event for event in events if is_new(event.origin, covered)]
            self.counts["replayed"] += len(batch.events) - len(events)
        out: list[Change] = []
        write = self.store.batch()
        self.desk.clear()
        self.graph.begin(out, refused, write)
        self.refresh.turn(self.time_ms)
        if batch.mail:
            refused += self.incoming.take(batch.mail, self.positions, write)
            self.graph.settle()
            self.mailbox.answering = self.graph.outgoing.busy
            for versions in self.decisions.snapshots():
                self.refresh.decide(versions, self.time_ms or batch.read_ms or batch.time_ms)
            self.graph.forgetting.decide(self.decisions.erasures())
        self.graph.apply(events)
        self.time_ms = max(self.time_ms, batch.time_ms)
        self.read_ms = max(self.read_ms, batch.read_ms or batch.time_ms)
        self._sweep(out, write)
        if quiet:
            self.refresh.slice(out)
            self.succession.slice()
        self.graph.settle()
        self.moved |= cover(self.positions, batch.spans)
        for _, refusal in refused:
            self.refused[refusal.reason] = self.refused.get(refusal.reason, 0) + 1
        letters = self.dead_letters.messages(refused)
        messages = self.commit(out, write, letters)
        # Readers of the state are told this time, and no later one: all that came up to it is written.
        self.settled_ms = self.time_ms
        return messages

    def send(self, receiver: int, kind: str, body: bytes) -> None:
        """Sends mail to a shard, with the write of what is being applied; see ``Mailbox.send``."""
        self.mailbox.send(receiver, kind, body)

    @property
    def overdue(self) -> bool:
        """Whether there is work that was left for later: timers that are due, people whom a snapshot or definitions concern."""
        return self.timers.next_due < self.time_ms or self.refresh.busy or self.succession.busy

    def sweep(self) -> list[OutboxMessage]:
        """Does some of what was left for later; as ``apply`` of an empty batch."""
        return self.apply(Batch(self.time_ms, [], []), quiet=True)

    def apply_events(  # noqa: C901, PLR0912 - the hot loop: a call for each of its cases would cost more than the case
        self, events: list[Event], out: list[Change], refused: list[tuple[Any, RejectedEvent]], write: Write
    ) -> None:
        """Applies events in order; an exception in here is a bug, and the record that met it is told to ``on_poison``."""
        desk, evaluate, graph = self.desk, self.evaluate, self.graph
        claiming = graph.claiming
        wanted, profiles = graph.load_for(events), desk.profiles
        self.refresh.meet(wanted, out)
        desk.open_due([profiles[id_] for id_ in wanted], self.reached.late(max(map(ARRIVAL, events))))
        hashes = [
            hash_id(event.messageId.encode()) ^ event.person.salt
            if event.messageId and event.handler is not None
            else 0
            for theirs in wanted.values()
            for event in theirs
        ]
        recalled = used_before(self.seen, hashes + earlier(wanted, profiles))
        used: dict[int, int] = {}
        found, touch, lateness = self.compiled.program.found, desk.touch, self.lateness_ms
        applied = place = 0
        event = events[0]
        try:
            for profile_id, theirs in wanted.items():
                profile = profiles[profile_id]
                if profile.fate and graph.divert(profile, theirs, hashes[place : place + len(theirs)], recalled):
                    place += len(theirs)
                    continue
                for event in theirs:
                    hashed = hashes[place]
                    place += 1
                    now = event.arrival
                    if now < profile.now:
                        now = profile.now
                        if event.at < now - lateness:
                            refused.append((event.origin, RejectedEvent("too_late", f"{now - event.at} ms behind")))
                            continue
                    action = event.handler
                    if hashed and recalled is not None and self.is_duplicate(hashed, now, recalled, used, profile):
                        continue
                    if event.also:
                        claiming.noted.append((profile, event))
                    if action is None and profile.now:
                        event.person.known = True
                        continue
                    if profile.dirty is None:
                        touch(profile)
                    if profile.due < now:
                        advance(profile, now, out, evaluate)
                    if not profile.now:
                        self._found(profile, event)
                        found(profile, now, out, event)
                    if action is None:
                        continue
                    profile.now = now
                    if action.fold(profile, event, event.at, now, out) and hashed:
                        used[hashed] = now
                    if profile.due <= now:
                        fire(profile, now, out, evaluate, event)
                    applied += 1
        except Exception as error:
            self.on_poison(event.origin, error)
            raise
        self.counts["applied"] += applied
        claiming.apply()
        if used:
            self.seen.add(write, np.array(list(used), np.uint64), np.array(list(used.values()), np.int64))

    def _found(self, profile: Profile, event: Event) -> None:
        person = event.person
        person.known = True
        if not person.addressed:
            # Else the graph has said who is founded again (flows.identity.forgetting).
            profile.identifiers = [person.text]
            profile.rank = person.rank
        profile.now = event.arrival
        self.graph.notes.found(profile.id, profile.identifiers[0], event)
        self.counts["profiles"] += 1

    def is_duplicate(
        self, hashed: int, now: int, recalled: Mapping[int, int], used: Mapping[int, int], profile: Profile
    ) -> bool:
        """Whether a message id, by its hash, was used within the period before ``now``; counts it."""
        duplicate = was_used(hashed, now - self.period_ms, recalled, used, profile)
        self.counts["duplicates"] += duplicate
        return duplicate

    def _sweep(self, out: list[Change], write: Write) -> None:
        """Fires timers that are due before the shard's time, a bounded number of them."""
        keys = self.timers.due(self.time_ms, self.SWEEP)
        if not keys:
            return
        desk = self.desk
        ids = [decode_timer(key)[1] for key in keys]
        desk.load(ids)
        self.refresh.meet(ids, out)
        swept = [desk.profiles[profile_id] for profile_id in dict.fromkeys(ids)]
        desk.open_due(swept, self.time_ms - 1)
        self.timers.remove(keys, write)
        for profile in swept:
            profile.timer = 0
            desk.touch(profile)
            if profile.fate & FROZEN:
                continue
            advance(profile, self.time_ms, out, self.evaluate)
        self.counts["fired"] += len(keys)

    def commit(self, out: list[Change], write: Write, letters: list[OutboxMessage]) -> list[OutboxMessage]:
        """Versions, indexes and writes; returns what is to be sent."""
        out = [*self.succession.save(write), *out]
        messages = [*self._changes(out, write), *letters] if out else letters
        messages = [*messages, *self.graph.save(write)]
        desk, mailbox = self.desk, self.mailbox
        mail = mailbox.outgoing
        due = self.time_ms - self.saved_ms >= SAVE_MS and (self.moved or self.outbox.trimmable)
        unsaved = mailbox.wrote or self.refresh.unsaved or self.succession.saved
        if not (desk.touched or messages or mail or due or unsaved):
            return self.hand_over.take([], [], self.read_ms)
        for profile in desk.touched:
            self.timers.arm(profile, write)
        desk.store_touched(write)
        if messages or mail:
            self.outbox.append(write, encode_messages([*messages, *mail]))
        self.outbox.trim(write)
        self.seen.forget(write, self.time_ms)
        self._save_places(write)
        self.saved_ms = self.time_ms
        self.store.write(write)
        if self.durable_batches:
            self.store.sync()
        self.on_point("after_write")
        return self.hand_over.take(messages, mail, self.read_ms)

    def _save_places(self, write: Write) -> None:
        """Puts how far everything was read and sent into a write."""
        if self.moved:
            write.put(META_APPLIED, self.positions.encode(), self.meta)
            self.moved = False
        self.reached.save(write, self.time_ms)
        self.decisions.save(write)
        self.refresh.save(write)
        self.mailbox.save(write)

    def begin(self, inputs: Iterable[tuple[bytes, int, int, int]]) -> None:
        """Notes where an input that has no position yet begins: (topic id, partition, offset, log time)."""
        for topic_id, partition, offset, time_ms in inputs:
            if self.positions.get(topic_id, partition) is None:
                self.positions.advance(topic_id, partition, offset, time_ms)
        write = self.store.batch()
        write.put(META_APPLIED, self.positions.encode(), self.meta)
        self.store.write(write)

    def _changes(self, out: list[Change], write: Write) -> list[OutboxMessage]:
        emitted_at = self.changes.emitted_at()
        messages: list[OutboxMessage] = []
        for change in net(out):
            profile, audience, entered, at_ms, _ = change
            messages.append(self.changes.message(change, emitted_at))
            key = pack_member(audience, profile.id)
            if entered:
                self.entered[audience] += 1
                write.put(key, pack_membership(at_ms, profile.version), self.members)
            else:
                self.exited[audience] += 1
                write.delete(key, self.members)
        self.counts["changes"] += len(messages)
        return messages

    def snapshot(self) -> dict[str, Any]:
        """Makes everything durable.

        Returns the fence: shard, applied positions, last outbox sequence. State behind a committed fence is lost state.
        """
        assert not self.mailbox.outgoing, "mail was sent outside of a batch"
        if self.moved or self.time_ms > self.reached.time_ms:
            write = self.store.batch()
            self._save_places(write)
            self.store.write(write)
        self.store.sync()
        known = self.positions.get(self.mail_topics.mailbox_id, self.shard)
        self.mail_read = known[0] if known is not None else 0
        sequence = self.hand_over.seal()
        applied = {f"{topic.hex()}/{partition}": offset for (topic, partition), (offset, _) in self.positions}
        return {"shard": self.shard, "applied": applied, "outbox": sequence}

    def committed(self) -> None:
        """The epoch of the last snapshot is known to be committed: what it sent needs not be kept."""
        self.outbox.committed()
