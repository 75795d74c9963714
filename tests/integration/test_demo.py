"""``opportune demo`` as a person runs it: on a terminal, in a script, with a broker of its own or a real one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
from confluent_kafka.admin import AdminClient

from api.keys import KEY_FILE, make_key, write_keys
from flows import exit_codes
from tests.kafka.broker import Kafka

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "opportune.cli.main", "demo"]
MARK = "OPPORTUNE_TEST_MARK"
START_SECONDS = 30.0
STOP_SECONDS = 5.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
CHANGE = r"→ (?!entered)\w+"

pytestmark = pytest.mark.timeout(120)


class World:
    """Processes and files that a demo may leave behind, found by a mark in their environment and by their folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.environment = {
            **os.environ,
            MARK: self.mark,
            "TMPDIR": str(folder),
            "PYTHONPATH": str(ROOT),
            "TERM": "xterm-256color",
        }

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def files(self) -> list[Path]:
        return list(self.folder.glob("opportune-demo-*"))

    def run(self, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=cwd,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    for process in world.processes():
        process.kill()


class Terminal:
    """A demo on a terminal of its own."""

    def __init__(self, world: World, *arguments: str, columns: int = 80, rows: int = 24) -> None:
        self.text = ""
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.execve(COMMAND[0], [*COMMAND, *arguments], world.environment)
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, pattern: str, seconds: float) -> None:
        """Read until the pattern is on the screen, whatever its colours."""
        end = time.monotonic() + seconds
        while not re.search(pattern, ESCAPES.sub("", self.text)):
            assert time.monotonic() < end, f"{pattern!r} did not appear in:\n{self.text[-4000:]}"
            assert self._read(0.1), f"ended before {pattern!r} appeared:\n{self.text[-4000:]}"

    def press(self, key: bytes) -> None:
        os.write(self._descriptor, key)

    def exit_code(self, seconds: float) -> int:
        """Read to the end; the exit code."""
        end = time.monotonic() + seconds
        while self._read(0.1):
            assert time.monotonic() < end, f"it did not end in {seconds} s:\n{self.text[-2000:]}"
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self, seconds: float) -> bool:
        """Read what there is; whether more can come."""
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._descriptor, 65_536)
        except OSError:
            return False
        self.text += data.decode(errors="replace")
        return bool(data)


def until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        os.sched_yield()


def answers_at(address: str) -> bool:
    return httpx.get(address).status_code == 200


def counted(output: str, what: str) -> int:
    found = re.search(rf"^  {what} +([\d,]+)", output, re.MULTILINE)
    assert found, f"no {what} in:\n{output}"
    return int(found[1].replace(",", ""))


def test_it_ends_by_itself_tells_what_happened_and_leaves_nothing(world: World) -> None:
    done = world.run("examples/shop", "--seconds", "8", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert counted(done.stdout, "sent") > 8 * 250
    assert counted(done.stdout, "read") == counted(done.stdout, "sent")
    assert counted(done.stdout, "refused") > 0
    assert counted(done.stdout, "duplicates") > 0
    first = re.search(r"the first ([\d.]+) s after the start of the flow", done.stdout)
    assert first
    assert float(first[1]) < 10
    row = re.search(r"^  browsing_now +([\d,]+) ", done.stdout, re.MULTILINE)
    assert row
    assert int(row[1].replace(",", "")) > 100
    assert world.processes() == []
    assert world.files() == []


@pytest.mark.parametrize("with_keys", [False, True])
def test_the_three_calls_that_it_prints_work_as_printed(world: World, tmp_path: Path, with_keys: bool) -> None:
    # Keys of the project are for its service, not for the demo's.
    project = shutil.copytree(ROOT / "examples" / "shop", tmp_path / "shop")
    if with_keys:
        write_keys(project / KEY_FILE, (make_key("app", ("admin",), "2026-01-01T00:00:00Z")[0],))
    terminal = Terminal(world, str(project))
    terminal.wait_for(r"curl -s \S+/members", START_SECONDS)
    calls = list(dict.fromkeys(re.findall(r"curl -s [^\r\n]*\S", ESCAPES.sub("", terminal.text))))
    assert len(calls) == 3
    answers = [
        subprocess.run(call, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=True).stdout
        for call in calls
    ]
    assert json.loads(answers[0]) == {"success": True}
    person = json.loads(answers[1])
    assert calls[1].rpartition("user_id:")[2] in person["identifiers"]["user_id"]
    assert "freshness" in person
    members = [json.loads(line) for line in answers[2].splitlines()]
    assert members
    assert all(member["profile_id"] and member["since"] for member in members)
    # Those of the README are the same, but for the port where another has taken it. What was sent by hand is known too.
    address = calls[1].split()[2].partition("/")[0]
    shown = re.findall(r"^    (curl .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(shown) == 3
    assert shown[0].replace("127.0.0.1:8080", address) == calls[0]
    paths = [call.removeprefix("curl -s 127.0.0.1:8080") for call in shown[1:]]
    for path in (*paths, "/v1/profiles/user_id:you"):
        until(partial(answers_at, f"http://{address}{path}"), 10)
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.exit_code(STOP_SECONDS) == 0
    assert world.processes() == []


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40)])
def test_ctrl_c_ends_everything_within_five_seconds(world: World, columns: int, rows: int) -> None:
    terminal = Terminal(world, "examples/shop", columns=columns, rows=rows)
    terminal.wait_for("the flow is starting", START_SECONDS)
    terminal.wait_for(CHANGE, START_SECONDS)
    terminal.wait_for(r"duplicates [1-9]", 20)
    terminal.wait_for(r"curl -s \S+/members", 20)
    assert len(world.processes()) >= 6
    pressed = time.monotonic()
    terminal.press(b"\x03")
    assert terminal.exit_code(STOP_SECONDS) == 0
    assert time.monotonic() - pressed < STOP_SECONDS
    assert world.processes() == []
    assert world.files() == []
    assert "\x1b[?1049h" in terminal.text
    shown, _, after = terminal.text.rpartition("\x1b[?1049l")
    assert shown
    assert "What happened in" in after


