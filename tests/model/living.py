"""A generated life, led by the plain loop: what is fed, how time goes on, commits, restarts that feed some of it again.

Owns: ``lived``, so that every property that compares a live run with the reference evaluator leads it alike.
Not here: lives (tests.model.logs), comparisons (the tests beside this file).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flows.loop import Arrived, Loop
from tests.model.logs import Advance, Commit, Feed, Life, LogRecord, Restart
from tests.oracle import Record


def lived(loop: Loop, life: Life) -> Iterator[list[Record]]:
    """Does step after step; yields what each has fed for the first time, as the reference evaluator takes it."""
    log: list[LogRecord] = []
    for batch, step in enumerate(life.steps):
        records: list[Record] = []
        match step:
            case Feed(fed):
                loop.feed(arrived(fed))
                log += fed
                # What is handed over together is applied in order of arrival, whatever its partitions.
                in_order = sorted(fed, key=lambda record: record.arrival_ms)
                records = [Record(record.arrival_ms, record.raw, batch) for record in in_order]
            case Advance(time_ms):
                loop.advance(time_ms)
            case Commit():
                loop.commit()
            case Restart(again):
                loop.restart()
                if again and log:
                    loop.feed(arrived(sorted(log, key=lambda record: record.partition)[-again:]))
        yield records


def arrived(records: Iterable[LogRecord]) -> list[Arrived]:
    """The records as the engine is fed with them."""
    return [Arrived("events", each.partition, each.offset, each.arrival_ms, each.raw) for each in records]
