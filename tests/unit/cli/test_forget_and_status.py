"""``opportune forget`` and ``opportune status``: what they take, what they say, and with which code they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from flows.erasure_log import Asked
from opportune.cli import forget as forget_module
from opportune.cli.main import main
from opportune.clock import wall_clock_ms

ASKED = Asked(
    request="r1",
    state="erased",
    requested_at="2026-01-01T00:00:00.000Z",
    completed_at=None,
    profiles=2,
    suppressed_until="2028-01-01T00:00:00.000Z",
    message_ids_until="2026-01-02T00:00:00.000Z",
    dead_letters_until="2026-01-31T00:00:00.000Z",
)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "opportune.yml").write_text("name: shop\n")
    (tmp_path / "audiences").mkdir()
    (tmp_path / "audiences" / "a.yml").write_text("name: a\nwhen: {event: A}\n")
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give one or more identifiers, or --status"),
        (["user_id:ada", "--status", "r1"], "give one or more identifiers, or --status"),
        (["user_id:null"], "stands for nobody"),
        (["email: "], "is no email"),
        (["user:ada"], "did you mean `user_id:ada`?"),
        (["email:a@b.c", "userid:ada"], "`userid` is no namespace of this project: it has `user_id`, `email`, `phone`"),
        (["urn:ada"], "is written `user_id:urn:ada`"),
        (["user_id:ada", "shopp"], "'shopp' is no directory with an opportune.yml"),
        (["shopp", "user_id:ada"], "such as user_id:shopp"),
        (["ada", "bob"], "among several identifiers each is written namespace:value"),
    ],
)
def test_what_names_nobody_is_refused(shop: Path, words: list[str], told: str) -> None:
    done = run("forget", *words, shop)
    assert done.exit_code == 2
    assert told in done.output


def test_without_a_broker_nothing_is_asked(shop: Path) -> None:
    # Nobody listens on port 1.
    done = run("forget", "--status", "r1", shop, "--bootstrap-servers", "127.0.0.1:1")
    assert done.exit_code == 75
    assert "cannot be read" in done.output


def test_a_request_is_told_for_people() -> None:
    text = forget_module.told(ASKED)
    assert "request r1, made at 2026-01-01T00:00:00.000Z: erased" in text
    assert "profiles forgotten: 2" in text
    assert "refused until 2028-01-01T00:00:00.000Z" in text
    assert "nobody" not in text
    nobody = "profiles forgotten: 0: nobody had this identifier"
    assert nobody in forget_module.told(msgspec.structs.replace(ASKED, state="complete", profiles=0))
    assert nobody not in forget_module.told(msgspec.structs.replace(ASKED, state="pending", profiles=0)), "not yet"


def test_a_directory_that_is_mistyped_is_no_identifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for words in (["user_id:ada", "shopp"], ["--status", "r1", "shopp"]):
        done = run("forget", *words)
        assert done.exit_code == 2
        assert str(elsewhere / "shopp") in done.output.replace("\n", "")


def write_status(shop: Path, **more: Any) -> None:
    figures = {
        "at_ms": wall_clock_ms(), "started_ms": 1_767_225_600_000, "shard_ms": {"0": wall_clock_ms()}, "lag": {"events/0": 3}, "events": 7, "changes": 2,
        "profiles": 1, "rejected": {"forgotten": 4}, "drained": False, "mail_under_way": 5, "erasures": {"open": 1},
    }  # fmt: skip
    (shop / "state").mkdir(exist_ok=True)
    (shop / "state" / "status.json").write_text(json.dumps(figures | more))


def test_a_status_is_told(shop: Path) -> None:
    assert run("status", shop).exit_code == 75
    write_status(shop)
    done = run("status", shop)
    assert done.exit_code == 0
    since = "since the worker's start at 2026-01-01T00:00:00.000Z: 7 records read, 2 membership changes, +1 profiles"
    for text in (since, "3 records wait", "mail on its way: 5", "drained: no", "not complete: 1", "forgotten 4"):
        assert text in done.output
    assert json.loads(run("status", shop, "--json").output)["mail_under_way"] == 5


def test_whether_it_is_drained_is_the_exit_code(shop: Path) -> None:
    write_status(shop)
    assert run("status", shop, "--drained", "--seconds", "0").exit_code == 75
    write_status(shop, drained=True)
    assert run("status", shop, "--drained").exit_code == 0
    write_status(shop, drained=True, at_ms=wall_clock_ms() - 60_000)
    done = run("status", shop, "--drained", "--seconds", "0")
    assert done.exit_code == 75
    assert "does not run" in done.output