def test_a_second_ctrl_c_changes_nothing(world: World) -> None:
    terminal = Terminal(world, "examples/shop")
    terminal.wait_for(CHANGE, START_SECONDS)
    terminal.press(b"\x03\x03")
    terminal.press(b"\x03")
    assert terminal.exit_code(STOP_SECONDS) == 0
    assert world.processes() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_as_ctrl_c_does(world: World, number: signal.Signals) -> None:
    terminal = Terminal(world, "examples/shop")
    terminal.wait_for("the flow is starting", START_SECONDS)
    os.kill(terminal.pid, number)
    assert terminal.exit_code(STOP_SECONDS) == 0
    assert world.processes() == []
    assert world.files() == []


def test_nothing_outlives_a_demo_that_was_killed(world: World) -> None:
    terminal = Terminal(world, "examples/shop")
    terminal.wait_for(CHANGE, START_SECONDS)
    os.kill(terminal.pid, signal.SIGKILL)
    assert terminal.exit_code(STOP_SECONDS) == -signal.SIGKILL
    until(lambda: not world.processes(), STOP_SECONDS)


def test_a_worker_that_is_gone_is_told_and_the_files_are_kept(world: World) -> None:
    terminal = Terminal(world, "examples/shop")
    terminal.wait_for(CHANGE, START_SECONDS)
    leashed = [each for each in world.processes() if {"flows.demo.leash", "run"} <= set(each.cmdline())]
    assert len(leashed) == 1
    leashed[0].kill()
    assert terminal.exit_code(10) == 1
    assert "the worker has ended with exit code -9" in terminal.text
    assert len(world.files()) == 1
    assert str(world.files()[0]) in terminal.text
    until(lambda: not world.processes(), STOP_SECONDS)


def test_without_the_example_it_says_where_to_find_it(world: World, tmp_path: Path) -> None:
    done = world.run(cwd=tmp_path)
    assert done.returncode == 2
    assert "clone of the repository" in done.stderr


def test_a_project_with_errors_is_not_run(world: World, tmp_path: Path) -> None:
    (tmp_path / "opportune.yml").write_text("name: shop\nshard: 3\n")
    done = world.run(str(tmp_path), cwd=tmp_path)
    assert done.returncode == 1
    assert "opportune.yml:2" in done.stderr
    assert world.files() == []


def test_a_real_broker_is_used_under_a_prefix_and_left_as_it_was(world: World, kafka: Kafka) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})

    def topics() -> set[str]:
        return {name for name in admin.list_topics(timeout=10).topics if not name.startswith("__")}

    before = topics()
    terminal = Terminal(world, "examples/shop", "--bootstrap-servers", kafka.bootstrap_servers, "--seconds", "4")
    terminal.wait_for(CHANGE, START_SECONDS)
    made = topics() - before
    assert len(made) == 5
    assert all(name.startswith("demo-") for name in made)
    assert terminal.exit_code(30) == 0
    assert counted(terminal.text.replace("\r", ""), "read") > 4 * 250
    until(lambda: topics() == before, 10)
    assert world.processes() == []
    assert world.files() == []


def test_a_broker_that_is_not_there_is_told_at_once(world: World) -> None:
    done = world.run("examples/shop", "--bootstrap-servers", "127.0.0.1:1", "--seconds", "4")
    assert done.returncode == exit_codes.TRANSIENT
    assert "cannot reach the Kafka broker at 127.0.0.1:1" in done.stderr
    assert world.processes() == []
    assert world.files() == []
