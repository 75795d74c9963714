"""A broker that hangs, and one that goes: time stands still, the job is not drained, and the log says so.

A broker that hangs keeps its connections and answers nothing, as behind a network that swallows packets.
"""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from opportune.clock import monotonic_ms, wall_clock_ms
from tests.crash.running import until
from tests.integration.small_job import SmallJob, small_job
from tests.kafka.broker import Broker

REQUESTS_TIMED_OUT_S = 7.0
GONE, BACK = "has not answered for", "answers again"


def times(small: SmallJob) -> set[int]:
    """Log time of all shards."""
    return set(small.job.status()["shard_ms"].values())


def stands_still(small: SmallJob) -> None:
    """Looks for as long as requests take to time out, more than once: time stands, and the job does not call itself drained."""
    until(lambda: not small.job.status()["drained"], "it is not drained", 5)
    before, pause, deadline = times(small), Event(), monotonic_ms() + REQUESTS_TIMED_OUT_S * 1_000
    while monotonic_ms() < deadline:
        assert times(small) == before
        assert not small.job.status()["drained"]
        pause.wait(0.1)


def goes_on(small: SmallJob, since_ms: int) -> None:
    """Time has come beyond the absence, and the job is drained again."""
    until(lambda: min(times(small)) > since_ms and small.job.status()["drained"], "it goes on", 60)


@pytest.mark.timeout(180)
def test_time_stands_still_while_kafka_hangs_or_is_gone(own_kafka: Broker, topic_prefix: str, tmp_path: Path) -> None:
    with small_job(tmp_path / "project", own_kafka.bootstrap_servers, topic_prefix) as small:
        small.job.start()
        small.job.wait_running(60)
        until(lambda: small.job.status().get("drained"), "with nothing to do it is drained", 30)
        with own_kafka.hanging():
            stands_still(small)
            small.job.wait_said(GONE)
        goes_on(small, wall_clock_ms())
        small.job.wait_said(BACK)

        gone, back = (small.job.said().count(words) for words in (GONE, BACK))
        own_kafka.stop()
        try:
            stands_still(small)
            until(lambda: small.job.said().count(GONE) > gone, "it says that it is gone", 20)
        finally:
            own_kafka.start()
        goes_on(small, wall_clock_ms())
        until(lambda: small.job.said().count(BACK) > back, "it says that it is back", 45)
        assert small.job.terminate()[0] == 0
