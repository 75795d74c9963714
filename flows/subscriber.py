"""A subscriber of the memberships topic: who is in which audience, now and from now on.

Keeps the contract of docs/memberships.md, which says how to use it and what to replace in a copy:

    per profile, drop what is not above the last version seen

While it loads (from the topic's beginning to the ends that it had), it compares by key, profile and audience: a compacted
topic keeps the newest record of each key and not their order among each other. It keeps no identifier's value, so there is
nothing to erase when a person is forgotten (``cause: deleted``) but the memberships, which exit.
Invariant: ``members`` is what the topic says up to ``positions``. Not here: printing (opportune.cli.subscribe).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from flows.kafka_config import ClientConfig
from opportune.errors import StateError, TransientError
from opportune.membership import MembershipChange

ANSWER_S = 10.0
"""For so long the broker may take to say which partitions there are."""


class Memberships(msgspec.Struct):
    """What a subscriber knows. ``msgspec.json`` writes and reads it, to go on later from ``positions``.

    Args:
        positions: the offset to read next, by partition.
        versions: the highest version seen, by profile id.
        members: profile ids by audience.
        merged: the profile that a profile merged into, by its id.
        changes: changes taken.
        repeats: records dropped because their version had been seen.
    """

    positions: dict[int, int] = {}
    versions: dict[str, int] = {}
    members: dict[str, set[str]] = {}
    merged: dict[str, str] = {}
    changes: int = 0
    repeats: int = 0

    def take(self, change: MembershipChange, last: int) -> bool:
        """Takes a change whose version is above ``last``. Returns whether it was taken."""
        if change.version <= last:
            self.repeats += 1
            return False
        self.changes += 1
        profile = change.profile_id
        self.versions[profile] = max(change.version, self.versions.get(profile, 0))
        inside = self.members.setdefault(change.audience, set())
        if change.change == "entered":
            inside.add(profile)
        else:
            inside.discard(profile)
        if change.merged_into is not None:
            self.merged[profile] = change.merged_into
        return True

    def current(self, profile_id: str) -> str:
        """The id under which a person is kept today, given any id that they ever had."""
        while profile_id in self.merged:
            profile_id = self.merged[profile_id]
        return profile_id


class Subscriber:
    """Reads the memberships topic. Belongs to one thread; ``close`` it.

    Args:
        config: properties of a consumer (``flows.kafka_config.consumer_config``).
        topic: the memberships topic.
        known: what an earlier subscriber knew; None starts anew.
        from_end: starting anew, skip what is there: for those who want news only.

    Raises:
        TransientError: the broker does not say which partitions the topic has.
    """

    def __init__(
        self, config: ClientConfig, topic: str, known: Memberships | None = None, *, from_end: bool = False
    ) -> None:
        self.known = known or Memberships()
        self._topic = topic
        self._consumer = Consumer({**config, "enable.partition.eof": True})
        self._decode = msgspec.json.Decoder(MembershipChange).decode
        try:
            described = self._consumer.list_topics(topic, timeout=ANSWER_S).topics[topic]
            trouble = described.error
        except KafkaException as error:
            # The broker that answered a moment ago may be gone again, or be still coming up.
            trouble = error.args[0]
        if trouble is not None:
            self._consumer.close()
            raise TransientError(
                f"cannot read topic {topic}: {trouble.str()}. See topics.memberships in opportune.yml."
            )
        start = OFFSET_END if from_end else OFFSET_BEGINNING
        self._consumer.assign(
            [TopicPartition(topic, number, self.known.positions.get(number, start)) for number in described.partitions]
        )
        self._loading = set() if from_end else set(described.partitions)
        self._by_key = known is None and not from_end
        self._keys: dict[bytes, int] = {}

    @property
    def loaded(self) -> bool:
        """Whether every partition has been read to its end once."""
        return not self._loading

    def poll(self, timeout_s: float, count: int = 500) -> list[MembershipChange]:
        """The next changes that are news, in order of each profile.

        Args:
            timeout_s: how long to wait for the first, seconds.
            count: how many records to read at most.

        Raises:
            StateError: the positions are no longer in the topic, or a record is not one of ours.
            TransientError: the broker says that it cannot answer.
        """
        news: list[MembershipChange] = []
        for message in self._consumer.consume(count, timeout_s):
            error, partition = message.error(), message.partition()
            assert partition is not None, "a record has a partition"
            if error is not None:
                self._judge(error, partition)
                continue
            change = self._taken(message.key(), message.value(), partition, message.offset() or 0)
            self.known.positions[partition] = (message.offset() or 0) + 1
            if change is not None:
                news.append(change)
        return news

    def load(self, stopping: Callable[[], bool] = lambda: False) -> Memberships:
        """Reads everything that is there. Returns what is known then; raises like ``poll``."""
        while not self.loaded and not stopping():
            self.poll(0.2)
        return self.known

    def close(self) -> None:
        """Leaves the broker."""
        self._consumer.close()

    def _taken(
        self, key: str | bytes | None, value: str | bytes | None, partition: int, offset: int
    ) -> MembershipChange | None:
        name = key.encode() if isinstance(key, str) else key or b""
        if value is None:
            # The key has exited long ago and is forgotten by the topic.
            profile, _, audience = name.decode().partition("/")
            self.known.members.get(audience, set()).discard(profile)
            return None
        try:
            change = self._decode(value)
        except msgspec.DecodeError as error:
            raise StateError(
                f"{self._topic}[{partition}] at offset {offset} is no membership change ({error}): see topics.memberships."
            ) from error
        if self._by_key:
            last = self._keys.get(name, 0)
            self._keys[name] = max(last, change.version)
        else:
            last = self.known.versions.get(change.profile_id, 0)
        return change if self.known.take(change, last) else None

    def _judge(self, error: KafkaError, partition: int) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            self._loading.discard(partition)
            if self._by_key and not self._loading:
                self._by_key = False
                self._keys.clear()
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise StateError(f"{self._topic}[{partition}]: the position is no longer there: load from the beginning.")
        elif not error.retriable() and code not in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
            raise TransientError(f"{self._topic}[{partition}]: {error.str()}") from KafkaException(error)
