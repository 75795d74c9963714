"""How much is kept of one person: in one feature, and in all features of a plan together.

Owns: ``Limits``, their values, how a plan's features share what a profile may take, and the counts of what went beyond them.
A feature that keeps events (an aggregate within a window, ``distinct``, a sequence, an absence) keeps rows: an event, an hop,
or a value. Invariant: no profile keeps more than about ``ROWS_MAX`` rows in all of its features, whatever its events are.
Not here: what hops and sketches are (opportune.features.hops, .sketches), counts of events (the plan bounds those).
"""

from __future__ import annotations

import msgspec

ROWS_MAX = 400_000
"""Rows of one profile in all of its features together; a row takes about 20 bytes."""
HOPS_LEAST = 8

dropped = [0]
"""How many events were let go since the start of the process because a person has too many: answers can be wrong then."""
coarsened = [0]
"""How many events went into hops or sketches since the start of the process: answers are within the stated error then."""


class Limits(msgspec.Struct, frozen=True):
    """Of one feature of one person.

    Args:
        entries: events (of ``distinct`` values) that are kept as they are.
        hops: parts of a window of a duration, for older events.
        quarters: quarters of an hour for older events of a day, a week or a month.
        sketches: parts of a window that have a sketch each.
    """

    entries: int = 10_000
    hops: int = 1_000
    quarters: int = 3_200
    sketches: int = 32


FULL = Limits()


def shared(features: int) -> Limits:
    """The limits of each of so many features, so that a profile keeps ``ROWS_MAX`` rows at most.

    Args:
        features: how many of a plan keep rows.
    """
    rows = ROWS_MAX // max(features, 1)
    if rows >= FULL.entries + FULL.quarters:
        return FULL
    entries = min(FULL.entries, max(rows - FULL.quarters, min(1_000, rows // 2)))
    left = max(rows - entries, HOPS_LEAST)
    return Limits(
        entries,
        min(FULL.hops, left),
        min(FULL.quarters, left),
        min(FULL.sketches, max(left // 100, HOPS_LEAST)),
    )
