"""Dead letters: records that were refused, with their bytes and the reason.

Owns: the shape of a dead letter. Its value is the original value, its key the original key, its headers the original
ones and these (all text, UTF-8; opportune/schemas/dead_letter.json describes them):

    opportune-reason     one word, docs/dead-letters.md lists them
    opportune-detail     what was wrong, for a person; at most 500 characters
    opportune-topic      where the record was read, or was to be written
    opportune-partition  its partition, -1 where it has none
    opportune-offset     its offset, -1 where it has none
    opportune-size       bytes of the original value
    opportune-cut        ``true`` where only the first 64 KiB of the value are here

Invariant: a dead letter is at most about 200 KiB larger than ``whole_bytes``, so that a topic made by the job takes it.
Not here: which events are refused (opportune.event, flows.decode), counting them (flows.metrics).
"""

from __future__ import annotations

from collections.abc import Sequence

from flows.batch import Record
from opportune.errors import RejectedEvent
from state.outbox import OutboxMessage

CUT_BYTES = 65_536
"""What is kept of a value, key or headers that are too large."""
DETAIL_CHARS = 500
PREFIX = "opportune-"
WHOLE_REASONS_CUT = frozenset({"too_large", "refused_by_broker"})
"""Reasons for which a value over ``CUT_BYTES`` is cut: it was its size that did not fit."""


def dead_letter(
    reason: str,
    detail: str,
    topic: str,
    partition: int,
    offset: int,
    value: bytes | None,
    key: bytes | None = None,
    headers: Sequence[tuple[str, bytes | None]] = (),
    *,
    to: str = "",
    whole_bytes: int = 1_048_576,
) -> OutboxMessage:
    """The message that carries a refused record.

    Args:
        reason: one word of docs/dead-letters.md.
        detail: what was wrong, without the values of identifiers.
        topic: where the record was read, or was to be written.
        partition: its partition; -1 where it has none.
        offset: its offset; -1 where it has none.
        value: its bytes.
        key: its key.
        headers: its headers; dropped where they are over 64 KiB together.
        to: the dead letters topic.
        whole_bytes: a value over this is cut to its first 64 KiB (``event_bytes_max``); one that was refused for its size is
            cut from 64 KiB on.
    """
    size = len(value) if value is not None else 0
    limit = CUT_BYTES if reason in WHOLE_REASONS_CUT else whole_bytes
    cut = value is not None and size > limit
    kept = _fitting(headers)
    kept += [
        (PREFIX + "reason", reason.encode()),
        (PREFIX + "detail", detail[:DETAIL_CHARS].encode("utf-8", "replace")),
        (PREFIX + "topic", topic.encode()),
        (PREFIX + "partition", b"%d" % partition),
        (PREFIX + "offset", b"%d" % offset),
        (PREFIX + "size", b"%d" % size),
    ]
    if cut:
        kept.append((PREFIX + "cut", b"true"))
    return OutboxMessage(
        topic=to,
        partition=-1,
        key=key if key is None or len(key) <= CUT_BYTES else key[:CUT_BYTES],
        value=value[:CUT_BYTES] if cut and value is not None else value,
        headers=kept,
    )


class DeadLetters:
    """Makes dead letters of records that were refused as events.

    Args:
        topic: the dead letters topic.
        whole_bytes: ``event_bytes_max``; larger values are cut.
    """

    def __init__(self, topic: str, whole_bytes: int) -> None:
        self._topic = topic
        self._whole_bytes = whole_bytes

    def messages(self, refused: Sequence[tuple[Record, RejectedEvent]]) -> list[OutboxMessage]:
        """The messages of refused records; those of people who were forgotten are counted and copied nowhere."""
        return [self.message(record, refusal) for record, refusal in refused if refusal.reason != "forgotten"]

    def message(self, record: Record, refusal: RejectedEvent) -> OutboxMessage:
        """The message that carries a record which was refused.

        Args:
            record: where it was read.
            refusal: why.
        """
        # Lines of files have no headers, records of Kafka have; both are records.
        headers = getattr(record, "headers", lambda: None)()
        partition, offset = record.partition(), record.offset()
        return dead_letter(
            refusal.reason,
            refusal.detail,
            record.topic() or "",
            -1 if partition is None else partition,
            -1 if offset is None else offset,
            record.value(),
            record.key(),
            headers or (),
            to=self._topic,
            whole_bytes=self._whole_bytes,
        )


def _fitting(headers: Sequence[tuple[str, bytes | None]]) -> list[tuple[str, bytes]]:
    kept = [(name, value or b"") for name, value in headers if not name.startswith(PREFIX)]
    return kept if sum(len(name) + len(value) for name, value in kept) <= CUT_BYTES else []
