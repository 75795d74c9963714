"""``opportune test``: stories that pass, that fail and say why, and that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from opportune.cli.main import main
from tests.conftest import ROOT
from tests.unit.audiences.projects import WAREHOUSE, write

AUDIENCES = """\
- {name: busy, when: {event: Viewed, times: ">= 2", within: 10 minutes}}
- {name: free, when: {attribute: plan, is: free}}
"""
PASSES = """\
story: two views, and ten minutes pass
person: ada
timeline:
- {at: 12:00, event: Viewed, out: busy}
- {at: +1m, event: Viewed, entered: busy}
- {at: 12:09:59.999, in: busy}
- {at: 12:10, exited: busy, members: {busy: []}}
"""


def shop(directory: Path, stories: str) -> Path:
    return write(
        directory,
        {
            "audiences/a.yml": AUDIENCES,
            "warehouse.yml": WAREHOUSE,
            "customers.csv": "user_id,plan,mrr,since,vip\nada,free,1,,\n",
            "stories/s.yml": stories,
        },
    )


def run(directory: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["test", str(directory), *arguments])


def failures(directory: Path, timeline: str) -> list[tuple[str, str]]:
    """What was expected and what was, of a story about ada, who views at 12:00 and 12:01."""
    rows = "- {at: 12:00, person: ada, event: Viewed}\n- {at: 12:01, person: ada, event: Viewed}\n"
    stories = f"story: s\nwarehouse: {{customers: [{{user_id: bob, plan: free}}]}}\ntimeline:\n{rows}{timeline}\n"
    result = run(shop(directory, stories), "--json")
    answer: dict[str, Any] = json.loads(result.stdout)
    (story,) = answer["stories"]
    assert result.exit_code == (0 if story["passed"] else 1)
    return [(failure["expected"], failure["was"]) for failure in story["failures"]]


def test_the_stories_of_the_shop_pass() -> None:
    result = run(ROOT / "examples" / "shop")
    assert result.exit_code == 0, result.output
    assert "stories pass" in result.output


def test_a_story_that_passes_is_one_line(tmp_path: Path) -> None:
    result = run(shop(tmp_path, PASSES))
    assert result.output.splitlines() == ["pass  two views, and ten minutes pass  stories/s.yml:1", "1 story passes"]


def test_a_millisecond_decides(tmp_path: Path) -> None:
    result = run(shop(tmp_path, PASSES.replace("12:09:59.999", "12:10")))
    assert result.exit_code == 1
    assert "WRONG  ada is in busy, but ada is out" in result.output
    assert "12:10:00        -> ada exits busy, by time" in result.output
    assert "1 of 1 story failed" in result.output


@pytest.mark.parametrize(
    ("timeline", "found"),
    [
        ("- {in: {busy: ada}}", []),
        ("- {in: {free: bob}, out: {free: ada, busy: bob}}", []),
        ("- {members: {busy: [ada], free: [bob]}}", []),
        ("- {in: {busy: [ada, bob]}}", [("ada, bob are in busy", "bob is out")]),
        ("- {out: {busy: ada}}", [("ada is out of busy", "ada is in")]),
        ("- {members: {busy: []}}", [("members of busy: nobody", "ada is too")]),
        ("- {members: {busy: bob}}", [("members of busy: bob", "bob is not, ada is too")]),
        ("- {at: +1ms, entered: {busy: ada}}", [("ada enters busy", "ada entered at 2026-03-02T12:01:00.000Z")]),
        ("- {at: +1ms, exited: {busy: ada}}", [("ada exits busy", "ada never exited")]),
        ("- {at: +1h, exited: {busy: ada}}", [("ada exits busy", "ada exited at 2026-03-02T12:10:00.000Z")]),
        ("- {at: -25h, person: ada, event: Viewed, in: busy}", [("refused: no", "the message was refused: too_late")]),
        ("- {person: ada, event: Viewed, refused: too_late, in: busy}", [("refused: too_late", "the message was taken, not refused as too_late")]),
        ("- {at: -25h, person: ada, event: Viewed, refused: too_late, in: busy}", []),
        # The instant as a whole: what stands below in the same millisecond counts.
        ("- {at: +1h, out: {busy: ada}}\n- {person: ada, event: Viewed}\n- {person: ada, event: Viewed}", [("ada is out of busy", "ada is in")]),
        # Time that passed without events makes an event late.
        ("- {at: +1h, out: {busy: ada}}\n- {at: +1m}\n- {at: -1m, person: ada, event: Viewed}\n- {at: -1m, person: ada, event: Viewed}\n- {entered: {busy: ada}}", []),
        # Tables that come into force.
        ("- {at: +1m, warehouse: {customers: [{user_id: ada, plan: free}]}, entered: {free: ada}, exited: {free: bob}}", []),
    ],
)  # fmt: skip
def test_what_holds_and_what_does_not(tmp_path: Path, timeline: str, found: list[tuple[str, str]]) -> None:
    assert failures(tmp_path, timeline) == found


def test_errors_have_their_place_and_no_story_is_played(tmp_path: Path) -> None:
    result = run(shop(tmp_path, PASSES.replace("exited: busy", "exited: bussy")))
    assert result.exit_code == 1
    assert "s.yml:7:23: error: there is no audience `bussy`" in result.output
    assert "did you mean `busy`?" in result.output
    assert "no story was played" in result.output


def test_a_wrong_project_gives_its_errors(tmp_path: Path) -> None:
    (shop(tmp_path, PASSES) / "audiences" / "a.yml").write_text("name: a\nwhen: {evnt: x}\n")
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "error:" in result.output


def test_rows_that_are_not_of_their_columns_types_are_said(tmp_path: Path) -> None:
    audiences = 'name: rich\nwhen: {attribute: mrr, is: "> 1"}\n'
    stories = (
        "story: s\nwarehouse: {customers: [{user_id: x, mrr: much}]}\ntimeline: [{at: 12:00, members: {rich: []}}]\n"
    )
    (shop(tmp_path, stories) / "audiences" / "a.yml").write_text(audiences)
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "WRONG  table 'customers': column 'mrr', row 1: \"much\" is not a number" in result.output
    answer = json.loads(run(tmp_path, "--json").stdout)
    assert (answer["ok"], answer["stories"][0]["passed"]) == (False, False)


def test_only_chooses_by_name_and_file(tmp_path: Path) -> None:
    directory = shop(tmp_path, PASSES)
    assert "1 story passes" in run(directory, "--only", "two*pass").output
    assert "1 story passes" in run(directory, "--only", "S.YML").output
    assert run(directory, "--only", "nothing").exit_code == 2


def test_verbose_shows_the_timeline_of_one_that_passes(tmp_path: Path) -> None:
    assert "-> ada enters busy, by event" in run(shop(tmp_path, PASSES), "--verbose").output


def test_without_stories_it_says_where_they_go(tmp_path: Path) -> None:
    result = run(write(tmp_path, {"audiences/a.yml": "name: a\nwhen: {event: x}\n"}))
    assert result.exit_code == 0
    assert "no stories" in result.output
