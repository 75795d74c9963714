"""What every suite has: a real Kafka, profiles of hypothesis, and the seconds that each suite took.

Not here: the broker itself (tests.kafka.broker), fixtures of one suite (its own conftest.py).
"""

from __future__ import annotations

import os
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.kafka.broker import Broker, ExternalKafka, Kafka, KafkaMissing, running_broker

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("dev", max_examples=100, deadline=None)
settings.register_profile(
    "ci",
    max_examples=1_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("long", parent=settings.get_profile("ci"), max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """A Kafka to test against: that of KAFKA_BOOTSTRAP_SERVERS, else a broker of our own.

    Skips where there is none to be had, but fails where CI is set: there it must not go unnoticed.
    """
    address = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if address:
        yield ExternalKafka(address)
        return
    yield from _broker()


@pytest.fixture(scope="session")
def own_kafka(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A broker that a test may stop and start; who stops it starts it again. That of ``kafka`` where it is ours."""
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield from _broker()
    else:
        yield request.getfixturevalue("kafka")


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test has, so that tests share a broker and no topic."""
    return f"t-{uuid.uuid4().hex[:12]}"


def _broker() -> Iterator[Broker]:
    try:
        with running_broker() as broker:
            yield broker
    except KafkaMissing as reason:
        if os.environ.get("CI"):
            pytest.fail(f"no Kafka: {reason}")
        pytest.skip(f"no Kafka: {reason}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the long profiles out unless an expression of markers was given."""
    if config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("long")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what each suite, a folder of tests/, took and how it ended."""
    seconds: dict[str, float] = defaultdict(float)
    outcomes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            outcomes[_suite(report.nodeid)][outcome] += 1
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[_suite(report.nodeid)] += report.duration
    terminalreporter.section("suites")
    for suite, counts in sorted(outcomes.items()):
        said = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        terminalreporter.write_line(f"{suite:<24}{seconds[suite]:>9.1f} s   {said}")


def _suite(node: str) -> str:
    return "/".join(node.split("::", maxsplit=1)[0].split("/")[:2])
