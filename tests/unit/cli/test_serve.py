"""How ``opportune serve`` begins and ends, as a process."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

START_S = 60


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "opportune.yml").write_text("name: shop\n")
    (tmp_path / "audiences").mkdir()
    (tmp_path / "audiences" / "a.yml").write_text("name: buyers\nwhen: {event: Bought}\n")
    serve = [sys.executable, "-m", "opportune.cli.main", "serve", str(tmp_path), "--only", "collector"]
    # Nobody listens there: the collector starts without a broker.
    return [*serve, "--bootstrap-servers", "127.0.0.1:1", "--port"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_end_that_was_asked_for_is_no_failure(command: list[str], number: signal.Signals) -> None:
    process = subprocess.Popen([*command, "0"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    told = ""
    assert process.stderr is not None
    while "startup complete" not in told:
        assert select.select([process.stderr], [], [], START_S)[0], told
        line = process.stderr.readline()
        assert line, told
        told += line
    assert "listening on 127.0.0.1, port " in told
    process.send_signal(number)
    _, rest = process.communicate(timeout=START_S)
    assert process.returncode == 0, told + rest
    assert "Aborted" not in rest
    assert "Traceback" not in rest


def test_a_port_that_is_taken_is_a_setting_to_change(command: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*command, str(port)], check=False, cwd=ROOT, capture_output=True, text=True, timeout=START_S
        )
    assert done.returncode == 78, done.stderr
    assert f"port {port} of 127.0.0.1 is taken" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_end_while_it_loads_is_no_failure_either(command: list[str], tmp_path: Path, number: signal.Signals) -> None:
    keys = tmp_path / "fifo"
    os.mkfifo(keys)
    process = subprocess.Popen([*command, "0", "--keys", str(keys)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    # Opening it returns once the command reads it: in the middle of its start, where it then waits.
    with keys.open("w"):
        process.send_signal(number)
        _, told = process.communicate(timeout=START_S)
    assert process.returncode == 0, told
    assert "Aborted" not in told
    assert "Traceback" not in told
