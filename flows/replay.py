"""Replay of a file of events through the same actor, over a memory store.

Owns: the watermark: the greatest effective time seen so far over the whole input; refused and dropped events do not move
it. Each event arrives at the watermark, so what is due before it is fired first.
Invariant: the result depends neither on how lines are grouped nor on the order of events of one instant of different
people: a group ends where the watermark rises.
Not here: reading files and printing (opportune.cli.replay).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter

import numpy as np

from flows.batch import Batch, LocalRecord, Mail
from flows.dead_letters import DeadLetters
from flows.mail import LOCAL_TOPICS
from flows.refresh import put_in_force
from flows.replay_actor import ReplayActor
from flows.replay_changes import ORDER, Emitted, Teller, decode_emitted, without_flaps
from flows.replay_intake import Intake
from flows.replay_layers import Layers
from flows.replay_result import Refresh, ReplayResult
from opportune.clock import Clock, wall_clock_ms
from opportune.compiled import Compiled
from opportune.decode import Event
from opportune.errors import RejectedEvent
from opportune.event import Instants, effective_ms, iso_text
from opportune.membership import MembershipChange
from opportune.profile import NEVER
from opportune.project import Project
from state.memory import MemoryStore
from state.outbox import OutboxMessage
from state.warehouse import WarehouseTable

CHUNK = 20_000
PART_MAX = 100_000
"""An instant of more events than this is applied in parts, so that memory does not follow it."""
WATERMARK_FIRST_MS = 1
"""Log time does not begin before 1970: due instants are stored without a sign."""


class Replay:
    """One replay.

    Args:
        project: a valid project.
        tables: the warehouse tables, by name; in force from before the first event.
        refreshes: tables that come into force later, in order of instant.
        until_ms: events later than this are ignored; None: to the last event.
        counting: whether evaluations are counted.
        clock: for ``emitted_at``, and for the instant of rows where there are no events.
    """

    def __init__(
        self,
        project: Project,
        *,
        tables: Mapping[str, WarehouseTable] | None = None,
        refreshes: Sequence[Refresh] = (),
        until_ms: int | None = None,
        counting: bool = False,
        clock: Clock = wall_clock_ms,
    ) -> None:
        self.compiled = Compiled(project, counting=counting)
        self.tables = dict(tables or {})
        self.refreshes = list(refreshes)
        self.until_ms = until_ms
        self.clock = clock
        self.settings = project.settings
        self.intake = Intake(self.compiled)
        self.actor = ReplayActor(
            0,
            self.compiled,
            MemoryStore(),
            tables=self.tables,
            changes=Teller(self.compiled, "memberships", 1, clock),
            dead_letters=DeadLetters("dead-letters", self.settings.event_bytes_max),
            on_lost=self.intake.people.disown,
        )
        self.instants = Instants()
        self.watermark: int | None = None
        self.layers = Layers([namespace.limit for namespace in project.identity.namespaces])
        self.ready: list[Emitted] = []
        self.waiting: set[int] = set()
        self.mail: list[Mail] = []
        self.mailed = 0
        self.final_ms = 0
        self.split: set[str] = set()
        self.result = ReplayResult([], refused=self.intake.refused)

    def run(self, lines: Iterable[bytes]) -> Iterator[MembershipChange]:
        """Plays lines of JSON.

        Args:
            lines: one message each, in order of arrival.

        Yields:
            The membership changes, in order of instant, profile and audience.
        """
        rest = iter(lines)
        for told in self.run_blocks(iter(lambda: list(islice(rest, CHUNK)), [])):
            yield from map(decode_emitted, told)

    def run_blocks(self, blocks: Iterable[list[bytes]]) -> Iterator[list[Emitted]]:
        """As ``run``, over lines that come some thousands at a time; the changes come as they would be on the topic."""
        for block in blocks:
            self.feed(block)
            yield self.final()
        yield self.end()

    def feed(self, values: list[bytes]) -> None:
        """Takes messages in order of arrival; ``final`` hands out what came of them."""
        self._chunk(values, self.result.events)

    def pass_to(self, time_ms: int) -> None:
        """Time goes on without events: the watermark rises to an instant, and what is due before it is fired."""
        now = max(time_ms, self.watermark or WATERMARK_FIRST_MS)
        if self.watermark is None:
            self._enforce(now)
        self.watermark = now
        self._flush(now)

    def refresh_at(self, time_ms: int, tables: Mapping[str, WarehouseTable]) -> None:
        """Tables come into force at an instant; those that are not named stay as they are.

        Where an event has the same instant, what the tables alone cause is done first.
        """
        self.pass_to(time_ms)
        self.tables = {**self.tables, **tables}
        self.actor.refresh.use(self.tables)
        self._enforce(self.watermark or time_ms)

    def end(self) -> list[Emitted]:
        """Ends at ``until``, else after the last event; fires what is due. Returns the changes not handed out yet."""
        end = self.until_ms
        if self.watermark is None and end is None:
            self._come_into_force(self.clock())
        elif end is not None:
            self._come_into_force(end)
        if self.watermark is None:
            self._enforce(self.clock() if end is None else end)
        elif end is None:
            end = self.watermark
        if end is not None:
            self._flush(end + 1)
        self._finish(end)
        return self.final(ended=True)

    def _chunk(self, values: list[bytes], start: int) -> None:
        """Takes a chunk; which message ids may be repeats is asked once for all."""
        self.result.events += len(values)
        records = [LocalRecord("events", 0, number, value) for number, value in enumerate(values, start)]
        taken = self.intake.take(values, records, [None] * len(values))
        suspects = self._suspects([hashed for _, hashed in taken])
        self._take_all(taken, suspects)

    def _rise(self, now: int) -> None:
        """The watermark rises, or stays; what waits is applied where it is much, and tables whose instant has come are used."""
        self._come_into_force(now)
        if self.watermark is None:
            self._enforce(now)
        elif len(self.layers) >= CHUNK:
            if now > self.watermark:
                self._flush(now)
            elif len(self.layers) >= PART_MAX:
                self._apply_part(self.watermark)
        self.watermark = now

    def _leave(self, event: Event, hashed: int) -> None:
        """Leaves an event for the actor, unless it brings nothing."""
        if event.handler is not None or not event.person.known:
            self.layers.put(event)
            self.waiting.add(hashed)

    def _take_all(self, resolved: list[tuple[Event, int]], suspects: set[int]) -> None:
        """Takes events one by one: the usual one, of the present or a later instant, here; all others by ``_take``."""
        seconds, suffixes = self.instants.seconds, self.instants.suffixes
        layers = self.layers
        lateness_ms, until_ms = self.settings.clock.lateness_ms, NEVER if self.until_ms is None else self.until_ms
        for event, hashed in resolved:
            watermark, stamp = self.watermark, event.timestamp
            if (
                stamp is not None
                and watermark is not None
                and event.receivedAt is None
                and event.originalTimestamp is None
                and event.sentAt is None
                and hashed not in suspects
                and not self.refreshes
                and len(layers) < CHUNK
                and (not event.also or layers.is_known(event.person, event.also))
            ):
                try:
                    at = seconds[stamp[:19]] + suffixes[stamp[19:]]
                except KeyError:
                    at = NEVER
                if watermark - lateness_ms <= at <= until_ms and at != NEVER:
                    event.at = at
                    if at > watermark:
                        watermark = self.watermark = at
                    event.arrival = watermark
                    if event.handler is not None or not event.person.known:
                        layers.put(event)
                        self.waiting.add(hashed)
                    continue
            try:
                self._take(event, hashed, hashed in suspects)
            except RejectedEvent as refusal:
                self.intake.refuse(refusal)

    def _suspects(self, hashes: list[int]) -> set[int]:
        """Hashes that occur twice in a chunk, wait to be applied, or were used before."""
        twice = (
            {hashed for hashed, times in Counter(hashes).items() if times > 1}
            if len(set(hashes)) < len(hashes)
            else set()
        )
        recalled = self.actor.seen.recall(np.array(hashes, np.uint64))
        used = {hashes[place] for place in np.flatnonzero(recalled >= 0).tolist()}
        return (twice | used | self.waiting.intersection(hashes)) - {0}

    def _take(self, event: Event, hashed: int, suspect: bool) -> None:
        """Gives an event its time, raises the watermark, and leaves it for the actor.

        The actor finds duplicates too; those that must not move the watermark, or be counted as clamped, are found here.
        """
        watermark = self.watermark
        at, clamped = self._time(event)
        if at is None:
            raise RejectedEvent("bad_time", "there is no time in it, and none before it")
        if self.until_ms is not None and at > self.until_ms:
            self.result.after_until += 1
            return
        now = max(at, WATERMARK_FIRST_MS if watermark is None else watermark)
        if at < now - self.settings.clock.lateness_ms:
            raise RejectedEvent("too_late", f"{now - at} ms behind")
        moves = watermark is None or now > watermark or clamped or event.handler is None
        if suspect and moves and self._is_duplicate(hashed, now):
            self.result.duplicates += 1
            return
        self._rise(now)
        self.result.clamped += clamped
        event.at, event.arrival = at, now
        if event.also and not self.layers.is_known(event.person, event.also):
            self._introduce(event, now)
        self._leave(event, hashed)

    def _introduce(self, event: Event, now: int) -> None:
        """Lets the identifiers of an event find their profile, before the event itself counts there."""
        alone = self.layers.is_alone(event)
        if alone:
            self._apply_part(now)
        self.layers.introduce(event, now)
        self.split.add(iso_text(now))
        if alone:
            self._apply_part(now)

    def _time(self, event: Event) -> tuple[int | None, bool]:
        """As ``effective_ms``."""
        return effective_ms(
            self.instants,
            event.timestamp,
            event.originalTimestamp,
            event.sentAt,
            event.receivedAt,
            self.watermark,
        )

    def _is_duplicate(self, hashed: int, now: int) -> bool:
        """Whether an id was used within the period; what waits is applied first, in the middle of its instant."""
        if self.watermark is None:
            return False
        self._apply_part(self.watermark)
        used = int(self.actor.seen.recall(np.array([hashed], np.uint64))[0])
        return used >= 0 and now - used < self.settings.dedupe.period_ms

    def _come_into_force(self, now: int) -> None:
        """Puts the tables in force whose instant has come."""
        while self.refreshes and self.refreshes[0].at_ms <= now:
            refresh = self.refreshes.pop(0)
            self.refresh_at(refresh.at_ms, refresh.tables)

    def _enforce(self, at_ms: int) -> None:
        if self.tables:
            self.split.add(iso_text(at_ms))
        if self.result.start_ms is None:
            self.result.start_ms = at_ms
        for messages in put_in_force(self.actor, self.tables, 1, at_ms):
            self._collect(messages)

    def _apply(self, time_ms: int) -> None:
        """Applies what waits, and fires what is due before an instant."""
        self.waiting.clear()
        for layer in self.layers.take():
            # Time goes on behind the last event: it would fire what waits for those of later layers.
            still_ms = self.actor.time_ms
            if layer.introductions:
                self._collect(self.actor.bring(layer.concerned))
                self._send(Batch(still_ms, [], layer.introductions))
            self._send(Batch(still_ms, [], layer.events))
        self._send(Batch(time_ms, [], []))

    def _send(self, batch: Batch) -> None:
        """Applies a batch, and what mail comes of it."""
        self._collect(self.actor.apply(batch))
        while self.mail:
            mail, self.mail = self.mail, []
            self._collect(self.actor.apply(Batch(batch.time_ms, [], [], mail=mail)))

    def _apply_part(self, instant_ms: int) -> None:
        """Applies what waits in the middle of its instant; ``final`` makes the net of it."""
        self._apply(instant_ms)
        self.split.add(iso_text(instant_ms))

    def _flush(self, time_ms: int) -> None:
        """Everything before an instant is done with."""
        self._apply(time_ms)
        while self.actor.overdue:
            self._collect(self.actor.sweep())
        self.final_ms = time_ms

    def _collect(self, messages: list[OutboxMessage]) -> None:
        for message in messages:
            self.mail.append(Mail(LOCAL_TOPICS.mailbox_id, 0, self.mailed, message.value or b""))
            self.mailed += 1
        if self.actor.told:
            self.ready += self.actor.told
            self.actor.told = []

    def final(self, *, ended: bool = False) -> list[Emitted]:
        """Hands out, in order, the changes of instants that have passed; in the end all of them."""
        ready = self.ready
        ready.sort(key=ORDER)
        cut = len(ready) if ended else bisect_left(ready, iso_text(self.final_ms), key=itemgetter(0))
        done, self.ready = ready[:cut], ready[cut:]
        if self.split and done:
            done = without_flaps(done, self.split)
            self.split = {at for at in self.split if not ended and at >= iso_text(self.final_ms)}
        return done

    def _finish(self, end_ms: int | None) -> None:
        result, actor = self.result, self.actor
        result.applied = actor.counts["applied"]
        result.duplicates += actor.counts["duplicates"]
        result.profiles = actor.counts["profiles"]
        result.unread_pages = self.intake.unread_pages
        for reason, count in actor.refused.items():
            result.refused[reason] = result.refused.get(reason, 0) + count
        result.evaluated = dict(zip(self.compiled.names, self.compiled.program.evaluated, strict=True))
        result.end_ms = end_ms


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
