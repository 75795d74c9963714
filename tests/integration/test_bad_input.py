"""Records that cannot be used: dead letters with their reasons, and everybody else undisturbed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from flows.dead_letters import CUT_BYTES
from opportune.clock import wall_clock_ms
from opportune.identity import profile_id
from tests.crash.judgement import headers_of
from tests.crash.running import until
from tests.crash.scene import make_topics
from tests.integration.small_job import small_job
from tests.kafka.broker import Kafka
from tests.oracle.instants import read_instant, write_instant

YEAR_2099 = 4_070_908_800_000


def event(**fields: object) -> bytes:
    return json.dumps({"type": "track", "event": "Counted", "userId": "ann", **fields}).encode()


@pytest.mark.timeout(120)
def test_records_that_are_refused(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    late = write_instant(wall_clock_ms() - 660_000)
    refused = [
        ("not_json", b"<event/>"),
        ("not_json", event()[:-3]),
        ("not_json", b"\x1f\x8b\x08\x00"),
        ("not_json", None),
        ("bad_shape", b'["track"]'),
        ("bad_shape", event(userId={"id": 1})),
        ("bad_type", event(type="video")),
        ("bad_type", b"{}"),
        ("no_identifier", event(userId=None)),
        ("no_identifier", event(userId="  ")),
        ("blocked_identifier", event(userId="null", anonymousId="00000000-0000-0000-0000-000000000000")),
        ("bad_time", event(timestamp="yesterday")),
        ("bad_time", event(timestamp=1_700_000_000)),
        ("too_late", event(timestamp=late)),
        ("too_large", event(properties={"blob": "x" * 1_048_576})),
    ]
    with small_job(tmp_path / "project", kafka.bootstrap_servers, topic_prefix) as small:
        small.job.start()
        small.job.wait_running()
        reading = small.reading()
        for number, (_, value) in enumerate(refused):
            small.count("bystander", number % 3)
            small.send(value, number % 3, key=b"key", headers={"trace": b"%d" % number})
        small.count("bystander")
        small.wait_counted(reading, "bystander", len(refused) + 1)
        letters = small.letters(len(refused))
        expected = Counter(reason for reason, _ in refused)
        until(lambda: small.job.status().get("rejected") == expected, "they are counted by reason")
        assert small.job.terminate()[0] == 0
        reading.stop_at_end()
    found = {int(headers_of(letter)["trace"]): letter for letter in letters}
    assert len(letters) == len(found) == len(refused)
    for number, (reason, value) in enumerate(refused):
        letter = found[number]
        headers = headers_of(letter)
        assert headers["opportune-reason"].decode() == reason, value
        assert headers["opportune-topic"].decode() == small.events
        assert int(headers["opportune-partition"]) == number % 3
        assert int(headers["opportune-offset"]) == 2 * (number // 3) + 1
        assert int(headers["opportune-size"]) == len(value or b"")
        assert letter.key() == b"key"
        if reason == "too_large":
            assert headers["opportune-cut"] == b"true"
            assert letter.value() == (value or b"")[:CUT_BYTES]
        else:
            assert "opportune-cut" not in headers
            assert letter.value() == value


@pytest.mark.timeout(120)
def test_clocks_far_ahead(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    """A record from 2099, an event of 2099 and one received in 2099 count as of their arrival; nobody else's time moves."""
    topic = f"{topic_prefix}.events"
    make_topics(
        kafka.bootstrap_servers, {topic: "CreateTime"}, 3, message_timestamp_after_max_ms=str(2**62), retention_ms="-1"
    )
    ahead = write_instant(YEAR_2099)
    with small_job(tmp_path / "project", kafka.bootstrap_servers, topic_prefix) as small:
        small.job.start()
        small.job.wait_running()
        reading = small.reading()
        began = wall_clock_ms()
        small.send(
            event(event="Ordered", userId="bystander", messageId="1", timestamp=write_instant(began)), timestamp=began
        )
        small.send(event(event="Ordered", userId="record", messageId="2"), timestamp=YEAR_2099)
        small.send(event(event="Ordered", userId="time", messageId="3", timestamp=ahead))
        small.send(event(event="Ordered", userId="received", messageId="4", timestamp=ahead, receivedAt=ahead))
        sent = wall_clock_ms()
        small.count("bystander")
        small.wait_counted(reading, "bystander", 1)
        people = {profile_id("user_id", name).hex(): name for name in ("bystander", "record", "time", "received")}

        def orders() -> dict[tuple[str, str], int]:
            changes = [one for one in reading.news if one.audience == "buyer"]
            return {(people[one.profile_id], one.change): read_instant(one.at) or 0 for one in changes}

        until(lambda: len(orders()) == 8, "all four entered and exited", 40)
        assert small.job.terminate()[0] == 0
        reading.stop_at_end()
    at = orders()
    assert at["bystander", "entered"] == began
    for name in people.values():
        assert at[name, "exited"] == at[name, "entered"] + 7_000
    for name in ("time", "received"):
        assert began <= at[name, "entered"] <= sent
    # The record's own arrival is the clock of whoever reads it.
    assert began <= at["record", "entered"] <= sent + 5_000
