"""Definitions that change under a real job on a real Kafka: who enters and exits, what waits, and a kill in the middle."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from opportune.cli.check import check
from opportune.cli.explain import explain
from opportune.clock import wall_clock_ms
from tests.crash.judgement import check_written
from tests.crash.running import ROOT, running_job, until
from tests.integration.small_job import SmallJob, small_job
from tests.kafka.broker import Kafka
from tests.oracle.instants import write_instant

pytestmark = pytest.mark.timeout(240)
PEOPLE = [f"u{number}" for number in range(600)]
BEFORE = """
name: looked
when: {event: Looked, times: ">= 3", within: 1 hour}
---
name: left
when: {event: Looked}
---
name: same
when: {event: Looked, times: ">= 2"}
"""
AFTER = """
name: looked
when: {event: Looked, times: ">= 2", within: 1 hour}
---
name: same
when: {event: Looked, times: ">= 2"}
---
name: soon
when: {event: Bought, within: 6 seconds}
---
name: from_now
start: empty
when: {event: Bought, times: ">= 2"}
---
name: never
when: {event: Bought}
"""


def looks(small: SmallJob, *people: str, event: str = "Looked") -> None:
    """Sends an event of each of these people."""
    for person in people:
        body = {"type": "track", "event": event, "userId": person, "timestamp": write_instant(wall_clock_ms())}
        small.send(json.dumps(body).encode(), len(person) % 3)


def deploy(directory: Path, text: str) -> None:
    """Writes other audiences, and no event models: the names are those of track calls."""
    (directory / "audiences" / "all.yml").write_text(text)
    (directory / "events.yml").unlink(missing_ok=True)


def test_a_job_goes_on_with_changed_definitions(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    directory = tmp_path / "project"
    with small_job(directory, kafka.bootstrap_servers, topic_prefix) as small:
        deploy(directory, BEFORE)
        small.job.start()
        small.job.wait_running(60)
        reading = small.reading()
        looks(small, *PEOPLE)
        looks(small, *PEOPLE[:400])
        told: Counter[tuple[str, str, str]] = Counter()

        def counted() -> Counter[tuple[str, str, str]]:
            assert reading.failed is None, str(reading.failed)
            assert not small.job.has_ended(), small.job.said()[-4_000:]
            told.clear()
            told.update((one.audience, one.change, one.cause) for one in reading.news)
            return told

        until(lambda: counted()["same", "entered", "event"] == 400, "the first definitions have their members")
        until(small.is_read, "everything is read")
        assert small.job.terminate()[0] == 0
        deploy(directory, AFTER)
        said = CliRunner().invoke(check, [str(directory), "--against", str(directory / "state")])
        assert said.exit_code == 0, said.output
        assert "features: 2 kept, 2 new, 0 dropped" in said.stdout
        # It is killed in the pass, and goes on with who is left.
        small.job.start("in_succession:3")
        looks(small, "new", event="Bought")
        until(lambda: counted()["left", "exited", "definition"] == 600, "those of an audience that is gone exit", 60)
        until(lambda: counted()["looked", "entered", "definition"] == 400, "those who qualify now enter")
        looks(small, "new", "new", event="Bought")
        until(lambda: counted()["from_now", "entered", "event"] == 1, "what starts empty does not wait")
        until(lambda: counted()["soon", "entered", "definition"] == 1, "what waited begins")
        until(lambda: counted()["soon", "exited", "time"] == 1, "and goes on")
        assert not [key for key in told if key[0] in ("never", "same") and key[2] != "event"]
        settled = {"renewing": 0, "warming": {"never": None}}
        until(lambda: small.job.status()["definitions"] == settled, "the status says what still waits")
        assert small.job.terminate()[0] == 0
        check_written(reading.news)
        why = CliRunner().invoke(explain, [str(directory), "u7", "looked", "--state"])
        assert (why.exit_code, "in" in why.stdout) == (0, True), why.output


def test_what_decides_the_shard_is_refused(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    directory = tmp_path / "project"
    with small_job(directory, kafka.bootstrap_servers, topic_prefix) as small:
        deploy(directory, BEFORE)
        small.job.start()
        small.job.wait_running(60)
        assert small.job.terminate()[0] == 0
        (directory / "identity.yml").write_text("blocked: [nobody]\n")
        small.job.start()
        assert small.job.ended(60) == 65
        assert "count twice" in small.job.said()


def test_the_shop_changes_its_mind(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    """The example, changed as docs/operations.md does it: pricing intent at two looks instead of three."""
    directory = tmp_path / "shop"
    shutil.copytree(ROOT / "examples" / "shop", directory, ignore=shutil.ignore_patterns("state"))
    settings = directory / "opportune.yml"
    settings.write_text(
        settings.read_text().replace("name: shop", f"name: {topic_prefix}").replace("shop.", f"{topic_prefix}.")
    )
    intent = directory / "audiences" / "pricing_intent.yml"
    with running_job(directory, kafka.bootstrap_servers) as job:
        small = SmallJob(job, kafka.bootstrap_servers, topic_prefix)
        job.start()
        job.wait_running(60)
        reading = small.reading()
        looks(small, "u-0001", "u-0001", event="Pricing Viewed")
        until(small.is_read, "everything is read")
        assert not [one for one in reading.news if one.audience == "pricing_intent"]
        assert job.terminate()[0] == 0
        intent.write_text(intent.read_text().replace(">= 3", ">= 2"))
        job.start()
        told = until(lambda: [one for one in reading.news if one.audience == "pricing_intent"], "u-0001 enters", 60)
        assert [(one.change, one.cause) for one in told] == [("entered", "definition")]
        assert job.terminate()[0] == 0
