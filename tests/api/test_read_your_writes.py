"""Whoever has sent an event and asks with the position that the collector gave is answered with it counted, at once or not at all.

Also by an identifier that another shard keeps, and of somebody who became a part of another person a moment ago.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import httpx

from opportune.clock import wall_clock_ms
from opportune.event import iso_text
from tests.api.serving import make_topic, serving
from tests.crash.running import running_job, until
from tests.kafka.broker import Kafka

PEOPLE, ROUNDS = 6, 8
PROJECT = (
    "name: {name}\nkafka: {{bootstrap_servers: '{bootstrap}'}}\n"
    "topics: {{partitions: 4, retention: ever}}\nstate: {{shards: 4}}\nepoch: 200 ms\n"
)


def write_project(directory: Path, name: str, bootstrap: str) -> Path:
    for place in ("audiences", "traits"):
        (directory / place).mkdir(parents=True)
    (directory / "opportune.yml").write_text(PROJECT.format(name=name, bootstrap=bootstrap))
    (directory / "audiences" / "a.yml").write_text("name: bought\nwhen: {event: Bought}\n")
    (directory / "traits" / "t.yml").write_text("- {name: buys, event: Bought, count: true}\n")
    return directory


class Teller:
    """Sends events, and asks for what they should have led to."""

    def __init__(self, address: str) -> None:
        self.client = httpx.Client(base_url=address, timeout=30)
        self.sent = 0
        self.took_ms: list[int] = []

    def buy(self, **who: str) -> str:
        """One event; its position."""
        self.sent += 1
        event = {
            "type": "track",
            "event": "Bought",
            "messageId": f"m{self.sent}",
            "timestamp": iso_text(wall_clock_ms()),
        }
        answer = self.client.post("/v1/batch", json={"batch": [event | who]})
        assert answer.json() == {"success": True}
        return answer.headers["opportune-position"]

    def close(self) -> None:
        """Leaves the service."""
        self.client.close()

    def buys(self, identifier: str, position: str) -> Any:
        """How many events the answer has; a refusal is asked again after."""
        began = wall_clock_ms()
        while True:
            answer = self.client.get(f"/v1/profiles/{identifier}", params={"min_position": position})
            assert answer.status_code in (200, 404, 503), answer.text
            if answer.status_code != 503:
                self.took_ms.append(wall_clock_ms() - began)
                return answer.json()["computed_traits"]["buys"] if answer.status_code == 200 else 0


def test_what_was_sent_is_counted(kafka: Kafka, tmp_path: Path, topic_prefix: str) -> None:
    name = topic_prefix
    directory = write_project(tmp_path / name, name, kafka.bootstrap_servers)
    make_topic(kafka.bootstrap_servers, f"{name}.events")
    with (
        contextlib.ExitStack() as stack,
        running_job(directory, kafka.bootstrap_servers) as job,
        serving(directory, "--log-level", "INFO", ready=False) as address,
    ):
        job.start()
        job.wait_running()
        until(lambda: httpx.get(f"{address}/readyz", timeout=30).status_code == 200, "the service is ready")
        teller = stack.enter_context(contextlib.closing(Teller(address)))
        for count in range(1, ROUNDS + 1):
            for who in range(PEOPLE):
                position = teller.buy(userId=f"u{who}", anonymousId=f"a{who}")
                assert teller.buys(f"user_id:u{who}", position) == count
                # The identifier's own shard leads to the person's, also where it has just been heard of.
                assert teller.buys(f"anonymous_id:a{who}", position) == count
        # Two people become one, and more is sent under either identifier meanwhile.
        for who in range(PEOPLE):
            teller.buy(anonymousId=f"b{who}")
            position = teller.buy(userId=f"u{who}", anonymousId=f"b{who}")
            assert teller.buys(f"user_id:u{who}", position) in (ROUNDS + 1, ROUNDS + 2), "before or after the merge"
            until(lambda: teller.buys(f"user_id:u{who}", position) == ROUNDS + 2, "they are one")  # noqa: B023 - at once
            for count in range(1, 4):
                position = teller.buy(anonymousId=f"b{who}")
                assert teller.buys(f"user_id:u{who}", position) == ROUNDS + 2 + count
                assert teller.buys(f"anonymous_id:b{who}", position) == ROUNDS + 2 + count
        many = httpx.post(
            f"{address}/v1/lookups",
            params={"min_position": position},
            json={"identifiers": [f"user_id:u{who}" for who in range(PEOPLE)], "fields": ["computed_traits"]},
            timeout=30,
        ).json()["results"]
        assert [one["profile"]["computed_traits"]["buys"] for one in many] == [ROUNDS + 5] * PEOPLE
    took = sorted(teller.took_ms)
    assert took[len(took) * 9 // 10] < 2_000, "nearly all are answered within one wait"
