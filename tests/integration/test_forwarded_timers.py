"""Events that are sent on to another shard just before a timer of their profile: nobody exits who has not left.

Everybody's device has its pointer on another shard than their profile, and sends an event some milliseconds before the window of
the one before ends. By the time at which that timer is due the event is on its way through the mailbox topic.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from random import Random
from threading import Event

import pytest
from confluent_kafka import Message

from opportune.audiences.loader import load_project
from opportune.clock import wall_clock_ms
from opportune.event import instant_ms
from opportune.identity import profile_id, shard_of
from opportune.membership import MembershipChange
from state.warehouse import columns_of
from tests.crash.judgement import read_all
from tests.crash.running import until
from tests.integration.small_job import SmallJob, small_job
from tests.kafka.broker import Kafka
from tests.oracle import Record, live

SHARDS = 4
PEOPLE = 12
PARTITIONS = 3
WINDOW_MS = 600
EVENTS = 300
AUDIENCES = "name: lately\nwhen: {event: Counted, within: 0.6 seconds}\n"
Told = Counter[tuple[str, str, int]]


def device_of(who: int) -> str:
    """A device whose pointer is on another shard than the profile of its person."""
    home = shard_of(profile_id("user_id", f"u{who}"), SHARDS)
    names = (f"d{who}.{number}" for number in range(99))
    return next(name for name in names if shard_of(profile_id("anonymous_id", name), SHARDS) != home)


def send(small: SmallJob, who: int, user: str | None = None) -> int:
    """An event of somebody's device; returns its instant."""
    now = wall_clock_ms()
    small.count("", who % PARTITIONS, userId=user, anonymousId=device_of(who))
    return now


def send_at_the_edge(small: SmallJob, random: Random, times: int) -> None:
    """Events of everybody, each 0 to 30 ms before the window of the one before ends."""
    due = [(send(small, who) + WINDOW_MS - random.randint(0, 30), who) for who in range(PEOPLE)]
    heapq.heapify(due)
    never = Event()
    for _ in range(times):
        at_ms, who = heapq.heappop(due)
        never.wait(max(at_ms - wall_clock_ms(), 0) / 1_000)
        heapq.heappush(due, (send(small, who) + WINDOW_MS - random.randint(0, 30), who))


def told(news: Iterable[MembershipChange], after_ms: int) -> Told:
    return Counter(
        (change.profile_id, change.change, instant_ms(change.at))
        for change in list(news)
        if instant_ms(change.at) > after_ms
    )


def expected(project: Path, messages: Iterable[Message], after_ms: int, end_ms: int) -> Told:
    """What the reference evaluator makes of the log, with all events of a device as those of its person."""
    users = {device_of(who): f"u{who}" for who in range(PEOPLE)}
    logs: dict[str, list[Record]] = defaultdict(list)
    for message in messages:
        body = json.loads(message.value() or b"")
        user = users[body["anonymousId"]]
        raw = json.dumps({**body, "userId": user, "anonymousId": None}).encode()
        logs[user].append(Record(message.timestamp()[1], raw))
    found: Told = Counter()
    for user, records in logs.items():
        for change in live(load_project(project, columns_of), records, end_ms).changes:
            if change.at > after_ms:
                found[profile_id("user_id", user).hex(), change.change, change.at] += 1
    return found


@pytest.mark.timeout(180)
def test_an_event_on_its_way_to_another_shard_holds_a_timer_back(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    random = Random(5)
    project = tmp_path / "project"
    with small_job(project, kafka.bootstrap_servers, topic_prefix, partitions=PARTITIONS, skew="5 ms") as small:
        (project / "audiences" / "all.yml").write_text(AUDIENCES)
        small.job.start()
        small.job.wait_running(60)
        reading = small.reading()
        for who in range(PEOPLE):
            send(small, who, f"u{who}")
        until(lambda: len(told(reading.news, 0)) == 2 * PEOPLE, "everybody has entered, and exited", 60)
        known_ms = max(instant_ms(change.at) for change in list(reading.news))
        send_at_the_edge(small, random, EVENTS // 2)
        small.job.kill_all()
        small.job.start()
        small.job.wait_running(60)
        send_at_the_edge(small, random, EVENTS // 2)
        until(lambda: not reading.known.members.get("lately"), "everybody is out", 60)
        until(small.is_read, "time is beyond the last window", 60)
        assert reading.failed is None
        assert small.job.status()["identities"]["forwarded"] >= EVENTS // 2
        log = read_all(kafka.bootstrap_servers, small.events)
        assert told(reading.news, known_ms) == expected(project, log, known_ms, wall_clock_ms())
        assert small.job.terminate()[0] == 0
