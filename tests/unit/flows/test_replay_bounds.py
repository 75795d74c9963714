"""A replay gives the same whatever stays open in memory, and whether people are introduced together or one by one."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flows import replay_desk, replay_layers
from flows.batch import Batch
from flows.replay import Replay
from flows.replay_actor import ReplayActor
from opportune.audiences.loader import load_project
from opportune.event import iso_text
from opportune.project import Project
from state.outbox import OutboxMessage
from tests.oracle.builders import DAY_0

SEEDS = range(8)
AUDIENCES = [
    {"name": "often", "when": {"event": "A", "times": ">= 3", "within": "10 minutes"}},
    {
        "name": "left",
        "when": {"all": [{"event": "A", "within": "1 minute"}], "none": [{"event": "B", "within": "1 minute"}]},
    },
    {"name": "twice", "when": {"event": "B", "times": 2}},
    {"name": "free", "when": [{"audience": "left"}, {"trait": "plan", "is": "free"}]},
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    directory = tmp_path_factory.mktemp("shop")
    (directory / "audiences").mkdir()
    (directory / "audiences" / "all.yml").write_text(json.dumps(AUDIENCES))
    (directory / "opportune.yml").write_text(
        json.dumps({"name": "shop", "clock": {"lateness": "1 hour"}, "dedupe": {"period": "1 hour"}})
    )
    return load_project(Path(directory))


def log(seed: int) -> list[bytes]:
    """People with devices that they log in on, some of them shared; merges, ties, late events and repeats."""
    choose, at_ms, lines = random.Random(seed), DAY_0, list[bytes]()
    people = choose.choice((4, 40, 150))
    for number in range(600):
        at_ms += choose.choice((0, 0, 1, 500, 20_000, 100_000))
        person = choose.randrange(people)
        device = choose.randrange(people) if choose.random() < 0.1 else person
        message: dict[str, Any] = {
            "type": "track",
            "event": choose.choice("AAABC"),
            "messageId": f"m{number - choose.randrange(40) // 38}",
            "timestamp": iso_text(at_ms - choose.choice((0, 0, 0, 0, 1_000, 60_000, 5_000_000))),
        }
        who = choose.random()
        if who < 0.7:
            message["anonymousId"] = f"d{device}"
        if who > 0.4:
            message["userId"] = f"u{person}"
        kind = choose.random()
        if kind < 0.1:
            message |= {"type": "identify", "traits": {"plan": choose.choice(("free", "pro"))}}
        elif kind < 0.13:
            message |= {"type": "alias", "previousId": f"{choose.choice('du')}{choose.randrange(people)}"}
        lines.append(json.dumps(message).encode())
    return lines


def played(project: Project, lines: list[bytes]) -> tuple[list[str], Replay]:
    one = Replay(project, clock=lambda: DAY_0)
    blocks = [lines[start : start + 100] for start in range(0, len(lines), 100)]
    return [value for told in one.run_blocks(blocks) for _, _, value, _ in told], one


@pytest.mark.parametrize("seed", SEEDS)
def test_introduced_together_or_one_by_one(shop: Project, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = log(seed)
    together, one = played(shop, lines)
    monkeypatch.setattr(replay_layers, "KNOWN_MAX", 0)
    one_by_one, other = played(shop, lines)
    assert len(together) > 100
    assert together == one_by_one
    assert summary(one) == summary(other)


def test_strangers_are_introduced_together(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    applied = [0]
    apply = ReplayActor.apply

    def counted(self: ReplayActor, batch: Batch, *, quiet: bool = False) -> list[OutboxMessage]:
        applied[0] += 1
        return apply(self, batch, quiet=quiet)

    monkeypatch.setattr(ReplayActor, "apply", counted)
    lines = [
        json.dumps({
            "type": "track",
            "event": "A",
            "timestamp": iso_text(DAY_0 + number),
            "anonymousId": f"d{number % 100}",
            **({"userId": f"u{number % 100}"} if number >= 100 else {}),
        }).encode()
        for number in range(500)
    ]  # fmt: skip
    together, one = played(shop, lines)
    assert (one.result.profiles, len(together)) == (100, 400)
    assert applied[0] < 15
    monkeypatch.setattr(replay_layers, "KNOWN_MAX", 0)
    assert played(shop, lines)[0] == together
    assert applied[0] > 300


@pytest.mark.parametrize("seed", SEEDS)
def test_who_stays_open_changes_nothing(shop: Project, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = log(seed)
    roomy, one = played(shop, lines)
    monkeypatch.setattr("flows.replay.CHUNK", 10)
    monkeypatch.setattr(replay_desk, "AT_HAND", 1)
    monkeypatch.setattr(replay_desk, "KEPT_MAX", 3)
    monkeypatch.setattr(replay_desk, "WEIGH_EVERY", 5)
    tight, other = played(shop, lines)
    assert len(other.actor.desk.at_hand) < len(one.actor.desk.at_hand)
    assert tight == roomy
    assert summary(one) == summary(other)
    assert dict(one.actor.settle().scan("profiles")).keys() == dict(other.actor.settle().scan("profiles")).keys()


def test_heavy_profiles_do_not_stay(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = log(3)
    roomy, one = played(shop, lines)
    monkeypatch.setattr("flows.replay.CHUNK", 10)
    monkeypatch.setattr(replay_desk, "KEPT_BYTES", 20)
    monkeypatch.setattr(replay_desk, "WEIGH_EVERY", 20)
    tight, other = played(shop, lines)
    desk = other.actor.desk
    assert desk.before, "somebody was let go"
    assert not one.actor.desk.before
    assert tight == roomy


def summary(one: Replay) -> dict[str, Any]:
    """What was counted."""
    found: dict[str, Any] = msgspec.to_builtins(one.result)
    return found
