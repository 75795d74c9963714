"""The streaming job of one process, without the engine that drives it.

Owns: the actors, the hub, and what goes between them and the outside: stop, watchdog, counters, the first error.
Not here: putting it together (flows.worker), the dataflow (flows.dataflow).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

from flows.actor import Actor
from flows.batch import Batch
from flows.careful import CarefulConsumer
from flows.control import Erased, SnapshotDecision, control_message
from flows.delivery import Delivery
from flows.drained import Drained, under_way
from flows.erasures import Erasures
from flows.hub import Hub
from flows.metrics import Metrics
from flows.refresher import TableRefreshes
from flows.shard_keys import shard_key
from flows.topic_watch import TopicWatch
from flows.watchdog import Watchdog
from opportune.clock import monotonic_ms, wall_clock_ms
from opportune.event import iso_text
from opportune.features import limits
from opportune.profile import NEVER

EPOCH_EVENTS_MAX = 2_000_000
"""So many records are read in one epoch at most: what is under way between two commits is bounded."""
IDENTITY_WORDS = ("attached", "merged", "refused", "conflict", "lost", "forwarded")
COLLECT_MS = 60_000
"""So long after the last time garbage is collected when there is nothing else to do."""
COLLECT_BUSY_MS = 600_000
"""And so long after it in any case."""
ERASURES_MS = 50
"""So often it is asked which requests of erasure are complete, while there are any."""


class Job:
    """What the dataflow runs.

    Args:
        actors: by shard.
        hub: the inputs.
        metrics: counters.
        watchdog: fed at every poll.
        watch: looks for changes of the topics; None where they cannot change.
        careful: where records are applied one at a time.

    Attributes:
        stopping: whether a stop was asked for; the next poll ends the flow.
        restart: why the job should be started again at once, if it should.
        error: the first error that was raised in the flow; the engine wraps what it passes on.
        end: ends the process at the first error, before the engine makes a panic of it.
        refreshes: finds newer warehouse snapshots; None where there are no tables.
        control: the name of the control topic, where they are announced.
    """

    def __init__(
        self,
        actors: Sequence[Actor],
        hub: Hub,
        metrics: Metrics,
        watchdog: Watchdog,
        watch: TopicWatch | None = None,
        careful: CarefulConsumer | None = None,
    ) -> None:
        self.actors = actors
        self.hub = hub
        self.metrics = metrics
        self.watchdog = watchdog
        self.watch = watch
        self.careful = careful
        self.keys = [shard_key(actor.shard) for actor in actors]
        self.stopping = False
        self.restart: str | None = None
        self.error: BaseException | None = None
        self.delivery: Delivery | None = None
        self.refreshes: TableRefreshes | None = None
        self.control = ""
        self.end: Callable[[BaseException], None] | None = None
        self.erasures = Erasures(actors)
        decisions = [one for one in hub.mail if one.topic != hub.mailbox]
        self.drained = Drained(actors, hub.events, hub.log_time.marks.fresh_end, decisions)
        self.asked_ms = 0
        self.under_way = 0
        self.epoch_start = 0
        self.collected_ms = monotonic_ms()

    def next_batches(self) -> list[tuple[str, tuple[int, Batch]]]:
        """Batches for shards, with their stream keys."""
        self.watchdog.feed()
        if self.watch is not None and self.restart is None:
            self.restart = self.watch.added()
        self._announce()
        if self.under_way or self.hub.records - self.epoch_start >= EPOCH_EVENTS_MAX:
            return []
        batches = self.hub.gather()
        if not batches:
            if self.careful is not None and not self.hub.spans:
                # It handed out notices only; no shard will say that it has applied them.
                self.careful.applied()
            self._collect(COLLECT_MS)
            return []
        self._collect(COLLECT_BUSY_MS)
        if self.careful is not None:
            self.under_way = len(batches)
        return [(self.keys[shard], (shard, batch)) for shard, batch in batches]

    def _announce(self) -> None:
        """Decides that newer snapshots come into force, and that requests of erasure are complete."""
        if self.erasures.open and self.delivery is not None and monotonic_ms() - self.asked_ms >= ERASURES_MS:
            self.asked_ms = monotonic_ms()
            for request in self.erasures.complete():
                done = Erased(
                    generation=self.actors[0].mailbox.generation, request=request, at=iso_text(wall_clock_ms())
                )
                self.delivery.produce([control_message(self.control, done)])
        found = self.refreshes.announcements() if self.refreshes is not None else {}
        if found and self.delivery is not None:
            generation = self.actors[0].mailbox.generation
            decision = SnapshotDecision(generation=generation, tables=found, at=iso_text(wall_clock_ms()))
            self.delivery.produce([control_message(self.control, decision)])

    def applied(self) -> None:
        """A shard has applied its batch."""
        if self.careful is not None:
            self.under_way -= 1
            if not self.under_way:
                self.careful.applied()

    def epoch_ended(self) -> dict[str, int]:
        """An epoch ends: what was read, for the engine's recovery store, which is only a hint."""
        self.metrics.epoch += 1
        self.epoch_start = self.hub.records
        return {f"{one.topic}/{one.partition}": one.handed for one in self.hub.inputs.values()}

    def _collect(self, after_ms: int) -> None:
        """Python's garbage collector is off, since it would look at every batch's objects; it runs when it is quiet, or late."""
        if monotonic_ms() - self.collected_ms > after_ms:
            gc.collect()
            self.collected_ms = monotonic_ms()

    def count(self) -> Metrics:
        """The counters as they stand, for the status file."""
        metrics, actors, hub = self.metrics, self.actors, self.hub
        names = actors[0].compiled.names
        metrics.events = hub.records
        metrics.used = sum(actor.counts["applied"] for actor in actors)
        metrics.repeats = sum(actor.counts["duplicates"] + actor.counts["replayed"] for actor in actors)
        metrics.changes = sum(actor.counts["changes"] for actor in actors)
        metrics.profiles = sum(actor.counts["profiles"] for actor in actors)
        metrics.timers = sum(actor.counts["fired"] for actor in actors)
        metrics.identities = {word: sum(actor.counts.get(word, 0) for actor in actors) for word in IDENTITY_WORDS}
        if self.delivery is not None:
            metrics.produced = self.delivery.produced
            metrics.refused_by_broker = self.delivery.refused_by_broker
            metrics.dropped = self.delivery.dropped
        metrics.entries_dropped, metrics.entries_coarsened = limits.dropped[0], limits.coarsened[0]
        metrics.left_out = hub.log_time.left_out
        metrics.shard_ms = {actor.shard: actor.settled_ms for actor in actors}
        metrics.entered = dict(
            zip(names, (sum(actor.entered[n] for actor in actors) for n in range(len(names))), strict=True)
        )
        metrics.exited = dict(
            zip(names, (sum(actor.exited[n] for actor in actors) for n in range(len(names))), strict=True)
        )
        rejected: dict[str, int] = {}
        for actor in actors:
            for reason, count in list(actor.refused.items()):
                rejected[reason] = rejected.get(reason, 0) + count
        metrics.rejected = rejected
        applied: dict[str, int] = {}
        lag: dict[str, int] = {}
        for index, one in enumerate(hub.events):
            name = f"{one.topic}/{one.partition}"
            places = [actor.positions.get(one.topic_id, one.partition) for actor in actors]
            applied[name] = min((place[0] for place in places if place is not None), default=0)
            end = hub.log_time.marks.end(index)
            lag[name] = max(0, end - one.handed) if end is not None else 0
        metrics.applied, metrics.lag = applied, lag
        return metrics

    def definitions(self) -> dict[str, Any]:
        """How many shards still bring people to changed definitions, and the audiences that wait, each until when."""
        lineage = self.actors[0].succession.lineage
        time_ms = min(actor.settled_ms for actor in self.actors)
        waiting = {} if lineage is None else lineage.present.waiting
        return {
            "renewing": sum(actor.succession.busy for actor in self.actors),
            "warming": {
                name: iso_text(until_ms) if until_ms < NEVER else None
                for name, until_ms in waiting.items()
                if until_ms >= time_ms
            },
        }

    def failed(self, error: BaseException) -> None:
        """Keeps the first error, and ends the process where the worker has said how."""
        if self.error is None:
            self.error = error
            if self.end is not None:
                self.end(error)


def snapshot_of(job: Job, now_ms: int) -> dict[str, Any]:
    """The status file's content."""
    status = job.count().snapshot(now_ms)
    status["mail_under_way"] = under_way(job.actors)
    status["mail_left_out"] = job.hub.mail_time.left_out
    status["drained"] = job.drained.look()
    status["erasures"] = {
        "open": job.erasures.open,
        "erased": sum(actor.counts.get("erased", 0) for actor in job.actors),
        "mail_swallowed": sum(actor.counts.get("swallowed", 0) for actor in job.actors),
    }
    if job.refreshes is not None:
        status["warehouse"] = job.refreshes.status()
    status["definitions"] = job.definitions()
    return status
