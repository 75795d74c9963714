"""The gallery is a project without a mistake, and each of its stories is true."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from opportune.cli.main import main

GALLERY = str(Path(__file__).resolve().parents[3] / "examples" / "gallery")


@pytest.mark.parametrize("command", ["check", "test"])
def test_it_passes(command: str) -> None:
    done = CliRunner().invoke(main, [command, GALLERY])
    assert done.exit_code == 0, done.output
    assert "warning" not in done.output
