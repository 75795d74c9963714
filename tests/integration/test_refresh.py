"""Tables that change while a real job runs on a real Kafka: people who sit still move, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from opportune.cli.main import main
from opportune.clock import wall_clock_ms
from opportune.identity import profile_id
from opportune.membership import MembershipChange
from tests.crash.judgement import ReadingAlong
from tests.crash.running import until
from tests.integration.small_job import SmallJob, small_job
from tests.kafka.broker import Kafka
from tests.oracle.instants import read_instant

pytestmark = pytest.mark.timeout(240)
FREE = 3_000
PEOPLE = [f"u{number}" for number in range(FREE)]
TABLE = """
tables:
  customers: {source: customers.csv, key: user_id, columns: {plan: string}, refresh: 1 second, guard: {cells_changed: 100%}}
"""
AUDIENCES = """
name: free
when: {attribute: plan, is: free}
---
name: free_counted
when: [{attribute: plan, is: free}, {event: Counted}]
"""


class Shop:
    """A running job with a table, and a subscriber that reads along."""

    def __init__(self, small: SmallJob, directory: Path) -> None:
        self.small = small
        self.job = small.job
        self.directory = directory
        self.reading: ReadingAlong | None = None

    def write(self, plans: dict[str, str]) -> None:
        text = "user_id,plan\n" + "".join(f"{key},{plan}\n" for key, plan in plans.items())
        beside = self.directory / "customers.new"
        beside.write_text(text)
        beside.rename(self.directory / "customers.csv")

    def start(self, kill_at: str = "") -> None:
        self.job.start(kill_at)
        self.job.wait_running(60)
        if self.reading is None:
            self.reading = self.small.reading()

    @property
    def news(self) -> list[MembershipChange]:
        assert self.reading is not None
        assert self.reading.failed is None, str(self.reading.failed)
        return list(self.reading.news)

    def members(self, audience: str) -> set[str]:
        found: set[str] = set()
        for one in self.news:
            if one.audience == audience:
                (found.add if one.change == "entered" else found.discard)(one.profile_id)
        return found

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
        def met() -> object:
            assert not self.job.has_ended(), self.job.said()[-6_000:]
            return condition()

        until(met, what, seconds)


@pytest.fixture
def shop(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> Iterator[Shop]:
    directory = tmp_path / "project"
    with contextlib.ExitStack() as stack:
        small = stack.enter_context(small_job(directory, kafka.bootstrap_servers, topic_prefix))
        (directory / "warehouse.yml").write_text(TABLE)
        (directory / "audiences" / "attributes.yml").write_text(AUDIENCES)
        shop = Shop(small, directory)
        shop.write(dict.fromkeys(PEOPLE, "free"))
        shop.start()
        shop.wait(lambda: len(shop.members("free")) == FREE, "everybody on the free plan is found")
        yield shop
        if shop.reading is not None:
            shop.reading.stop_at_end()


def ids(names: list[str]) -> set[str]:
    return {profile_id("user_id", name).hex() for name in names}


def test_people_who_sit_still_move(shop: Shop) -> None:
    shop.small.count("u1")
    shop.wait(lambda: shop.members("free_counted") == ids(["u1"]), "an event and a row make a member")
    began = wall_clock_ms()
    # u30 to u39 are gone.
    paid, new = PEOPLE[:30], ["new1", "new2"]
    shop.write({**dict.fromkeys(PEOPLE[40:], "free"), **dict.fromkeys(paid, "paid"), **dict.fromkeys(new, "free")})
    shop.wait(lambda: shop.members("free") == ids([*PEOPLE[40:], *new]), "the table's change has come through")
    assert shop.members("free_counted") == set()
    newest = max(one.snapshot["customers"] for one in shop.news if one.snapshot)
    moved = [one for one in shop.news if one.snapshot.get("customers") == newest]
    expected = [("free", "exited")] * 40 + [("free", "entered")] * 2 + [("free_counted", "exited")]
    found = sorted((one.audience, one.change) for one in moved if one.audience in ("free", "free_counted"))
    assert found == sorted(expected), "all of them by one snapshot"
    assert {one.cause for one in moved} == {"attribute"}
    assert min(read_instant(one.at) or 0 for one in moved) >= began - 1_000
    assert len({one.id for one in shop.news}) == len(shop.news)


def test_an_empty_table_is_held_back_and_a_broken_one_changes_nothing(shop: Shop) -> None:
    shop.write({})
    shop.job.wait_said("held back: 3,000 of 3,000 rows are gone")
    (shop.directory / "customers.csv").write_text("user_id,plan\nu1,free\n,free\n")
    shop.job.wait_said("the key is empty")
    shop.wait(
        lambda: shop.job.status()["warehouse"]["customers"]["last"]["outcome"] == "failed", "the status says so too"
    )
    (shop.directory / "customers.csv").unlink()
    shop.job.wait_said("there is no such file")
    assert len(shop.members("free")) == FREE
    # A start with the source away takes the last good snapshot.
    assert shop.job.terminate()[0] == 0
    shop.start()
    shop.small.count("u7")
    shop.wait(lambda: shop.members("free_counted") == ids(["u7"]), "the last good snapshot is in force")
    shop.write({**dict.fromkeys(PEOPLE[1:], "free"), "u0": "paid"})
    shop.wait(lambda: shop.members("free") == ids(PEOPLE[1:]), "the source is back")


@pytest.mark.parametrize("point", ["in_comparison:2", "in_refresh:1", "in_refresh:3", "in_refresh:6"])
def test_a_job_that_is_killed_half_way_goes_on(shop: Shop, point: str) -> None:
    """Killed while people are switched: everybody is, once."""
    assert shop.job.terminate()[0] == 0
    shop.write({**dict.fromkeys(PEOPLE[:1_500], "paid"), **dict.fromkeys(PEOPLE[1_500:], "free")})
    shop.job.start(point)
    shop.job.wait_said("the worker ended with")
    shop.job.terminate()
    shop.start()
    shop.wait(lambda: shop.members("free") == ids(PEOPLE[1_500:]), "everybody is where the table says")
    exits = [one for one in shop.news if one.audience == "free" and one.change == "exited"]
    assert len(exits) == 1_500
    assert {one.cause for one in exits} == {"attribute"}


def test_what_diff_tells_is_what_happens(shop: Shop) -> None:
    """Asked while the job runs; what it tells happens when the table is refreshed in truth."""
    for person in ("u1", "u2", "u3"):
        shop.small.count(person)
    shop.wait(lambda: shop.members("free_counted") == ids(["u1", "u2", "u3"]), "three are counted")
    (shop.directory / "warehouse.yml").write_text(TABLE.replace("1 second", "manual"))
    assert shop.job.terminate()[0] == 0
    shop.start()
    shop.write({**dict.fromkeys(PEOPLE[1:40], "paid"), **dict.fromkeys(PEOPLE[40:], "free"), "new": "free"})
    arguments = [str(shop.directory), "--state", str(shop.job.state)]
    told: list[Counter[tuple[str, str]]] = []
    for command in (["diff"], ["refresh", "--dry-run"]):
        done = CliRunner().invoke(main, ["warehouse", *command, *arguments])
        assert done.exit_code == 0, done.output
        lines = re.findall(r"^  (\w+): ([\d,]+) enter, ([\d,]+) exit$", done.output, re.MULTILINE)
        counts = {(name, "entered"): int(entered) for name, entered, _ in lines}
        told.append(+Counter(counts | {(name, "exited"): int(exited) for name, _, exited in lines}))
    assert told[0] == told[1]
    assert told[0][("free", "exited")] == 40
    assert told[0][("free_counted", "exited")] == 3
    before = len(shop.news)
    assert CliRunner().invoke(main, ["warehouse", "refresh", *arguments]).exit_code == 0
    shop.wait(lambda: len(shop.news) >= before + told[0].total(), "all of it has come")
    assert shop.members("free_counted") == set()
    assert Counter((one.audience, one.change) for one in shop.news[before:] if one.cause == "attribute") == told[0]


def test_a_table_that_never_changes_leaves_nothing_behind(shop: Shop) -> None:
    """Refreshed every second or two: no change is told, and no file, descriptor or memory stays. bench.soak takes longer."""
    ends: set[int] = set()

    def refreshed(times: int) -> bool:
        last = shop.job.status().get("warehouse", {}).get("customers", {}).get("last")
        if last is not None:
            assert last["outcome"] in ("published", "unchanged"), last
            ends.add(last["at_ms"])
        return len(ends) >= times

    def looked() -> tuple[list[str], int, int, int]:
        worker = psutil.Process(shop.job.worker())
        shelf = shop.job.state / "warehouse" / "customers"
        names = sorted(path.name for path in shelf.iterdir() if not path.name.startswith("new-"))
        return names, len(shop.news), worker.num_fds(), worker.memory_info().rss

    shop.wait(lambda: refreshed(3), "the first refreshes are done", 120)
    names, news, descriptors, resident = looked()
    shop.wait(lambda: refreshed(11), "more of them are done", 180)
    after = looked()
    assert after[:2] == (names, news)
    assert after[2] <= descriptors + 2, (
        "the broker's client opens a connection now and then, a leak would be one a refresh"
    )
    assert after[3] < resident + (16 << 20)
