"""Output that cannot be written: a sentence and an exit code, whichever command it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("command", [["check"], ["check", "--json"], ["replay", "--events", "events.jsonl"]])
def test_output_that_does_not_fit_is_told_in_a_sentence(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "opportune.yml").write_text("name: shop\n")
    (tmp_path / "audiences").mkdir()
    (tmp_path / "audiences" / "a.yml").write_text("name: a\nwhen: {event: A}\n")
    (tmp_path / "events.jsonl").write_text(
        '{"type": "track", "event": "A", "userId": "ada", "timestamp": "2026-01-01T00:00:00Z"}\n'
    )
    # Every write to it fails as on a full disk.
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "opportune.cli.main", command[0], ".", *command[1:]],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 75
    assert "does not fit: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
