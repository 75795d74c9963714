"""``opportune identity explain``, and people found by any of their identifiers, in the state of a job over shards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.loop import Arrived, Loop
from opportune.audiences.loader import load_project
from opportune.cli.main import main
from opportune.compiled import Compiled
from opportune.identity import profile_id
from state.rocks import RocksStore, shared_memory
from state.shard_identity import Expected, Identity, open_shard
from tests.oracle.builders import DAY_0, message
from tests.unit.audiences.projects import write

SHARDS = 4
ADA = profile_id("user_id", "ada").hex()


def view(at: int, user: str | None, device: str) -> bytes:
    return message("track", at, user, event="Viewed", anonymousId=device)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job that still runs: Ada browses on two devices and signs in on each, then Ben takes one over; Cay is alone."""
    directory = write(
        tmp_path_factory.mktemp("shop"),
        {
            "audiences/a.yml": 'name: keen\nwhen: {event: Viewed, times: ">= 3"}\n',
            "opportune.yml": f"name: shop\nstate: {{shards: {SHARDS}}}\n",
        },
    )
    project = load_project(directory)
    stores = []
    for shard in range(SHARDS):
        store = RocksStore(directory / "state" / "shards" / f"{shard:04d}", shared_memory(8 << 20, 8 << 20))
        identity = Identity(project="shop", shard=shard, shards=SHARDS)
        open_shard(store, Expected(identity, Compiled(project).plan.fingerprint.encode(), b"r"))
        stores.append(store)
    loop = Loop(project, SHARDS, stores.__getitem__)
    raws = [
        view(0, None, "laptop"),
        view(1_000, None, "phone"),
        view(2_000, "ada", "laptop"),
        view(3_000, "ada", "phone"),
        view(4_000, "ben", "phone"),
        view(5_000, None, "cay"),
    ]
    for offset, raw in enumerate(raws):
        loop.feed([Arrived("events", 0, offset, DAY_0 + offset * 1_000, raw)])
        loop.advance(DAY_0 + offset * 1_000)
    for _ in range(10):
        loop.advance(DAY_0 + 10_000)
    return directory


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments])


@pytest.mark.parametrize("identifier", ["anonymous_id:laptop", "ada", "user_id: ada "])
def test_any_identifier_leads_to_the_person(shop: Path, identifier: str) -> None:
    result = run("identity", "explain", str(shop), identifier, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["profile_id"], found["led_on"]) == (ADA, "laptop" in identifier)
    assert found["identifiers"] == ["user_id:ada", "anonymous_id:laptop"]
    assert [(each["identifier"], each["place"], each["at"]) for each in found["came"]] == [
        ("user_id:ada", "events/0/2", "2023-11-14T22:13:22.000Z"),
        ("anonymous_id:laptop", "events/0/0", "2023-11-14T22:13:20.000Z"),
    ]
    assert [each["place"] for each in found["history"]] == ["events/0/2", "events/0/3", ""]
    merged = profile_id("anonymous_id", "laptop").hex(), profile_id("anonymous_id", "phone").hex()
    assert [(each["what"], each["about"]) for each in found["history"]] == [
        *(("merged", other) for other in merged),
        ("lost", "anonymous_id:phone"),
    ]


def test_a_device_that_changed_hands(shop: Path) -> None:
    result = run("identity", "explain", str(shop), "anonymous_id:phone")
    assert result.exit_code == 0, result.output
    assert f"belongs to profile {profile_id('user_id', 'ben').hex()}" in result.stdout
    assert "anonymous_id:phone belongs to another profile, and a limit keeps the two apart" in result.stdout
    assert "anonymous_id:phone was attached" in result.stdout


def test_a_membership_is_explained_by_any_identifier(shop: Path) -> None:
    result = run("explain", str(shop), "anonymous_id:laptop", "keen", "--state", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["member"], "four views: two on each device"


def test_who_nobody_has_and_what_is_no_identifier(shop: Path, tmp_path: Path) -> None:
    assert run("identity", "explain", str(shop), "zoe").exit_code == 1
    for arguments in (["identity", "explain", str(shop), "user:ada"], ["explain", str(shop), "user:ada", "--state"]):
        result = run(*arguments)
        assert (result.exit_code, "did you mean `user_id:ada`?" in result.output) == (2, True), result.output
    assert run("explain", str(shop), "user_id:user:ada", "--state").exit_code == 1, "a user may be called so"
    assert "stands for nobody" in run("identity", "explain", str(shop), "anonymous_id:null").output
    assert run("identity", "explain", str(shop), "ada", "--state", str(tmp_path)).exit_code == 65
