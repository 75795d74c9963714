"""The examples of docs/explain.md are what ``opportune explain`` prints."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from opportune.audiences.explain import KINDS
from opportune.audiences.loader import load_project
from opportune.audiences.plan import leaves_of
from opportune.audiences.schema import All, Any, Not
from opportune.cli.main import main
from tests.unit.audiences.projects import write

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "explain.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Each kind of condition")[2]
BLOCKS = dict(re.findall(r"```(yaml|json|text)\n(.*?)```", SECTION, re.DOTALL))


def project(directory: Path) -> Path:
    files: dict[str, str | bytes] = {"audiences/a.yml": BLOCKS["yaml"], "opportune.yml": "name: shop\n"}
    return write(directory, {**files, "events.jsonl": BLOCKS["json"]})


def test_the_examples_are_what_is_printed(tmp_path: Path) -> None:
    directory = project(tmp_path)
    arguments = ["--events", str(directory / "events.jsonl"), "--at", "2026-03-02T12:20:00Z"]
    result = CliRunner().invoke(main, ["explain", str(directory), "ann", *arguments])
    assert result.exit_code == 0, result.output
    assert result.stdout.split("\n") == BLOCKS["text"].split("\n")


def test_there_is_an_example_of_each_kind_of_condition(tmp_path: Path) -> None:
    shown = {
        type(leaf) for audience in load_project(project(tmp_path)).audiences for leaf in leaves_of(audience.condition)
    }
    assert {kind.__name__ for kind in set(KINDS) - {All, Any, Not} - shown} == {"AttributeCondition"}, (
        "it has one above"
    )
