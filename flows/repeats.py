"""What of a batch was there before: records by their place in the log, events by their message ids.

Owns: both questions, asked once a batch, and the positions that answer the first. Not here: positions (state.positions), used message ids (state.seen), what is done
with a repeat (flows.actor).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flows.batch import Span
from flows.identity.absorbed import used_by_absorbed
from opportune.profile import Profile
from state.positions import Positions
from state.seen import Seen


def covered_by(positions: Positions, spans: Sequence[Span]) -> dict[tuple[str | None, int | None], int]:
    """Of the partitions of which something is applied beyond the batch's start: the offset to go on from."""
    covered: dict[tuple[str | None, int | None], int] = {}
    for span in spans:
        known = positions.get(span.topic_id, span.partition)
        if known is not None and known[0] > span.first:
            covered[span.topic, span.partition] = known[0]
    return covered


def cover(positions: Positions, spans: Sequence[Span]) -> bool:
    """Spans are applied; says whether a position has moved."""
    moved = False
    for span in spans:
        known = positions.get(span.topic_id, span.partition)
        if known is None or known[0] < span.next:
            positions.advance(span.topic_id, span.partition, span.next, span.time_ms)
            moved = True
    return moved


def is_new(record: Any, covered: Mapping[tuple[str | None, int | None], int]) -> bool:
    """Whether no earlier write covers a record."""
    return bool(record.offset() >= covered.get((record.topic(), record.partition()), 0))


def used_before(seen: Seen, hashes: list[int]) -> dict[int, int] | None:
    """When ids of the batch were used before; None where none was and all are different."""
    found = seen.recall(np.array(hashes, np.uint64))
    before: dict[int, int] = {}
    if (found >= 0).any():
        before = {hashed: at for hashed, at in zip(hashes, found.tolist(), strict=True) if hashed and at >= 0}
    again = len(set(hashes)) + max(hashes.count(0) - 1, 0) != len(hashes)
    return before if before or again else None


def was_used(hashed: int, after: int, recalled: Mapping[int, int], used: Mapping[int, int], profile: Profile) -> bool:
    """Whether a message id was used later than an instant, by the profile or by one that it has absorbed.

    Args:
        hashed: the id's hash.
        after: milliseconds, exclusive.
        recalled: when hashes were used before the batch.
        used: when hashes were used within it.
        profile: whose event it is.
    """
    at = used.get(hashed, recalled.get(hashed))
    if at is None and profile.absorbed:
        at = used_by_absorbed(hashed, profile, recalled)
    return at is not None and at > after
