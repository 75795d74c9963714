"""The topics of a job: what each must be like, made where missing, checked where not.

Owns: the shapes (``wanted``), their creation and their checks, and the value ``TopicSet`` that says what the broker has.
Invariant: a topic that exists is never altered, only judged.

    events       partitions, retention as set, log append time
    memberships  compacted, keyed by profile and audience
    dead letters 30 days
    mailbox      one partition a shard, never compacted, kept until the job deletes, log append time
    control      one partition, kept for ever, log append time

Not here: whether the topics are those that the state was made from (flows.topic_positions), changes while the job runs
(flows.topic_watch).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from hashlib import blake2b
from typing import Any, Literal, TypeAlias

import msgspec
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType

from flows.kafka_errors import kafka_error, translated
from flows.stop import Stop
from opportune.errors import ConfigurationError, TransientError
from opportune.settings import DAY_MS, Settings, Topics

log = logging.getLogger(__name__)

Kind: TypeAlias = Literal["events", "memberships", "dead_letters", "mailbox", "control"]

REQUEST_S = 10.0
"""Timeout of one administrative request, seconds."""
SETTLE_MS = 15_000
"""How long a topic that was just made may take until its partitions have leaders."""
OVERHEAD_BYTES = 65_536
"""What headers, key and framing may add to the largest event."""
_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # the client's class methods have no types
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # as above
_GIVEN = frozenset({KafkaError.TOPIC_ALREADY_EXISTS})
_PASSING = frozenset({
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
})  # fmt: skip


class Topic(msgspec.Struct, frozen=True):
    """One topic as the broker has it.

    Args:
        name: its name.
        topic_id: 16 bytes, new with every topic that is made, also under an old name.
        partitions: how many.
        log_append_time: whether record times are the broker's.
        starts: first offset that the broker still has, by partition.
        ends: offset after the last record, by partition.
    """

    name: str
    topic_id: bytes
    partitions: int
    log_append_time: bool
    starts: tuple[int, ...]
    ends: tuple[int, ...]


class TopicSet(msgspec.Struct, frozen=True, kw_only=True):
    """All topics of a job. ``batch_bytes``: the largest batch that each of those written to accepts."""

    events: tuple[Topic, ...]
    memberships: Topic
    dead_letters: Topic
    mailbox: Topic
    control: Topic
    batch_bytes: int = 1_000_000

    def read(self) -> tuple[Topic, ...]:
        """The topics that shards read, and so have positions in."""
        return (*self.events, self.mailbox, self.control)


class Wanted(msgspec.Struct, frozen=True):
    """What a topic must be like: its kind, name, partitions and, where the job makes it, its configuration."""

    kind: Kind
    name: str
    partitions: int
    config: dict[str, str]


def wanted(settings: Settings) -> tuple[Wanted, ...]:
    """The topics that the settings ask for. Raises ``ConfigurationError`` where two of them share a name."""
    topics, shards = settings.topics, settings.state.shards
    room = {"max.message.bytes": str(settings.event_bytes_max + OVERHEAD_BYTES)}
    ours = {**room, "cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}
    for_ever = {**ours, "retention.ms": "-1", "retention.bytes": "-1"}
    compacted = {
        **room,
        "cleanup.policy": "compact",
        # A reader that starts anew must get from the topic's start to its end before tombstones go.
        "delete.retention.ms": str(7 * DAY_MS),
        "max.compaction.lag.ms": str(DAY_MS),
        "min.cleanable.dirty.ratio": "0.1",
        "segment.ms": str(DAY_MS),
    }
    found = (
        *(
            Wanted("events", name, topics.partitions, {**ours, "retention.ms": str(topics.retention_ms)})
            for name in topics.events
        ),
        Wanted("memberships", topics.memberships, topics.partitions, compacted),
        Wanted("dead_letters", topics.dead_letters, 1, {**room, "retention.ms": str(30 * DAY_MS)}),
        Wanted("mailbox", topics.mailbox, shards, for_ever),
        Wanted("control", topics.control, 1, for_ever),
    )
    names = [each.name for each in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not topics.events or not all(names):
        what = f"{', '.join(twice)} is named more than once" if twice else "a name is missing"
        raise ConfigurationError(f"topics in opportune.yml: {what}: give every topic a name of its own.")
    return found


def with_prefix(topics: Topics, prefix: str) -> Topics:
    """The same topics under names that begin with ``prefix``."""
    return msgspec.structs.replace(
        topics,
        events=tuple(prefix + name for name in topics.events),
        memberships=prefix + topics.memberships,
        dead_letters=prefix + topics.dead_letters,
        mailbox=prefix + topics.mailbox,
        control=prefix + topics.control,
    )


def prepare(settings: Settings, admin: AdminClient, stop: Stop, *, embedded: bool = False) -> TopicSet:
    """Makes what is missing, checks what is there.

    Args:
        settings: opportune.yml, names of topics filled in.
        admin: a client of a broker that has answered.
        stop: set it to give up waiting.
        embedded: the broker is librdkafka's mock, which can neither make nor describe topics: those that exist are taken
            as they are.

    Raises:
        ConfigurationError: a topic is missing and may not be made, or one that exists cannot serve.
        TransientError: the broker is away.
    """
    asked = wanted(settings)
    try:
        _create(settings, admin, _missing(asked, admin))
        ids = _ids(asked, admin, stop, embedded)
        configs = {} if embedded else _configs(asked, admin)
        found = {each.name: _topic(each, ids[each.name], configs.get(each.name, {}), admin, stop) for each in asked}
    except KafkaException as error:
        raise translated(error, settings.kafka, "prepare the topics") from error
    for each in asked:
        _check(each, found[each.name], configs.get(each.name, {}), settings)
    by_kind = {each.kind: found[each.name] for each in asked}
    limits = [int(c["max.message.bytes"]) for name, c in configs.items() if name not in settings.topics.events]
    return TopicSet(
        events=tuple(found[name] for name in settings.topics.events),
        memberships=by_kind["memberships"],
        dead_letters=by_kind["dead_letters"],
        mailbox=by_kind["mailbox"],
        control=by_kind["control"],
        batch_bytes=min([1_000_000, *limits]),
    )


def partition_counts(names: Sequence[str], admin: AdminClient) -> dict[str, int]:
    """Partitions by topic, of those that exist. One request. Raises ``KafkaException``."""
    known = admin.list_topics(timeout=REQUEST_S).topics
    return {name: len(known[name].partitions) for name in names if name in known and known[name].error is None}


def topic_ids(names: Sequence[str], admin: AdminClient) -> dict[str, tuple[bytes, int]]:
    """Topic id (16 bytes) and partitions by topic, of those that exist. One request. Raises ``KafkaException``."""
    found: dict[str, tuple[bytes, int]] = {}
    answers = admin.describe_topics(TopicCollection(list(names)), request_timeout=REQUEST_S)
    for name, future in answers.items():
        try:
            description = future.result()
        except KafkaException as error:
            if kafka_error(error).code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
            continue
        uuid = description.topic_id
        halves = (uuid.get_most_significant_bits(), uuid.get_least_significant_bits())
        found[name] = (
            b"".join((half & (1 << 64) - 1).to_bytes(8, "big") for half in halves),
            len(description.partitions),
        )
    return found


def _missing(asked: Sequence[Wanted], admin: AdminClient) -> list[Wanted]:
    there = partition_counts([each.name for each in asked], admin)
    return [each for each in asked if each.name not in there]


def _create(settings: Settings, admin: AdminClient, missing: Sequence[Wanted]) -> None:
    if not missing:
        return
    names = ", ".join(each.name for each in missing)
    if not settings.topics.create:
        raise ConfigurationError(
            f"missing topics: {names}. Make them (docs/operations.md has their shapes), or let the job: set topics.create "
            "to true in opportune.yml."
        )
    replication = settings.topics.replication
    new = [NewTopic(each.name, each.partitions, replication, config=each.config) for each in missing]
    for name, future in admin.create_topics(new, operation_timeout=REQUEST_S, request_timeout=REQUEST_S).items():
        try:
            future.result()
            log.info("made the topic %s", name)
        except KafkaException as error:
            found = kafka_error(error)
            if found.code() in _GIVEN:
                continue
            if found.retriable() or found.code() in _PASSING:
                raise
            raise ConfigurationError(
                f"the broker does not let us make the topic {name}: {found.str()}. See topics.create, topics.partitions "
                "and topics.replication in opportune.yml, and what the account of kafka.properties may do; or make the "
                "topic yourself."
            ) from error


def _ids(asked: Sequence[Wanted], admin: AdminClient, stop: Stop, embedded: bool) -> dict[str, tuple[bytes, int]]:
    names = [each.name for each in asked]
    waited_ms = 0
    while True:
        if embedded:
            counts = partition_counts(names, admin)
            found = {name: (blake2b(name.encode(), digest_size=16).digest(), n) for name, n in counts.items()}
        else:
            found = topic_ids(names, admin)
        lacking = [name for name in names if name not in found]
        if not lacking:
            return found
        if stop.wait(0.1) or waited_ms > SETTLE_MS:
            raise TransientError(f"the broker does not show these topics yet: {', '.join(lacking)}.")
        waited_ms += 100


def _configs(asked: Sequence[Wanted], admin: AdminClient) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, each.name) for each in asked]
    answers: dict[ConfigResource, Future[dict[str, Any]]] = admin.describe_configs(resources, request_timeout=REQUEST_S)
    return {
        resource.name: {name: entry.value for name, entry in future.result().items()}
        for resource, future in answers.items()
    }


def _topic(each: Wanted, known: tuple[bytes, int], config: dict[str, str], admin: AdminClient, stop: Stop) -> Topic:
    topic_id, partitions = known
    starts, ends = bounds(each.name, partitions, admin, stop)
    append = config.get("message.timestamp.type") == "LogAppendTime"
    return Topic(each.name, topic_id, partitions, append, starts, ends)


def bounds(name: str, partitions: int, admin: AdminClient, stop: Stop) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """By partition of a topic the first offset that the broker still has, and the one after the last record."""
    return offsets(name, partitions, _EARLIEST, admin, stop), offsets(name, partitions, _LATEST, admin, stop)


def offsets(name: str, partitions: int, spec: OffsetSpec, admin: AdminClient, stop: Stop) -> tuple[int, ...]:
    """By partition of a topic the offset that the broker tells for ``spec``; waits for leaders. Raises ``KafkaException``."""
    request = {TopicPartition(name, partition): spec for partition in range(partitions)}
    waited_ms = 0
    while True:
        try:
            answers = admin.list_offsets(request, request_timeout=REQUEST_S)
            found = {where.partition: future.result().offset for where, future in answers.items()}
            return tuple(found[partition] for partition in range(partitions))
        except KafkaException as error:
            if kafka_error(error).code() not in _PASSING or stop.wait(0.1) or waited_ms > SETTLE_MS:
                raise
            waited_ms += 100


def _check(each: Wanted, topic: Topic, config: dict[str, str], settings: Settings) -> None:
    """Refuses a topic that cannot serve; warns of one that serves badly. An empty ``config`` is not known and not judged."""
    if each.kind in ("mailbox", "control") and topic.partitions != each.partitions:
        why = "one a shard (state.shards)" if each.kind == "mailbox" else "one"
        raise ConfigurationError(
            f"the {each.kind} topic {topic.name} has {topic.partitions} partitions and must have {each.partitions}, {why}: "
            f"name another topic in topics.{each.kind} of opportune.yml, or delete this one if nothing is in it."
        )
    if not config:
        return
    policy = config["cleanup.policy"]
    if each.kind == "memberships" and "compact" not in policy:
        log.warning(
            "the memberships topic %s is not compacted (cleanup.policy=%s): who reads it from its beginning will miss "
            "members whose change has expired. Set cleanup.policy=compact.", topic.name, policy,
        )  # fmt: skip
    if each.kind in ("mailbox", "control"):
        kept = policy == "delete" and config["retention.ms"] == "-1" and config["retention.bytes"] == "-1"
        if not kept:
            raise ConfigurationError(
                f"the {each.kind} topic {topic.name} may lose records (cleanup.policy={policy}, "
                f"retention.ms={config['retention.ms']}, retention.bytes={config['retention.bytes']}): set "
                "cleanup.policy=delete, retention.ms=-1 and retention.bytes=-1 on it."
            )
    room, needed = int(config["max.message.bytes"]), int(each.config["max.message.bytes"])
    if room < needed and each.kind == "mailbox":
        raise ConfigurationError(
            f"the mailbox topic {topic.name} takes messages of {room} bytes and must take {needed} (event_bytes_max of "
            f"opportune.yml and {OVERHEAD_BYTES}): set max.message.bytes={needed} on it."
        )
    if room < settings.event_bytes_max and each.kind == "dead_letters":
        log.warning(
            "the dead letters topic %s takes messages of %d bytes; larger ones will be cut. Set max.message.bytes=%d.",
            topic.name, room, needed,
        )  # fmt: skip
    if each.kind == "events" and not topic.log_append_time:
        log.info("the topic %s has record times of its producers; they count only up to the clock", topic.name)
