"""Whoever has more events than are kept one by one is told so: in changes, explanations, look-ups and ``check``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows.loop import Arrived, Loop
from flows.replay import Replay
from opportune.audiences.loader import load_project
from opportune.cli.main import main
from opportune.compiled import Compiled
from opportune.features import limits
from opportune.features.limits import Limits
from opportune.identity import profile_id
from state.people import People
from state.reader import ShardReader
from state.rocks import RocksStore, shared_memory
from tests.oracle.builders import DAY_0, track
from tests.unit.audiences.projects import write

AUDIENCES = """\
- {name: spends, when: {event: Bought, sum: total, is: {gte: 3}, within: 1 minute}}
- {name: varied, when: {event: Bought, distinct: total, is: {gte: 3}, within: 1 minute}}
- {name: latest, when: {event: Bought, last: total, is: {gte: 3}, within: 1 minute}}
- {name: came_back, when: {sequence: [{event: Bought}, {event: Left}], within: 1 minute}}
- {name: nested, when: [{audience: spends}, {event: Bought, within: 1 minute}]}
"""
LOG = [track("Bought", 100 * number, properties={"total": number}) for number in range(30)]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Eight events are kept as they are."""
    monkeypatch.setattr(limits, "FULL", Limits(entries=8, hops=8, sketches=8))
    before = limits.dropped[0], limits.coarsened[0]
    yield
    limits.dropped[0], limits.coarsened[0] = before


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project with events of one person who does too much."""
    files: dict[str, str | bytes] = {"audiences/a.yml": AUDIENCES, "opportune.yml": "name: shop\nstate: {shards: 1}\n"}
    return write(tmp_path, {**files, "events.jsonl": b"\n".join(LOG)})


def test_changes_say_so_from_then_on(shop: Path) -> None:
    one = Replay(load_project(shop), until_ms=DAY_0 + 120_000)
    changes = list(one.run(LOG))
    told = {(change.audience, change.change): change.approximate for change in changes}
    assert told == {
        ("spends", "entered"): False,
        ("spends", "exited"): True,
        ("nested", "entered"): False,
        ("nested", "exited"): True,
        ("varied", "entered"): False,
        ("varied", "exited"): True,
        ("latest", "entered"): False,
        ("latest", "exited"): False,
    }
    exits = {change.audience: change.at for change in changes if change.change == "exited"}
    # A hop of a minute in eight parts is 7.5 seconds; DAY_0 is 2.5 seconds after the beginning of one.
    assert exits["latest"] == "2023-11-14T22:14:22.900Z"
    assert exits["latest"] <= exits["spends"] < "2023-11-14T22:14:30.400Z"


def explained(shop: Path, audience: str) -> Any:
    arguments = ["explain", str(shop), "ann", audience, "--events", str(shop / "events.jsonl"), "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["condition"]


def test_explanations_say_so_and_how_much(shop: Path) -> None:
    spends = explained(shop, "spends")
    assert spends["approximate"]
    assert "(approximate: of a window up to 7.5 seconds longer)" in spends["saw"]
    assert "by a sketch of 1.6% standard error" in explained(shop, "varied")["saw"]
    assert "of the newest events only" in explained(shop, "came_back")["saw"]
    assert "approximate" not in explained(shop, "latest")


def test_look_ups_name_the_audiences(shop: Path, tmp_path: Path) -> None:
    project = load_project(shop)
    store = RocksStore(tmp_path / "0000", shared_memory(8 << 20, 16 << 20))
    loop = Loop(project, 1, lambda _: store)
    found = []
    people = People(Compiled(project), {})
    for number, raw in enumerate(LOG):
        loop.feed([Arrived("events", 0, number, DAY_0 + 100 * number, raw)])
        if number in (7, len(LOG) - 1):
            reader = ShardReader(tmp_path / "0000")
            reader.catch_up()
            person = people.find(reader, profile_id("user_id", "ann"), DAY_0)
            assert person is not None
            found.append(person.approximate)
            reader.close()
    assert found == [[], ["came_back", "nested", "spends", "varied"]]
    assert limits.dropped[0] > 0
    assert limits.coarsened[0] > 0


def test_check_states_the_error(shop: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(shop), "--explain-plan", "--json"])
    plan = json.loads(result.stdout)["plan"]
    errors = {tuple(feature["audiences"]): feature["error"] for feature in plan["features"]}
    assert errors["spends",] == "of a window up to 7.5 seconds longer"
    assert errors["varied",] == "of a window up to 7.5 seconds longer, by a sketch of 1.6% standard error"
    assert errors["latest",] == ""
    assert errors["came_back",] == "of the newest events only"
    text = CliRunner().invoke(main, ["check", str(shop), "--explain-plan"]).stdout
    assert "up to 8 events of the window, beyond that parts of 7.5 seconds" in text
