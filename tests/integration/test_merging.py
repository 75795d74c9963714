"""People sign in on several devices while the job is killed again and again: each is one person in the end, of all events."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from opportune.identity import profile_id
from tests.crash.running import until
from tests.integration.small_job import small_job
from tests.kafka.broker import Kafka

PEOPLE = 80
KILLS = 25
PARTITIONS = 3


def signs(who: int) -> list[dict[str, object]]:
    """What one person sends, twelve events: alone on two devices, signing in on both, then under any of the names."""
    first, second, user = f"d{who}.0", f"d{who}.1", f"u{who}"
    alone: list[dict[str, object]] = [
        {"userId": None, "anonymousId": device} for device in (first, second) for _ in "ab"
    ]
    known: list[dict[str, object]] = [{"userId": user, "anonymousId": device} for device in (first, second)]
    later: list[dict[str, object]] = [{"userId": user}, {"userId": None, "anonymousId": first}, *known]
    return [*alone, *known, *later, *alone[1:3]]


@pytest.mark.timeout(300)
def test_everybody_is_one_person_in_the_end(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    random = Random(4)
    waiting = [signs(who) for who in range(PEOPLE)]
    total = sum(map(len, waiting))
    with small_job(tmp_path / "project", kafka.bootstrap_servers, topic_prefix, partitions=PARTITIONS) as small:
        small.job.start()
        small.job.wait_running(60)
        reading = small.reading()
        life = total // KILLS
        for number in range(total):
            if number and number % life == 0:
                # It reads when the events of this life come, so that it dies with letters under way.
                small.job.start()
                small.job.wait_running(60)
            who = random.choice([who for who, theirs in enumerate(waiting) if theirs])
            small.count("", random.randrange(PARTITIONS), topic=None, **waiting[who].pop(0))
            if number % life == life - 1:
                seen = len(reading.news)
                until(lambda: len(reading.news) > seen, "something of this life is told", 60)  # noqa: B023 - waited for at once
                small.job.kill_all()
        whole = {profile_id("user_id", f"u{who}").hex() for who in range(PEOPLE)}

        def members() -> dict[str, set[str]]:
            found: dict[str, set[str]] = {}
            for change in list(reading.news):
                if change.audience.startswith("counted_"):
                    who = found.setdefault(change.profile_id, set())
                    (who.add if change.change == "entered" else who.discard)(change.audience)
            return {profile: audiences for profile, audiences in found.items() if audiences}

        expected = {profile: {"counted_12"} for profile in whole}
        until(lambda: members() == expected, "each of them is in counted_12, and nobody else is anywhere", 90)
        assert reading.failed is None
        merged = [change for change in reading.news if change.cause == "merged"]
        assert {change.merged_into for change in merged if change.change == "exited"} <= whole
        assert small.job.terminate()[0] == 0
