"""The example of the README, as somebody types it in: its files and nothing else, its commands, its results."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from opportune.audiences.loader import FILES
from opportune.cli.main import main
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
SHOWN = dict(re.findall(r"`([\w/]+\.(?:yml|csv|jsonl))`[^`]*?\n\n```\w+\n(.*?)```", README, re.DOTALL))
"""The text of each file by its path, as the sentence before it says."""


@pytest.fixture
def typed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in SHOWN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _command(name: str) -> list[str]:
    """The words of the one command ``opportune NAME first ...``."""
    (line,) = re.findall(rf"^opportune ({name} first.*)$", README, re.MULTILINE)
    return shlex.split(line, comments=True)


def test_every_block_of_a_file_is_shown_with_its_path() -> None:
    assert len(SHOWN) == len(re.findall(r"^```(?:yaml|csv|json)$", README, re.MULTILINE))
    assert f"first/{FILES[0]}" in SHOWN


@pytest.mark.usefixtures("typed_in")
def test_the_project_is_right() -> None:
    result = CliRunner().invoke(main, _command("check"))
    assert (result.exit_code, result.stderr) == (0, "")
    (says,) = re.findall(r"says `([^`]+)`", README)
    assert result.stdout.splitlines()[0] == says


@pytest.mark.usefixtures("typed_in")
def test_the_changes_are_those_of_the_table() -> None:
    result = CliRunner().invoke(main, _command("replay"))
    assert result.exit_code == 0, result.output
    changes = [json.loads(line) for line in result.stdout.splitlines()]
    rows = re.findall(r"^\| (entered|exited) \| (\S+) \| (\w+) \|", README, re.MULTILINE)
    assert len(rows) == 2
    assert [(each["change"], each["at"], each["cause"]) for each in changes] == rows
