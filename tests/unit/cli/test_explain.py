"""``opportune explain``: trees for people and machines, from files of events and from a state directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flows.loop import Arrived, Loop
from opportune.audiences.loader import load_project
from opportune.cli.main import main
from opportune.compiled import Compiled
from state.rocks import RocksStore, shared_memory
from state.shard_identity import Expected, Identity, open_shard
from tests.oracle.builders import DAY_0, identify, track
from tests.oracle.engine import warehouse
from tests.unit.audiences.projects import WAREHOUSE, write

AUDIENCES = """\
- name: keen
  description: looks again and again
  when:
    all:
      - {event: Viewed, where: {price: "> 5"}, times: ">= 3", within: 10 minutes}
      - {attribute: plan, is: free}
    none:
      - {trait: locale, is: de}
- {name: newcomer, when: {audience: keen}}
"""
TABLE = "user_id,plan,mrr,since,vip\nann,free,1.5,2020-01-01,true\n"
DEAR = {"price": 10}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    lines = [
        track("Viewed", 0, properties=DEAR),
        track("Viewed", 60_000, properties=DEAR),
        identify(70_000, traits={"locale": "de"}),
    ]
    events = b"\n".join(lines)
    files: dict[str, str | bytes] = {"audiences/a.yml": AUDIENCES, "warehouse.yml": WAREHOUSE, "customers.csv": TABLE}
    return write(tmp_path, {**files, "events.jsonl": events, "opportune.yml": "name: shop\nstate: {shards: 2}\n"})


def run(directory: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", str(directory), *arguments])


def explained(directory: Path, *arguments: str) -> Any:
    result = run(directory, *arguments, "--events", str(directory / "events.jsonl"), "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_tree_says_what_was_seen_and_what_is_missing(shop: Path) -> None:
    result = run(shop, "ann", "keen", "--events", str(shop / "events.jsonl"))
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "user_id:ann is not in keen at 2023-11-14T22:14:30.000Z",
        "(looks again and again)",
        "no   all of these",
        "├─ no   all of these",
        "│  ├─ no   Viewed where price is greater than 5, at least 3 times in the last 10 minutes",
        "│  │       saw: 2, at 22:13:20, 22:14:20",
        "│  │       missing: 1 more, while those there are in the 10 minutes",
        "│  └─ yes  the attribute customers.plan is free",
        "│          saw: free",
        "└─ no   none of these",
        "   └─ yes  the trait locale is de",
        "           saw: de, since 2023-11-14T22:14:30.000Z",
        "           missing: it must not hold",
        "As long as nothing happens, that stays so.",
    ]


def test_what_a_machine_reads(shop: Path) -> None:
    answer = explained(shop, "ann", "keen")
    assert (answer["member"], answer["at"], answer["identifiers"]) == (
        False,
        "2023-11-14T22:14:30.000Z",
        ["user_id:ann"],
    )
    views = answer["condition"]["parts"][0]["parts"][0]
    assert views["value"] == 2
    assert views["instants"] == ["2023-11-14T22:13:20.000Z", "2023-11-14T22:14:20.000Z"]


def test_an_instant_in_between(shop: Path) -> None:
    answer = explained(shop, "ann", "keen", "--at", "2023-11-14T22:13:21Z")
    assert answer["condition"]["parts"][0]["parts"][0]["value"] == 1
    assert answer["at"] == "2023-11-14T22:13:21.000Z"


def test_all_audiences_where_none_is_named(shop: Path) -> None:
    assert [each["audience"] for each in explained(shop, "ann")] == ["keen", "newcomer"]


def test_a_membership_that_ends_says_when(shop: Path) -> None:
    (shop / "events.jsonl").write_bytes(b"\n".join(track("Viewed", at, properties=DEAR) for at in (0, 1_000, 2_000)))
    answer = explained(shop, "ann", "newcomer")
    assert (answer["member"], answer["next_change"]) == (True, "2023-11-14T22:23:20.000Z")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["ann", "kean", "--events", "events.jsonl"], 2, "did you mean keen?"),
        (["zoe", "keen", "--events", "events.jsonl"], 1, "nobody is called zoe"),
        (["ann", "keen"], 2, "--events FILE or --state"),
        (["ann", "keen", "--state"], 65, "there is no state"),
        (["ann", "keen", "--events", "nothing.jsonl"], 78, "cannot read the events of nothing.jsonl"),
        (["ann", "keen", "--at", "soon", "--events", "events.jsonl"], 2, "not an ISO 8601 instant"),
    ],
)
def test_what_cannot_be_explained(
    shop: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, says: str
) -> None:
    monkeypatch.chdir(shop)
    result = run(shop, *arguments)
    assert result.exit_code == code, result.output
    assert says in result.output


def test_the_state_of_a_job(shop: Path) -> None:
    project = load_project(shop)
    compiled = Compiled(project)
    stores = []
    for shard in range(2):
        store = RocksStore(shop / "state" / "shards" / f"{shard:04d}", shared_memory(8 << 20, 8 << 20))
        identity = Identity(project="shop", shard=shard, shards=2)
        open_shard(store, Expected(identity, compiled.plan.fingerprint.encode(), b"r"))
        stores.append(store)
    loop = Loop(project, 2, stores.__getitem__, tables=warehouse(project, shop))
    raws = (shop / "events.jsonl").read_bytes().splitlines()
    loop.feed([Arrived("events", 0, offset, DAY_0 + 80_000, raw) for offset, raw in enumerate(raws)])
    # The job still runs: it is looked at beside it.
    result = run(shop, "ann", "keen", "--state", "--at", "2023-11-14T22:15:00Z", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["condition"]["parts"][0]["parts"][0]["value"] == 2
    (shop / "audiences" / "a.yml").write_text("name: keen\nwhen: {event: Viewed}\n")
    result = run(shop, "ann", "keen", "--state")
    assert (result.exit_code, "other definitions" in result.output) == (65, True)
