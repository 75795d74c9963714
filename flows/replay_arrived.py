"""Replay of records that say when they arrived: those of topics.

Owns: that each event counts at its arrival, as in the job, and that time is the arrivals' and not the events'.
Invariant: repeats, late events and those that no condition reads move time as well: the job has read them too.
Not here: reading topics (flows.replay_topics), all else of a replay (flows.replay).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from flows.batch import Record
from flows.control import Decided
from flows.dead_letters import DeadLetters
from flows.replay import WATERMARK_FIRST_MS, Replay
from flows.replay_changes import Emitted
from opportune.decode import Event
from opportune.errors import RejectedEvent
from opportune.event import effective_ms
from opportune.project import Project
from state.outbox import OutboxMessage


class _Forgotten(DeadLetters):
    """Which records were refused since their person was forgotten: one may be looked at several times, and counts once."""

    def __init__(self, topic: str, bytes_max: int) -> None:
        super().__init__(topic, bytes_max)
        self.places: set[tuple[str | None, int | None, int | None]] = set()

    def messages(self, refused: Iterable[tuple[Record, RejectedEvent]]) -> list[OutboxMessage]:
        """Nobody reads dead letters of a replay."""
        self.places.update(
            (record.topic(), record.partition(), record.offset())
            for record, refusal in refused
            if refusal.reason == "forgotten"
        )
        return []


class ArrivedReplay(Replay):
    """A replay of records with arrivals; ``until_ms`` is to be given: what happens by time alone ends there."""

    def __init__(self, project: Project, **options: Any) -> None:
        super().__init__(project, **options)
        self.forgotten = _Forgotten("dead-letters", self.settings.event_bytes_max)

    def run_arrived(self, blocks: Iterable[tuple[Sequence[Any], Sequence[int]]]) -> Iterator[list[Emitted]]:
        """Plays records that come some thousands at a time, with their arrivals; see ``Replay.run_blocks``."""
        for records, arrivals in blocks:
            self.feed_arrived(records, arrivals)
            yield self.final()
        last = self.end()
        if self.forgotten.places:
            self.intake.refused["forgotten"] = len(self.forgotten.places)
        yield last

    def forget(self, decided: Sequence[Decided]) -> None:
        """Before anything is fed: refuses events of people who were forgotten, as a state made anew from the topics does.

        Args:
            decided: what the control topic tells of them, in order.
        """
        if decided:
            self.actor.dead_letters = self.forgotten
            self.actor.graph.forgetting.recall(decided)

    def feed_arrived(self, records: Sequence[Any], arrivals: Sequence[int]) -> None:
        """Takes records of topics, in order of arrival; each event counts at its arrival, as in the job.

        Args:
            records: those of a broker.
            arrivals: milliseconds; they do not go back, over all calls.
        """
        self.result.events += len(records)
        for event, hashed in self.intake.take([record.value() for record in records], records, arrivals):
            try:
                self._take_arrived(event, hashed)
            except RejectedEvent as refusal:
                self.intake.refuse(refusal)

    def _take_arrived(self, event: Event, hashed: int) -> None:
        """As ``_take``, at a given time."""
        now = max(event.arrival, self.watermark or WATERMARK_FIRST_MS)
        self._rise(now)
        at, clamped = effective_ms(
            self.instants, event.timestamp, event.originalTimestamp, event.sentAt, event.receivedAt, now
        )
        assert at is not None, "it is the arrival where nothing else says"
        if at < now - self.settings.clock.lateness_ms:
            raise RejectedEvent("too_late", f"{now - at} ms behind")
        self.result.clamped += clamped or at > now
        event.at, event.arrival = min(at, now), now
        if event.also and not self.layers.is_known(event.person, event.also):
            if hashed and event.handler is not None and self._is_duplicate(hashed, now):
                self.result.duplicates += 1
                return
            self._introduce(event, now)
        self._leave(event, hashed)
