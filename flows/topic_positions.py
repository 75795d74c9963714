"""Whether the topics are still those that the state was made from, and still have what it has not read.

Owns: the comparison of positions with topics (DESIGN: topic ids are kept), and of the memberships topic with the one of before.
Invariant: a gap is never passed in silence: it is refused, or, where loss was accepted, returned as a ``Loss`` for the record.
Not here: where positions are kept (state.positions), what topics are there (flows.topics).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from flows.inputs import Input
from flows.topics import Topic, TopicSet
from opportune.errors import StateError

What: TypeAlias = Literal["recreated", "expired", "truncated", "partition gone"]


class Loss(msgspec.Struct, frozen=True):
    """Records that can no longer be read, or a position that no longer means anything.

    Args:
        what: ``recreated`` (the id is another), ``expired`` (the start is beyond the position), ``truncated`` (the end is
            before it), ``partition gone``.
        topic: name of the topic, as far as it is known.
        topic_id: the id under which the position was kept.
        partition: the partition.
        position: the offset of the next record that was to be applied; of the shard that this is about.
        resume: the start or end that was passed; None where there is nothing to go on from.
    """

    what: What
    topic: str
    topic_id: bytes
    partition: int
    position: int
    resume: int | None

    def moved(self, position: int) -> int:
        """Where a shard's position in this partition goes when the loss is accepted; others keep what they have read."""
        if self.resume is None:
            return position
        return max(position, self.resume) if self.what == "expired" else min(position, self.resume)

    def told(self) -> str:
        """One sentence: what happened to which partition."""
        where = f"{self.topic}[{self.partition}]"
        if self.what == "recreated":
            return (
                f"{where}: the topic is gone, or was deleted and made anew; {self.position} records of it were applied"
            )
        if self.what == "expired":
            missing = (self.resume or 0) - self.position
            return f"{where}: {missing} records that were not applied yet are gone: it starts at {self.resume}, {self.position} was next"
        if self.what == "truncated":
            return (
                f"{where}: it ends at {self.resume}, and everything before {self.position} was applied: it lost records"
            )
        return f"{where}: the topic has fewer partitions than before"


def check_positions(
    applied: Mapping[tuple[bytes, int], int],
    topics: TopicSet,
    *,
    accept_loss: bool = False,
    names: Mapping[bytes, str] | None = None,
    highest: Mapping[tuple[bytes, int], int] | None = None,
) -> list[Loss]:
    """Compares what was applied with what the broker has.

    Args:
        applied: by topic id and partition, the offset of the next record to apply (the last applied and one); the lowest
            over the shards.
        topics: what the broker has.
        accept_loss: goes on; the caller records the losses and moves its positions (``Loss.moved``).
        names: topic names by the ids under which positions are kept, for the messages. A topic of ``names`` that the
            settings no longer name was taken out on purpose: its positions are not judged.
        highest: like ``applied``, the highest over the shards: an end that goes back may lie between them.

    Returns:
        The losses; empty unless ``accept_loss``.

    Raises:
        StateError: there is a loss, and it was not accepted.
    """
    known = {topic.topic_id: topic for topic in topics.read()}
    current = {topic.name for topic in topics.read()}
    losses: list[Loss] = []
    for (topic_id, partition), position in sorted(applied.items()):
        name = (names or {}).get(topic_id)
        topic = known.get(topic_id)
        if topic is None and name is not None and name not in current:
            continue
        most = (highest or {}).get((topic_id, partition), position)
        loss = _loss(topic_id, partition, position, most, topic, name or topic_id.hex())
        if loss is not None:
            losses.append(loss)
    if losses and not accept_loss:
        told = "\n  ".join(loss.told() for loss in losses[:20])
        more = f"\n  and {len(losses) - 20} more" if len(losses) > 20 else ""
        raise StateError(
            f"the topics do not fit the state:\n  {told}{more}\n"
            "Restore the topics, or a checkpoint that fits them; or rebuild: move the state directory away and start at the "
            "beginning of the topics. To go on without what is missing, start once with --accept-loss; the log tells what was lost."
        )
    return losses


def check_memberships(topic: Topic, names: Mapping[bytes, str], *, accept_loss: bool = False) -> list[bytes]:
    """Whether the memberships topic is still the one that changes were told to.

    Args:
        topic: as the broker has it.
        names: topic names by the ids under which they are kept.
        accept_loss: goes on; the caller records it.

    Returns:
        The ids of topics of that name which are gone; empty unless ``accept_loss``.

    Raises:
        StateError: it was made anew, and that was not accepted.
    """
    former = [topic_id for topic_id, name in names.items() if name == topic.name and topic_id != topic.topic_id]
    if former and not accept_loss:
        raise StateError(
            f"the memberships topic {topic.name} was deleted and made anew: it lacks what was told before, and whoever reads it "
            "from its beginning would miss people who are in. To tell everything again, move the state directory away and "
            "start: the topics are read from their beginning. To go on with what is new, start once with --accept-loss."
        )
    return former


def _loss(topic_id: bytes, partition: int, position: int, most: int, topic: Topic | None, name: str) -> Loss | None:
    if topic is None:
        return Loss("recreated", name, topic_id, partition, position, None)
    if partition >= topic.partitions:
        return Loss("partition gone", topic.name, topic_id, partition, position, None)
    if topic.starts[partition] > position:
        return Loss("expired", topic.name, topic_id, partition, position, topic.starts[partition])
    if topic.ends[partition] < most:
        return Loss("truncated", topic.name, topic_id, partition, most, topic.ends[partition])
    return None


def end_of(topics: TopicSet, one: Input) -> int:
    """Where the broker said that an input ends."""
    return next(topic.ends[one.partition] for topic in topics.read() if topic.name == one.topic)
