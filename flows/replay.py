"""Replay of a file of events through the same actor, over a memory store.

Owns: the watermark: the greatest effective time seen so far over the whole input; refused and dropped events do not move
it. Each event arrives at the watermark, so what is due before it is fired first.
Invariant: the result depends neither on how lines are grouped nor on the order of events of one instant of different
people: a group ends where the watermark rises.
Not here: reading files and printing (opportune.cli.replay).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from itertools import islice

import msgspec
import numpy as np

from flows.actor import Actor, hash_id
from flows.batch import Batch, LocalRecord, Mail
from flows.changes import ChangeWriter
from flows.dead_letters import DeadLetters
from flows.mail import LOCAL_TOPICS
from flows.refresh import put_in_force
from opportune.clock import Clock, wall_clock_ms
from opportune.compiled import Compiled
from opportune.decode import Event
from opportune.errors import RejectedEvent
from opportune.event import Instants, effective_ms, iso_text
from opportune.membership import MembershipChange
from opportune.people import People, is_known
from opportune.project import Project
from state.memory import MemoryStore
from state.outbox import OutboxMessage
from state.warehouse import WarehouseTable

CHUNK = 5_000
WATERMARK_FIRST_MS = 1
"""Log time does not begin before 1970: due instants are stored without a sign."""
AFTER_ALL = ":"
"""Text that is greater than that of any instant."""
decode_change = msgspec.json.Decoder(MembershipChange).decode


class ReplayResult(msgspec.Struct):
    """What a replay found.

    Args:
        changes: in order of instant, profile and audience, unless they were handed out as they came.
        events: lines read.
        applied: events that reached somebody's features.
        duplicates: events that were dropped.
        refused: refused lines, by reason.
        clamped: events that claimed to be later than their ``receivedAt``.
        after_until: events later than ``until``, ignored.
        profiles: people who exist at the end.
        evaluated: how often each audience was evaluated, where that was counted.
        end_ms: the last instant.
    """

    changes: list[MembershipChange]
    events: int = 0
    applied: int = 0
    duplicates: int = 0
    refused: dict[str, int] = {}
    clamped: int = 0
    after_until: int = 0
    profiles: int = 0
    evaluated: dict[str, int] = {}
    end_ms: int | None = None


class Replay:
    """One replay.

    Args:
        project: a valid project.
        tables: the warehouse tables, by name; in force from before the first event.
        until_ms: events later than this are ignored; None: to the last event.
        counting: whether evaluations are counted.
        clock: for ``emitted_at``, and for the instant of rows where there are no events.
    """

    def __init__(
        self,
        project: Project,
        *,
        tables: Mapping[str, WarehouseTable] | None = None,
        until_ms: int | None = None,
        counting: bool = False,
        clock: Clock = wall_clock_ms,
    ) -> None:
        self.compiled = Compiled(project, counting=counting)
        self.tables = dict(tables or {})
        self.until_ms = until_ms
        self.clock = clock
        self.settings = project.settings
        self.actor = Actor(
            0,
            self.compiled,
            MemoryStore(),
            tables=self.tables,
            changes=ChangeWriter(self.compiled, "memberships", 1, clock),
            dead_letters=DeadLetters("dead-letters", self.settings.event_bytes_max),
        )
        self.people = People(1, project.identity, self.compiled.event_type)
        self.instants = Instants()
        self.watermark: int | None = None
        self.pending: list[Event] = []
        self.ready: list[MembershipChange] = []
        self.waiting: set[int] = set()
        self.mail: list[Mail] = []
        self.mailed = 0
        self.final_ms = 0
        self.split = False
        self.result = ReplayResult([])

    def run(self, lines: Iterable[bytes]) -> Iterator[MembershipChange]:
        """Plays lines of JSON.

        Args:
            lines: one message each, in order of arrival.

        Yields:
            The membership changes, in order of instant, profile and audience.
        """
        rest = iter(lines)
        start = 0
        while chunk := list(islice(rest, CHUNK)):
            self._chunk(chunk, start)
            start += len(chunk)
            yield from self._final()
        end = self.until_ms
        if self.watermark is None:
            self._enforce(self.clock() if end is None else end)
        elif end is None:
            end = self.watermark
        if end is not None:
            self._flush(end + 1)
        self._finish(end)
        yield from self._final(ended=True)

    def _chunk(self, values: list[bytes], start: int) -> None:
        """Resolves a chunk, asks once which message ids may be repeats, then takes its events one by one."""
        refusals: list[tuple[int, RejectedEvent]] = []
        events = self.compiled.event_type.decode_all(values, refusals, self.settings.event_bytes_max)
        for _, refusal in refusals:
            self._refuse(refusal)
        self.result.events += len(values)
        resolved: list[tuple[Event, int]] = []
        for number, event in enumerate(events):
            if event is not None:
                event.origin = LocalRecord("events", 0, start + number, values[number])
                try:
                    resolved.append((event, self._resolve(event)))
                except RejectedEvent as refusal:
                    self._refuse(refusal)
        suspects = self._suspects([hashed for _, hashed in resolved])
        for event, hashed in resolved:
            try:
                self._take(event, hashed, hashed in suspects)
            except RejectedEvent as refusal:
                self._refuse(refusal)

    def _refuse(self, refusal: RejectedEvent) -> None:
        self.result.refused[refusal.reason] = self.result.refused.get(refusal.reason, 0) + 1

    def _resolve(self, event: Event) -> int:
        """Finds action and person; returns the hash of the message id as the actor has it, 0 for none."""
        if event.type is None:
            raise RejectedEvent("bad_type", "there is no type")
        event.handler = self.compiled.action(event)
        event.person, event.also = self.people.find(event)
        if not event.messageId:
            return 0
        return hash_id(event.messageId.encode()) ^ int(event.person.salt)

    def _suspects(self, hashes: list[int]) -> set[int]:
        """Hashes that occur twice in a chunk, wait to be applied, or were used before."""
        twice = {hashed for hashed, times in Counter(hashes).items() if times > 1}
        recalled = self.actor.seen.recall(np.array(hashes, np.uint64)).tolist() if hashes else []
        used = {hashed for hashed, at in zip(hashes, recalled, strict=True) if at >= 0}
        return (twice | used | self.waiting.intersection(hashes)) - {0}

    def _take(self, event: Event, hashed: int, suspect: bool) -> None:
        """Gives an event its time, raises the watermark, and leaves it for the actor.

        The actor finds duplicates too; those that must not move the watermark, or be counted as clamped, are found here.
        """
        watermark = self.watermark
        at, clamped = effective_ms(
            self.instants, event.timestamp, event.originalTimestamp, event.sentAt, event.receivedAt, watermark
        )
        if at is None:
            raise RejectedEvent("bad_time", "there is no time in it, and none before it")
        if self.until_ms is not None and at > self.until_ms:
            self.result.after_until += 1
            return
        now = max(at, WATERMARK_FIRST_MS if watermark is None else watermark)
        if at < now - self.settings.clock.lateness_ms:
            raise RejectedEvent("too_late", f"{now - at} ms behind")
        if watermark is None:
            self._enforce(now)
        elif suspect and (now > watermark or clamped or event.handler is None) and self._is_duplicate(hashed, now):
            self.result.duplicates += 1
            return
        elif now > watermark and len(self.pending) >= CHUNK:
            self._flush(now)
        watermark = self.watermark = now
        self.result.clamped += clamped
        event.at, event.arrival = at, watermark
        if event.also and not is_known(event.person, event.also):
            self._introduce(event, watermark)
        if event.handler is None and event.person.known:
            return
        self.pending.append(event)
        self.waiting.add(hashed)

    def _introduce(self, event: Event, now: int) -> None:
        """Lets the identifiers of an event find their profile, before the event itself counts there."""
        self._apply(now)
        self.split = True
        first = copy(event)
        first.handler = None
        self.pending.append(first)
        self._apply(now)

    def _is_duplicate(self, hashed: int, now: int) -> bool:
        """Whether an id was used within the period; what waits is applied first, in the middle of its instant."""
        assert self.watermark is not None
        self._apply(self.watermark)
        self.split = True
        used = int(self.actor.seen.recall(np.array([hashed], np.uint64))[0])
        return used >= 0 and now - used < self.settings.dedupe.period_ms

    def _enforce(self, at_ms: int) -> None:
        self.split = bool(self.tables)
        for messages in put_in_force(self.actor, self.tables, 1, at_ms):
            self._collect(messages)

    def _apply(self, time_ms: int) -> None:
        """Applies what waits, and fires what is due before an instant."""
        events, self.pending = self.pending, []
        self.waiting.clear()
        self._collect(self.actor.apply(Batch(time_ms, [], events)))
        while self.mail:
            mail, self.mail = self.mail, []
            self._collect(self.actor.apply(Batch(time_ms, [], [], mail=mail)))

    def _flush(self, time_ms: int) -> None:
        """Everything before an instant is done with."""
        self._apply(time_ms)
        while self.actor.overdue:
            self._collect(self.actor.sweep())
        self.final_ms = time_ms

    def _collect(self, messages: list[OutboxMessage]) -> None:
        for message in messages:
            if message.topic == LOCAL_TOPICS.mailbox:
                self.mail.append(Mail(LOCAL_TOPICS.mailbox_id, 0, self.mailed, message.value or b""))
                self.mailed += 1
        self.ready += [decode_change(message.value or b"") for message in messages if message.topic == "memberships"]

    def _final(self, *, ended: bool = False) -> Iterator[MembershipChange]:
        """Hands out, in order, the changes of instants that have passed; in the end all of them."""
        before = AFTER_ALL if ended else iso_text(self.final_ms)
        done = [change for change in self.ready if change.at < before]
        self.ready = [change for change in self.ready if change.at >= before]
        if self.split:
            done = without_flaps(done)
        done.sort(key=lambda change: (change.at, change.profile_id, change.audience))
        yield from done

    def _finish(self, end_ms: int | None) -> None:
        result, actor = self.result, self.actor
        result.applied = actor.counts["applied"]
        result.duplicates += actor.counts["duplicates"]
        result.profiles = actor.counts["profiles"]
        for reason, count in actor.refused.items():
            result.refused[reason] = result.refused.get(reason, 0) + count
        result.evaluated = dict(zip(self.compiled.names, self.compiled.program.evaluated, strict=True))
        result.end_ms = end_ms


def without_flaps(changes: list[MembershipChange]) -> list[MembershipChange]:
    """The net of instants that were applied in parts.

    Args:
        changes: in order of happening for each person; whole instants.

    Returns:
        Them without those that undo each other, with the versions that they have where an instant is applied at once.
    """
    kept: dict[tuple[str, str], dict[str, list[MembershipChange]]] = {}
    first: dict[tuple[str, str], int] = {}
    for change in changes:
        instant = (change.at, change.profile_id)
        first.setdefault(instant, change.version)
        by_audience = kept.setdefault(instant, {})
        by_audience.setdefault(change.audience, []).append(change)
    out: list[MembershipChange] = []
    for instant, by_audience in kept.items():
        net = sorted(audience for audience, several in by_audience.items() if len(several) % 2)
        for version, audience in enumerate(net, first[instant]):
            change = by_audience[audience][0]
            if change.version != version:
                change = msgspec.structs.replace(change, version=version, id=f"{change.profile_id}/{version}")
            out.append(change)
    return out


def replay(
    project: Project,
    lines: Iterable[bytes],
    *,
    until_ms: int | None = None,
    tables: Mapping[str, WarehouseTable] | None = None,
    counting: bool = False,
) -> ReplayResult:
    """Plays all lines and returns everything at once; see ``Replay``."""
    one = Replay(project, tables=tables, until_ms=until_ms, counting=counting)
    one.result.changes = list(one.run(lines))
    return one.result
