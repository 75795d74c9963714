"""The job between the engine and the actors: what it hands out, when it waits, and what it counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from flows.careful import CarefulConsumer
from flows.end_marks import EndMarks
from flows.hub import GATHER_MS, Hub
from flows.inputs import Input
from flows.job import EPOCH_EVENTS_MAX, Job, snapshot_of
from flows.log_time import LogTime
from flows.loop import Loop
from flows.mail_time import MailTime
from flows.metrics import Metrics
from flows.shard_keys import shard_key
from flows.watchdog import Watchdog
from opportune.clock import monotonic_ms
from opportune.router import Router
from tests.oracle.builders import DAY_0, happened, project, track
from tests.unit.flows.arrivals import Handed, after_hard_deaths, end, record

SHARDS = 2


def a_job(directory: Path, *polls: Sequence[Message], careful: bool = False, partitions: int = 1) -> Job:
    """A job over messages that are written down."""
    loop = Loop(project({"a": happened("A", within_ms=10), "b": happened("B")}), SHARDS)
    inputs = [Input("events", b"e" * 16, number, 0, 0) for number in range(partitions)]
    consumer: Any = Handed(*polls)
    if careful:
        deaths, mode = after_hard_deaths(directory)
        consumer = CarefulConsumer(consumer, mode, deaths)
        for one in inputs:
            one.holds = False
    places = [(one.topic, one.partition) for one in inputs]
    marks = EndMarks({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, places, 50, lambda: DAY_0)
    post: Any = Handed()
    hub = Hub(
        consumer,
        post,
        inputs,
        [],
        "mailbox",
        Router(loop.compiled, SHARDS),
        SHARDS,
        LogTime(inputs, marks, 10_000, 20, lambda: 0),
        frozenset(),
        lambda: DAY_0 + 100,
        mail_time=MailTime(loop.actors, 10_000, lambda: 0),
    )
    watchdog = Watchdog(60_000, native=False)
    return Job(loop.actors, hub, Metrics(DAY_0), watchdog, None, consumer if careful else None)


def events(*names: str) -> list[Message]:
    """Events of one person, a millisecond apart, and the end."""
    made = [record(at, DAY_0 + at, track(name, at)) for at, name in enumerate(names)]
    return [*made, end(len(made))]


def polled(job: Job) -> list[Any]:
    """What a poll hands out when enough time has passed since the last time."""
    job.hub.gathered_ms = monotonic_ms() - GATHER_MS
    return job.next_batches()


def apply(job: Job, handed: list[Any]) -> None:
    """What the engine does with batches."""
    for _, (shard, batch) in handed:
        job.actors[shard].apply(batch)
        job.applied()


def test_batches_come_with_the_keys_of_their_shards(tmp_path: Path) -> None:
    job = a_job(tmp_path, events("A", "A"))
    handed = polled(job)
    assert [(key, shard) for key, (shard, _) in handed] == [(shard_key(0), 0), (shard_key(1), 1)]
    apply(job, handed)
    told = polled(job)
    assert [(batch.events, batch.time_ms, batch.read_ms) for _, (_, batch) in told] == [
        ([], DAY_0 + 1, DAY_0 + 1)
    ] * SHARDS
    apply(job, told)
    assert polled(job) == []


def test_in_a_careful_run_nothing_is_read_before_all_shards_have_applied(tmp_path: Path) -> None:
    job = a_job(tmp_path, events("A", "B", "A"), careful=True)
    applied = 0
    for _ in range(20):
        handed = polled(job)
        assert sum(len(batch.events) for _, (_, batch) in handed) <= 1
        for _, (shard, batch) in handed:
            assert polled(job) == []
            job.actors[shard].apply(batch)
            applied += len(batch.events)
            job.applied()
    assert applied == 3


def test_a_record_that_is_gathered_and_not_handed_over_is_not_applied(tmp_path: Path) -> None:
    job = a_job(tmp_path, events("A", "B"), careful=True)
    for _ in range(5):
        job.hub.gathered_ms = monotonic_ms() + 10**9
        assert job.next_batches() == []
    assert [len(batch.events) for _, (_, batch) in polled(job)].count(1) == 1


def test_a_notice_alone_does_not_stop_a_careful_run(tmp_path: Path) -> None:
    polls: list[list[Message]] = [[], [end(0, 1)], [record(0, DAY_0, track("A", 0))]]
    job = a_job(tmp_path, *polls, careful=True, partitions=2)
    apply(job, polled(job))
    assert polled(job) == [], "time cannot move on: the other partition has not spoken"
    assert [len(batch.events) for _, (_, batch) in polled(job)].count(1) == 1


def test_what_is_read_in_an_epoch_is_bounded(tmp_path: Path) -> None:
    job = a_job(tmp_path, events("A"), events("A"))
    job.hub.records = EPOCH_EVENTS_MAX
    assert polled(job) == []
    job.epoch_ended()
    assert polled(job) != []


def test_an_epoch_tells_where_reading_is(tmp_path: Path) -> None:
    job = a_job(tmp_path, events("A", "A"))
    polled(job)
    assert job.epoch_ended() == {"events/0": 2}
    assert job.metrics.epoch == 1


def test_the_first_error_is_kept_and_ends_the_process_where_the_worker_said_how(tmp_path: Path) -> None:
    job = a_job(tmp_path)
    first, second = ValueError("first"), ValueError("second")
    ended: list[BaseException] = []
    job.end = ended.append
    job.failed(first)
    job.failed(second)
    assert job.error is first
    assert ended == [first]


def test_counters(tmp_path: Path) -> None:
    raws = [record(0, DAY_0, track("A", 0)), record(1, DAY_0 + 1, b"{"), record(2, DAY_0 + 2, track("Q", 2, "bob"))]
    job = a_job(tmp_path, [*raws, end(3)])
    apply(job, polled(job))
    job.hub.log_time.marks._answered(0, 5, DAY_0 + 50)
    status = snapshot_of(job, DAY_0 + 60)
    assert status["events"] == 3
    assert status["used"] == 1
    assert status["profiles"] == 2
    assert status["changes"] == 1
    assert status["rejected"] == {"not_json": 1}
    assert status["entered"] == {"a": 1, "b": 0}
    assert status["applied"] == {"events/0": 3}
    assert status["lag"] == {"events/0": 2}


@pytest.mark.parametrize("count", [1, 3])
def test_an_idle_poll_hands_out_nothing(tmp_path: Path, count: int) -> None:
    job = a_job(tmp_path)
    apply(job, polled(job))
    for _ in range(count):
        assert polled(job) == []
