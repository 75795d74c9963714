"""``opportune subscribe``: which broker and topics it takes, and how it ends where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.crash.running import ROOT


def test_without_a_broker_waiting_can_help(tmp_path: Path) -> None:
    (tmp_path / "opportune.yml").write_text("name: shop\n")
    # Nobody listens on port 1. A process of its own: the command sets signal handlers and an alarm.
    more = ["--bootstrap-servers", "127.0.0.1:1", "--topic-prefix", "other.", "--seconds", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "opportune.cli.main", "subscribe", str(tmp_path), *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 75, done.stderr
    assert "cannot reach the Kafka broker at 127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
