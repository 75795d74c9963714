"""The OpenAPI document is true, and no request that it allows or forbids makes the service fail: Schemathesis against it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from opportune.clock import wall_clock_ms
from opportune.event import iso_text
from tests.api.serving import make_topic, serving
from tests.api.test_lookups import send, write_project
from tests.crash.running import running_job, until
from tests.kafka.broker import Kafka

SECONDS = 30
SETTINGS = Path(__file__).with_name("schemathesis.toml")
STREAMS = "^/v1/changes$"
"""Answers that never end have tests of their own."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def address(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with a person to find. The job has ended, so that nothing moves meanwhile."""
    directory = write_project(
        tmp_path_factory.mktemp("openapi") / "p", f"openapi-{wall_clock_ms()}", kafka.bootstrap_servers
    )
    make_topic(kafka.bootstrap_servers, f"{directory_name(directory)}.events")
    with serving(directory, "--log-level", "INFO", ready=False) as address:
        with running_job(directory, kafka.bootstrap_servers) as job:
            job.start()
            job.wait_running()
            until(lambda: httpx.get(f"{address}/readyz").status_code == 200, "the service is ready")
            now = iso_text(wall_clock_ms())
            send(address, {"type": "track", "event": "Bought", "userId": "ada", "messageId": "1", "timestamp": now})
            until(lambda: httpx.get(f"{address}/v1/profiles/user_id:ada").status_code == 200, "she is known")
        yield address


def directory_name(directory: Path) -> str:
    return (directory / "opportune.yml").read_text().split()[1]


def test_no_request_makes_it_fail_and_every_answer_is_as_documented(address: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("st")), "--config-file", str(SETTINGS), "run", f"{address}/openapi.json"),
            *("--no-color", "--exclude-path-regex", STREAMS, "--phases", "examples,coverage,fuzzing"),
            *("--max-examples", "20", "--max-time", str(SECONDS), "--seed", "7", "--generation-database", "none"),
            *("--request-timeout", "20", "--continue-on-failure", "--report-json-path", str(report)),
        ],
        capture_output=True, text=True, cwd=tmp_path, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert json.loads(report.read_text())


def test_the_document_knows_every_address(address: str) -> None:
    paths = httpx.get(f"{address}/openapi.json").json()["paths"]
    assert {"/v1/lookups", "/v1/batch", "/v1/profiles/{identifier}/audiences/{audience}", "/metrics"} <= paths.keys()
    assert httpx.get(f"{address}/docs").status_code == 200


@pytest.mark.parametrize(
    "who", ["user_id:ada", "user_id:row", "user_id:nobody", "user_id:", "ada", "email:Ada@Example.org"]
)
@pytest.mark.parametrize("audience", ["active", "gone", "french", "free", "none"])
def test_the_short_way_to_a_membership_says_what_the_route_says(address: str, who: str, audience: str) -> None:
    place = f"{address}/v1/profiles/{who}/audiences/{audience}"
    # Any question at all takes the long way.
    short, long = httpx.get(place), httpx.get(place, params={"min_freshness_ms": 3_600_000})
    assert (short.status_code, timeless(short)) == (long.status_code, timeless(long))
    assert short.headers["content-type"] == long.headers["content-type"]
    assert httpx.head(place).status_code == 405
    assert httpx.get(place + "/").status_code in (307, 404)


def timeless(answer: httpx.Response) -> Any:
    """An answer without its age."""
    body = answer.json()
    body.get("freshness", {}).pop("age_ms", None)
    return body


def test_the_short_way_was_taken(address: str) -> None:
    before = counted(address)
    httpx.get(f"{address}/v1/profiles/user_id:ada/audiences/free")
    assert counted(address) == before + 1


def counted(address: str) -> int:
    """Memberships that were told the short way."""
    text = httpx.get(f"{address}/metrics").text
    found = re.search(r'^opportune_lookups_total\{outcome="found",way="short"\} (\d+)$', text, re.MULTILINE)
    return int(found[1]) if found else 0
