"""A record on which our own code fails: the process dies, finds it, sets it aside, and goes on.

The failure is made by code that each Python of the job runs at its start: nothing else about the job is different.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opportune.identity import profile_id
from tests.crash.judgement import headers_of
from tests.crash.running import until
from tests.integration.small_job import SmallJob, patched, reason_of, small_job
from tests.kafka.broker import Kafka

_FOR_THE_RECORD = """
import os, signal
from flows.actor import Actor
found = Actor._found
def poisoned(self, profile, event):
    if event.messageId == "poison":
        {failure}
    return found(self, profile, event)
Actor._found = poisoned
"""
_FOR_THE_BATCH = """
import os, signal
from flows.actor import Actor
apply = Actor.apply
def poisoned(self, batch):
    if any(event.messageId == "poison" for event in batch.events):
        {failure}
    return apply(self, batch)
Actor.apply = poisoned
"""
RAISES = 'raise RuntimeError("a defect")'
# Where the record is known that met the failure, and where only its batch is.
KNOWN = _FOR_THE_RECORD.format(failure=RAISES)
NOT_KNOWN = _FOR_THE_BATCH.format(failure=RAISES)
HARD = _FOR_THE_BATCH.format(failure="os.kill(os.getpid(), signal.SIGSEGV)")


def send_poison(small: SmallJob) -> bytes:
    poison = json.dumps({"type": "track", "event": "Counted", "messageId": "poison", "userId": "victim"}).encode()
    for number in range(9):
        small.count("bystander", number % 3)
        if number == 4:
            small.send(poison, 1, key=b"k")
            small.count("victim", 1)
    return poison


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("code", "deaths"),
    [
        pytest.param(KNOWN, 3, id="raises"),
        pytest.param(NOT_KNOWN, 1, id="raises somewhere", marks=pytest.mark.long),
        pytest.param(HARD, 1, id="segmentation fault"),
    ],
)
def test_poison_is_set_aside(kafka: Kafka, topic_prefix: str, tmp_path: Path, code: str, deaths: int) -> None:
    environment = patched(tmp_path / "patch", code)
    more = f"poison: {{deaths: {deaths}}}\n"
    with small_job(
        tmp_path / "project", kafka.bootstrap_servers, topic_prefix, more=more, environment=environment
    ) as small:
        small.job.start()
        small.job.wait_running()
        reading = small.reading()
        small.count("bystander", 2)
        small.wait_counted(reading, "bystander", 1)
        poison = send_poison(small)
        small.wait_counted(reading, "bystander", 10, seconds=90)
        small.wait_counted(reading, "victim", 1)
        letters = small.letters(1)
        until(small.is_read, "the job has read everything")
        lives = small.job.said().count("running: ")
        small.count("bystander")
        small.wait_counted(reading, "bystander", 11)
        assert small.job.terminate()[0] == 0
        reading.stop_at_end()
    assert [reason_of(letter) for letter in letters] == ["poison"]
    assert letters[0].value() == poison
    assert letters[0].key() == b"k"
    headers = headers_of(letters[0])
    assert (headers["opportune-topic"].decode(), headers["opportune-partition"]) == (small.events, b"1")
    # So many deaths bring the suspicion; alone it kills once more where it is known, twice where it had to be found (and
    # a first death that nobody could foresee: nothing had waited when that life began).
    assert lives == deaths + (2 if code == KNOWN else 4)
    twice = {change.profile_id for change in reading.news if change.audience == "counted_02"}
    assert profile_id("user_id", "victim").hex() not in twice, "the victim's other event counts once"


@pytest.mark.timeout(90)
def test_poison_stops(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    environment = patched(tmp_path / "patch", KNOWN)
    more = "poison: {action: stop, deaths: 1}\n"
    with small_job(
        tmp_path / "project", kafka.bootstrap_servers, topic_prefix, more=more, environment=environment
    ) as small:
        small.job.start()
        small.job.wait_running()
        send_poison(small)
        assert small.job.ended(60) == 65
        said = small.job.said()
    assert "poison.action" in said
    assert f"{small.events}[1] at offset" in said
