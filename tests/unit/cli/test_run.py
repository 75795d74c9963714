from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from opportune.cli.main import main
from opportune.cli.run import KILL_VARIABLE, killer
from tests.conftest import ROOT


def test_a_project_that_is_wrong_ends_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "opportune.yml").write_text("name: shop\nkafka: {bootstrap: x}\n")
    result = CliRunner().invoke(main, ["run", str(tmp_path)])
    assert result.exit_code == 1
    assert "opportune.yml:2:" in result.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("arguments", [["--log-level", "LOUD"], ["nowhere"], ["--state"]])
def test_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, ["run", *arguments]).exit_code == 2


def test_what_is_for_tests_and_for_the_supervisor_is_not_in_the_help() -> None:
    text = CliRunner().invoke(main, ["run", "--help"]).output
    assert "--bootstrap-servers" in text
    assert "--worker" not in text
    assert "--embedded" not in text


@pytest.mark.parametrize("wanted", [None, ""])
def test_nobody_is_killed_where_nobody_asked(wanted: str | None) -> None:
    at_point = killer(wanted)
    for _ in range(3):
        at_point("after_write")


@pytest.mark.parametrize(
    ("wanted", "points", "dies"),
    [
        ("after_write", "after_write", True),
        ("after_write:1", "other after_write", True),
        ("after_write:3", "after_write after_write", False),
        ("after_write:3", "after_write x after_write x after_write", True),
        ("after_write:2", "other other other", False),
    ],
)
def test_the_process_dies_at_its_point(wanted: str, points: str, dies: bool) -> None:
    code = "import os, sys; from opportune.cli.run import killer\nat = killer(os.environ[sys.argv[1]])\n"
    code += "[at(point) for point in sys.argv[2:]]"
    done = subprocess.run(
        [sys.executable, "-c", code, KILL_VARIABLE, *points.split()],
        cwd=ROOT,
        env={**os.environ, KILL_VARIABLE: wanted},
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if dies else 0)
