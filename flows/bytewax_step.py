"""The two places where Bytewax meets the job: where batches come from, and the step that is a shard.

Owns: the translation of Bytewax's contract (epochs, snapshots, notifications) to the actor's. What Bytewax keeps is a
hint: where reading goes on is in the shards' state (flows.worker), which is checked against the fence that Bytewax kept.
Invariant: the first batch after a snapshot proves that its epoch is committed and delivered, since sources wait for
that; so only then is the outbox trimmed.
Not here: the graph (flows.dataflow), the work (flows.actor).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic

from flows.batch import Batch
from flows.job import Job
from opportune.errors import StateError
from state.outbox import OutboxMessage

BREATH = timedelta(milliseconds=2)
"""So long the inputs have between two goes of a shard that has more to do than fits into one."""
Item = tuple[str, tuple[int, Batch]]


class _Part(StatefulSourcePartition[Item, dict[str, int]]):
    def __init__(self, job: Job) -> None:
        self._job = job

    def next_batch(self) -> list[Item]:
        job = self._job
        if job.stopping or job.restart is not None:
            raise StopIteration
        try:
            return job.next_batches()
        except BaseException as error:
            job.failed(error)
            raise

    def snapshot(self) -> dict[str, int]:
        return self._job.epoch_ended()


class Inbox(FixedPartitionedSource[Item, dict[str, int]]):
    """All inputs of the process as one part: one consumer reads all partitions.

    Args:
        job: the job.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def list_parts(self) -> list[str]:
        """One part, for ever of one name."""
        return ["inbox"]

    def build_part(self, step_id: str, for_part: str, resume_state: dict[str, int] | None) -> _Part:  # noqa: ARG002 - where reading goes on is not Bytewax's to say
        """The part."""
        return _Part(self._job)


class ShardStep(StatefulBatchLogic[tuple[int, Batch], list[OutboxMessage], dict[str, Any]]):
    """A shard as Bytewax sees it.

    Args:
        job: the job.
        fence: what the last committed epoch's snapshot said, where there was one.
    """

    def __init__(self, job: Job, fence: dict[str, Any] | None) -> None:
        self._job = job
        self._shard: int | None = None
        self._snapped = False
        if fence is not None:
            self._shard = fence["shard"]
            self._check(fence)

    def _check(self, fence: dict[str, Any]) -> None:
        """State that is behind a committed epoch is an old copy, or lost writes."""
        actor = self._job.actors[fence["shard"]]
        positions = {f"{topic.hex()}/{part}": offset for (topic, part), (offset, _) in actor.positions}
        behind = [name for name, offset in fence["applied"].items() if positions.get(name, -1) < offset]
        if behind or actor.outbox.last < fence["outbox"]:
            error = StateError(
                f"shard {actor.shard} is behind what was committed ({len(behind)} inputs): its directory is an old copy, or "
                "its disk lost writes. Restore the newest checkpoint set, or move the state directory away; then the "
                "topics are read again from the beginning."
            )
            self._job.failed(error)
            raise error
        actor.outbox.acknowledge(fence["outbox"])
        actor.hand_over.sent = max(actor.hand_over.sent, fence["outbox"])

    def on_batch(self, values: list[tuple[int, Batch]]) -> tuple[list[list[OutboxMessage]], bool]:
        """Applies batches."""
        self._shard = values[0][0]
        actor = self._job.actors[self._shard]
        out: list[list[OutboxMessage]] = []
        try:
            if self._snapped:
                actor.committed()
                self._snapped = False
            for _, batch in values:
                messages = actor.apply(batch)
                if messages:
                    out.append(messages)
                self._job.applied()
        except BaseException as error:
            self._job.failed(error)
            raise
        return out, False

    def on_notify(self) -> tuple[list[list[OutboxMessage]], bool]:
        """Goes on with what does not fit into one go: the outbox of before the start, and timers that are due."""
        assert self._shard is not None
        actor = self._job.actors[self._shard]
        try:
            messages = actor.hand_over.resend() if actor.hand_over.resending else actor.sweep()
        except BaseException as error:
            self._job.failed(error)
            raise
        return ([messages] if messages else []), False

    def on_eof(self) -> tuple[list[list[OutboxMessage]], bool]:
        """The process stops as asked: mail waits for no more, so that nothing is sent again by the next start."""
        if self._shard is None:
            return [], False
        try:
            messages = self._job.actors[self._shard].hand_over.release()
        except BaseException as error:
            self._job.failed(error)
            raise
        return ([messages] if messages else []), False

    def notify_at(self) -> datetime | None:
        """Soon, while there is more to do; not at once, for the engine would come back before it reads what has arrived."""
        if self._shard is None:
            return None
        actor = self._job.actors[self._shard]
        return datetime.now(UTC) + BREATH if actor.hand_over.resending or actor.overdue else None

    def snapshot(self) -> dict[str, Any]:
        """Makes the shard durable; returns its fence."""
        assert self._shard is not None
        try:
            actor = self._job.actors[self._shard]
            fence = actor.snapshot()
            actor.on_point("before_commit")
        except BaseException as error:
            self._job.failed(error)
            raise
        self._snapped = True
        return fence


def step(job: Job) -> Callable[[dict[str, Any] | None], ShardStep]:
    """What makes the step of each key."""
    return lambda fence: ShardStep(job, fence)
