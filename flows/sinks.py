"""The sink of the dataflow: outbox messages of shards, delivered before the epoch may commit.

Owns: the place of delivery in Bytewax's barrier. Invariant: ``snapshot`` returns only after everything that was written
before it is delivered; so an epoch that is committed is an epoch whose messages are in Kafka. The names of the parts never
depend on the number of workers: Bytewax keeps them for ever.
Not here: producing and refusals (flows.delivery), keys of shards (flows.bytewax_step).
"""

from __future__ import annotations

from collections.abc import Callable

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from flows.delivery import Delivery
from state.outbox import OutboxMessage

PARTS = 12
"""Constant, so that part i sits on worker i modulo the workers, for every number of workers that divides it."""


def shard_of_key(key: str) -> int:
    """The shard of a stream key such as ``s0003.5``."""
    return int(key[1:5])


class _Part(StatefulSinkPartition[list[OutboxMessage], None]):
    def __init__(
        self, delivery: Delivery, on_point: Callable[[str], None], failed: Callable[[BaseException], None]
    ) -> None:
        self._delivery = delivery
        self._on_point = on_point
        self._failed = failed

    def write_batch(self, values: list[list[OutboxMessage]]) -> None:
        try:
            for messages in values:
                self._delivery.produce(messages)
        except BaseException as error:
            self._failed(error)
            raise
        self._on_point("after_produce")

    def snapshot(self) -> None:
        try:
            self._delivery.flush()
        except BaseException as error:
            self._failed(error)
            raise
        self._on_point("after_flush")

    def close(self) -> None:
        self._delivery.flush()


class MembershipSink(FixedPartitionedSink[list[OutboxMessage], None]):
    """Items are ``(stream key of the shard, messages)``.

    Args:
        delivery: the process's producer.
        shard_index: the shard of a stream key; a shard's messages always take the same part.
        on_point: called with ``after_produce`` and ``after_flush``; crash tests end the process there.
        failed: told of an error before it is raised to the engine, which wraps it.
    """

    def __init__(
        self,
        delivery: Delivery,
        shard_index: Callable[[str], int] = shard_of_key,
        on_point: Callable[[str], None] = lambda _: None,
        failed: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._delivery = delivery
        self._shard_index = shard_index
        self._on_point = on_point
        self._failed = failed

    def list_parts(self) -> list[str]:
        """The names of the parts, for ever the same."""
        return [f"out{part:02d}" for part in range(PARTS)]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Part:  # noqa: ARG002 - Bytewax's signature
        """A part; all of a process share its producer."""
        return _Part(self._delivery, self._on_point, self._failed)

    def part_fn(self, item_key: str) -> int:
        """The part of a stream key: its shard, so that messages stay on the worker that made them."""
        return self._shard_index(item_key) % PARTS
