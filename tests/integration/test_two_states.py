"""Two states of one project on the same topics: a job that was not stopped before its directory was moved away, a start with another
``--state``, and the way back. One of them goes on alone, and nobody counts the mail of the other.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from opportune.identity import profile_id
from tests.crash.judgement import ReadingAlong
from tests.crash.running import until
from tests.integration.small_job import SmallJob, small_job
from tests.kafka.broker import Kafka

PEOPLE = 20


def sign_in(small: SmallJob, people: range) -> None:
    """Each counts twice alone on a device, and signs in there on a third event."""
    for who in people:
        small.count("", who % 3, userId=None, anonymousId=f"d{who}")
        small.count("", who % 3, userId=None, anonymousId=f"d{who}")
        small.count("", who % 3, userId=f"u{who}", anonymousId=f"d{who}")


def wait_one_person_each(reading: ReadingAlong, people: range) -> None:
    """Waits until each is one person of three events, and nobody else is anywhere."""
    expected = {profile_id("user_id", f"u{who}").hex(): {"counted_03"} for who in people}

    def members() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        versions: dict[str, int] = {}
        for change in list(reading.news):
            if change.audience.startswith("counted_") and change.version > versions.get(change.profile_id, 0):
                versions[change.profile_id] = change.version
                who = found.setdefault(change.profile_id, set())
                (who.add if change.change == "entered" else who.discard)(change.audience)
        return {profile: audiences for profile, audiences in found.items() if audiences}

    until(lambda: members() == expected, "each is one person of three events", 40)
    assert reading.failed is None


@pytest.mark.timeout(200)
def test_one_of_two_states_goes_on_alone(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    with small_job(tmp_path / "project", kafka.bootstrap_servers, topic_prefix) as first:
        job = first.job
        job.start()
        job.wait_running()
        reading = first.reading()
        sign_in(first, range(PEOPLE))
        wait_one_person_each(reading, range(PEOPLE))
        job.state.rename(tmp_path / "former")
        with small_job(tmp_path / "project", kafka.bootstrap_servers, topic_prefix) as second:
            second.job.log = tmp_path / "second.log"
            second.job.start()
            # The former one still sends mail while the new one reads everything anew.
            second._number = first._number
            sign_in(second, range(PEOPLE, 2 * PEOPLE))
            second.job.wait_running()
            assert job.ended() == 65
            assert "tells of generation 2 of this state, this process has generation 1" in job.said()
            assert "--take-over" in job.said()
            sign_in(second, range(2 * PEOPLE, 3 * PEOPLE))
            wait_one_person_each(reading, range(3 * PEOPLE))
            assert second.job.terminate()[0] == 0
        job.state.rename(tmp_path / "new")
        (tmp_path / "former").rename(job.state)
        job.start()
        assert job.ended() == 65, "it does not go on by itself"
        first._number = second._number
        job.start(arguments=("--take-over",))
        sign_in(first, range(3 * PEOPLE, 4 * PEOPLE))
        wait_one_person_each(reading, range(4 * PEOPLE))
        assert "goes on under generation 3" in job.log.read_text()
        assert job.terminate()[0] == 0
        job.start()
        job.wait_running()
        sign_in(first, range(4 * PEOPLE, 5 * PEOPLE))
        wait_one_person_each(reading, range(5 * PEOPLE))
        assert job.terminate()[0] == 0
