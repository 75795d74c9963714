"""The job is asked to stop again and again while events flow, and the broker goes away and comes back.

A clean stop repeats nothing: what was committed is known to the next start.
"""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from tests.crash.running import until
from tests.crash.scene import report, scene
from tests.kafka.broker import Broker, Kafka

STOPS = 4
AWAY_S = 20


@pytest.mark.timeout(200)
def test_stops(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    took: list[float] = []
    with scene(tmp_path / "project", kafka.bootstrap_servers, topic_prefix) as made:
        job = made.job
        job.start()
        job.wait_running()
        made.begin(seed=3)
        for number in range(STOPS):
            before = job.log_time_ms()
            until(lambda before=before: job.log_time_ms() > before, "log time goes on")  # type: ignore[misc]  # bound now
            Event().wait(0.1 * number)
            code, seconds = job.terminate()
            assert code == 0, job.said()[-6_000:]
            took.append(seconds)
            job.start()
            job.wait_running()
        verdict = made.finish()
    report(f"{STOPS + 1} stops of at most {max(took):.1f} s: {verdict}")
    assert max(took) < 10
    assert verdict.repeats == 0


@pytest.mark.timeout(200)
def test_broker_goes_away(own_kafka: Broker, topic_prefix: str, tmp_path: Path) -> None:
    # Only append times: what waits for the broker meanwhile would carry instants that others have confirmed as past.
    with scene(
        tmp_path / "project", own_kafka.bootstrap_servers, topic_prefix, sent_times=False, lateness="90 seconds"
    ) as made:
        made.job.start()
        made.job.next_worker()
        made.job.wait_running()
        made.begin(seed=4)
        until(lambda: made.reading.news, "changes are made")
        own_kafka.stop()
        try:
            Event().wait(AWAY_S)
            still = made.job.log_time_ms()
            assert not made.job.has_ended()
        finally:
            own_kafka.start()
        until(lambda: made.job.log_time_ms() > still, "log time goes on after the broker is back", 40)
        assert made.job.worker() is None, "the worker waits for the broker and does not die"
        verdict = made.finish()
        deaths = (made.job.state / "deaths.json").read_text()
    report(f"away for {AWAY_S} s: {verdict}")
    assert '"deaths_ms": []' in deaths, "a broker that is away is no death"
