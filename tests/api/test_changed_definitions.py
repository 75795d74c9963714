"""Look-ups over a state whose definitions have changed, with real processes: warming is never "not a member"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from api.schemas import OneMembershipAnswer, ProfileAnswer
from opportune.client import Client
from opportune.clock import wall_clock_ms
from opportune.errors import ReadRefused
from opportune.event import instant_ms, iso_text
from tests.api.serving import make_topic, serving
from tests.api.test_lookups import audiences, send, write_project
from tests.crash.running import running_job, until
from tests.kafka.broker import Kafka

AFTER = """
name: french
when: {trait: locale, is: fr}
---
name: twice
when: {event: Bought, times: ">= 2", within: 1 day}
---
name: seen
when: {event: Seen, within: 8 seconds}
"""


def test_warming_is_answered_as_such(kafka: Kafka, tmp_path: Path, topic_prefix: str) -> None:
    name = topic_prefix
    directory = write_project(tmp_path / name, name, kafka.bootstrap_servers)
    make_topic(kafka.bootstrap_servers, f"{name}.events")
    ada: dict[str, Any] = {"userId": "ada", "timestamp": iso_text(wall_clock_ms())}
    with running_job(directory, kafka.bootstrap_servers) as job:
        with serving(directory, "--log-level", "INFO", ready=False) as address:
            job.start()
            job.wait_running()
            until(lambda: httpx.get(f"{address}/readyz").status_code == 200, "the service is ready")
            bought = [{"type": "track", "event": "Bought", "messageId": f"b{n}", **ada} for n in range(2)]
            traits = {"type": "identify", "messageId": "i", "traits": {"locale": "fr"}, **ada}
            send(address, *bought, traits, {"type": "track", "event": "Seen", "messageId": "s", **ada})
            until(lambda: "french" in audiences(address, "user_id:ada")["_names"], "the events are seen")
            assert job.terminate()[0] == 0
            (directory / "audiences" / "a.yml").write_text(AFTER)
            job.start()
            job.wait_running()
            refused = httpx.get(f"{address}/v1/profiles/user_id:ada")
            assert (refused.status_code, refused.json()["type"]) == (503, "urn:opportune:problem:not_ready")
            assert "other definitions" in refused.json()["detail"]
        with serving(directory, "--log-level", "INFO") as address:
            found = audiences(address, "user_id:ada")
            ProfileAnswer.model_validate_json(httpx.get(f"{address}/v1/profiles/user_id:ada").content)
            # A count of more events than before; and, for its first seconds, the window that is new.
            assert {"twice"} <= {waiting["audience"] for waiting in found["warming"]} <= {"seen", "twice"}
            one = httpx.get(f"{address}/v1/profiles/user_id:ada/audiences/twice")
            answer = OneMembershipAnswer.model_validate_json(one.content)
            assert (answer.member, answer.warming is not None) == (None, True)
            client = Client(address)
            with pytest.raises(ReadRefused, match="warming"):
                client.is_member("user_id:ada", "twice")
            refused = httpx.get(f"{address}/v1/audiences/twice/members")
            assert (refused.status_code, refused.json()["type"]) == (503, "urn:opportune:problem:not_ready")

            def began() -> bool:
                told = audiences(address, "user_id:ada")
                assert told["_names"] == {"french"}, "who has not been seen since does not enter"
                until_ms = [instant_ms(each["until"]) for each in told["warming"] if each["audience"] == "seen"]
                assert all(instant_ms(told["freshness"]["as_of"]) < each for each in until_ms)
                return not until_ms

            until(began, "the window of the new audience is covered")
            assert client.is_member("user_id:ada", "seen") is False
        assert job.terminate()[0] == 0
