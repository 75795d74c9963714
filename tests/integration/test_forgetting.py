"""A person is forgotten while the job dies and starts again; a state made anew from the topics does not bring them back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from opportune.clock import wall_clock_ms
from opportune.identity import profile_id
from state.rocks import RocksStore, shared_memory
from state.store import FAMILIES
from tests.crash.judgement import ReadingAlong, read_all
from tests.crash.running import ROOT, RunningJob, until
from tests.integration.small_job import SmallJob, small_job
from tests.kafka.broker import Kafka

GONE = ("u-gone", "d-gone-0", "d-gone-1")
KILLS = 4


def visits(small: SmallJob, user: str, devices: tuple[str, ...]) -> int:
    """Somebody is seen on devices, signs in on each, and goes on; returns how many events that were."""
    for device in devices:
        small.count("", partition=0, userId=None, anonymousId=device)
        small.count("", partition=1, userId=user, anonymousId=device)
        small.count("", partition=2, userId=None, anonymousId=device)
    return 3 * len(devices)


def members(reading: ReadingAlong, profile: str) -> set[str]:
    """The counts that a profile is in, for a subscriber."""
    assert reading.failed is None, str(reading.failed)
    inside: set[str] = set()
    for change in list(reading.news):
        if change.profile_id == profile and change.audience.startswith("counted_"):
            (inside.add if change.change == "entered" else inside.discard)(change.audience)
    return inside


def command(small: SmallJob, *arguments: str) -> tuple[int, dict[str, Any]]:
    """What ``opportune forget`` says."""
    more = ("--bootstrap-servers", small.bootstrap_servers)
    done = subprocess.run(
        [sys.executable, "-m", "opportune.cli.main", "forget", *arguments, str(small.job.project), "--json", *more],
        cwd=ROOT,
        env={**small.job.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def stored(job: RunningJob) -> bytes:
    """Everything that a job which has ended keeps, outbox excepted."""
    memory, found = shared_memory(8 << 20, 8 << 20), []
    for shard in sorted((job.state / "shards").iterdir()):
        store = RocksStore(shard, memory)
        for family in FAMILIES:
            if family != "outbox":
                found += [part for pair in store.scan(family) for part in pair]
        store.close()
    return b"\0".join(found)


@pytest.mark.timeout(300)
def test_nothing_of_a_forgotten_person_is_left_or_comes_back(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    with small_job(tmp_path / "project", kafka.bootstrap_servers, topic_prefix) as small:
        small.job.start()
        small.job.wait_running(60)
        reading = small.reading()
        count = visits(small, GONE[0], GONE[1:])
        visits(small, "u-stays", ("d-stays",))
        gone, stays = profile_id("user_id", GONE[0]).hex(), profile_id("user_id", "u-stays").hex()
        until(lambda: members(reading, gone) == {f"counted_{count:02d}"}, "they are one person", 60)
        until(lambda: members(reading, stays) == {"counted_03"}, "somebody else is as well", 60)

        # It is asked for by a device, while the job is down; then the job dies again and again.
        small.job.kill_all()
        code, asked = command(small, f"anonymous_id:{GONE[1]}")
        assert (code, asked["state"]) == (0, "pending")
        for _ in range(KILLS):
            small.job.start()
            small.job.wait_running(60)
            small.job.kill_all()
        small.job.start()
        small.job.wait_running(60)
        until(lambda: command(small, "--status", asked["request"])[0] == 0, "the request is complete", 60)
        _, done = command(small, "--status", asked["request"])
        assert (done["state"], done["profiles"]) == ("complete", 1)
        until(lambda: not members(reading, gone), "they have left all audiences")
        causes = {change.cause for change in reading.news if change.profile_id == gone and change.change == "exited"}
        assert "deleted" in causes
        assert members(reading, stays) == {"counted_03"}
        check_keys(small, {profile_id(*one).hex() for one in identifiers()})

        small.count(GONE[0])
        again = profile_id("user_id", GONE[0], 1).hex()
        until(lambda: members(reading, again) == {"counted_01"}, "a newer event is of a new person", 60)
        assert small.job.terminate()[0] == 0
        kept = stored(small.job)
        assert bytes.fromhex(gone) in kept, "the suppression list has their digests"
        assert not [name for name in GONE[1:] if name.encode() in kept]

        # A state made anew from the topics: it reads the events of before again.
        shutil.rmtree(small.job.state)
        seen = len(reading.news)
        small.job.start()
        small.job.wait_running(60)
        until(lambda: small.is_read() and small.job.status().get("drained"), "everything is read again", 90)
        assert members(reading, gone) == set()
        assert members(reading, again) == {"counted_01"}
        assert not [change for change in reading.news[seen:] if change.profile_id == gone]
        assert small.job.status()["rejected"]["forgotten"] == count
        assert not read_all(kafka.bootstrap_servers, f"{topic_prefix}.dead-letters")
        assert small.job.terminate()[0] == 0
        assert not [name for name in GONE[1:] if name.encode() in stored(small.job)]


def identifiers() -> list[tuple[str, str]]:
    """Those of the person who is forgotten."""
    return [("user_id", GONE[0]), ("anonymous_id", GONE[1]), ("anonymous_id", GONE[2])]


def check_keys(small: SmallJob, profiles: set[str]) -> None:
    """The last record of each key of these profiles is a tombstone."""
    last: dict[bytes, bytes | None] = {}
    for message in read_all(small.bootstrap_servers, f"{small.name}.memberships"):
        key = message.key()
        assert isinstance(key, bytes)
        value = message.value()
        assert not isinstance(value, str)
        last[key] = value
    theirs = {key: value for key, value in last.items() if key.decode().partition("/")[0] in profiles}
    assert theirs
    assert not [key for key, value in theirs.items() if value is not None]


@pytest.mark.timeout(120)
def test_a_job_says_when_it_is_drained(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    with small_job(tmp_path / "project", kafka.bootstrap_servers, topic_prefix) as small:
        small.job.start()
        small.job.wait_running(60)
        until(lambda: small.job.status().get("drained"), "with nothing to do it is drained", 30)
        began = wall_clock_ms()
        visits(small, "u", ("d",))
        last = until(lambda: drained_since(small, began), "and it is again, with the events applied", 60)
        assert last["mail_under_way"] == 0
        assert sum(last["applied"].values()) == 3
        assert small.job.terminate()[0] == 0


def drained_since(small: SmallJob, began_ms: int) -> dict[str, Any] | None:
    """A status that says so, and is of after an instant."""
    status = small.job.status()
    return status if status.get("drained") and status["at_ms"] > began_ms + 1_000 else None


@pytest.mark.timeout(120)
def test_a_replay_of_the_topics_does_not_bring_back_who_was_forgotten(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    with small_job(tmp_path / "project", kafka.bootstrap_servers, topic_prefix) as small:
        small.job.start()
        small.job.wait_running(60)
        reading = small.reading()
        count = visits(small, GONE[0], GONE[1:])
        visits(small, "u-stays", ("d-stays",))
        gone, stays = profile_id("user_id", GONE[0]).hex(), profile_id("user_id", "u-stays").hex()
        until(lambda: members(reading, gone) == {f"counted_{count:02d}"}, "they are one person", 60)
        code, asked = command(small, f"anonymous_id:{GONE[1]}", "--wait")
        assert (code, asked["state"]) == (0, "complete")
        small.count(GONE[0])
        again = profile_id("user_id", GONE[0], 1).hex()
        until(lambda: members(reading, again) == {"counted_01"}, "a newer event is of a new person", 60)
        assert small.job.terminate()[0] == 0
        out = tmp_path / "out.jsonl"
        done = subprocess.run(
            [sys.executable, "-m", "opportune.cli.main", "replay", str(small.job.project), "--out", str(out),
             "--bootstrap-servers", small.bootstrap_servers],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"forgotten {count}" in done.stderr
        changes = [json.loads(line) for line in out.read_text().splitlines()]
        device = profile_id("anonymous_id", "d-stays").hex()
        assert {one["profile_id"] for one in changes} == {stays, device, again}
        assert not [name for name in GONE[1:] if name in out.read_text()]
