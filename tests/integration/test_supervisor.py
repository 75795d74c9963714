from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from opportune.clock import monotonic_ms, wall_clock_ms

ROOT = Path(__file__).resolve().parents[2]
SUPERVISOR = """
import sys
from flows.logs import configure
from flows.supervisor import supervise
configure()
sys.exit(supervise([sys.executable, "-c", sys.argv[1], *sys.argv[3:]], grace_ms=int(sys.argv[2])))
"""
WORKER = """
import os, signal, sys
from pathlib import Path
from threading import Event
from flows.supervisor import die_with_supervisor
die_with_supervisor(os.environ)
directory = Path(sys.argv[1])
life = len(list(directory.glob("life-*")))
(directory / f"life-{life}.new").write_text(str(os.getpid()))
(directory / f"life-{life}.new").rename(directory / f"life-{life}")
"""


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    pause, deadline = Event(), wall_clock_ms() + seconds * 1_000
    while not condition():
        assert wall_clock_ms() < deadline, "it did not come about"
        pause.wait(0.02)


def lives(directory: Path) -> list[int]:
    """The process ids of the workers so far."""
    found = [file for file in directory.glob("life-*") if file.suffix != ".new"]
    return [int(file.read_text()) for file in sorted(found)]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Supervised:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: subprocess.Popen[str] | None = None

    def start(self, worker: str, grace_ms: int = 10_000) -> subprocess.Popen[str]:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, WORKER + worker, str(grace_ms), str(self.directory)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        return self.process


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    found = Supervised(tmp_path)
    yield found
    if found.process is not None and found.process.poll() is None:
        found.process.kill()
        found.process.wait()


@pytest.mark.parametrize("code", [0, 65, 78])
def test_what_a_restart_cannot_help_ends_it(supervised: Supervised, code: int) -> None:
    process = supervised.start(f"sys.exit({code})")
    process.communicate(timeout=20)
    assert process.returncode == code
    assert len(lives(supervised.directory)) == 1


def test_a_crash_is_followed_by_a_new_life(supervised: Supervised) -> None:
    process = supervised.start("if life < 2: os.kill(os.getpid(), signal.SIGSEGV)\nsys.exit(0)")
    _, told = process.communicate(timeout=20)
    assert process.returncode == 0
    assert len(lives(supervised.directory)) == 3
    assert told.count("signal SIGSEGV") == 2
    assert "again in 0.2 s" in told
    assert "again in 0.4 s" in told


def test_a_planned_restart_comes_at_once(supervised: Supervised) -> None:
    process = supervised.start("sys.exit(85 if life < 5 else 0)")
    _, told = process.communicate(timeout=20)
    assert process.returncode == 0
    assert len(lives(supervised.directory)) == 6
    assert "ended with" not in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_handed_on_and_its_end_awaited(supervised: Supervised, number: int) -> None:
    worker = (
        "stop = Event()\nfor n in (signal.SIGTERM, signal.SIGINT): signal.signal(n, lambda n, f: "
        "((directory / 'got').write_text(str(n)), stop.set()))\n(directory / 'ready').touch()\nstop.wait()\nsys.exit(0)"
    )
    process = supervised.start(worker)
    until((supervised.directory / "ready").exists)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert (supervised.directory / "got").read_text() == str(int(number))
    assert len(lives(supervised.directory)) == 1


DEAF = "for n in (signal.SIGTERM, signal.SIGINT): signal.signal(n, signal.SIG_IGN)\n(directory / 'ready').touch()\nEvent().wait()"


def test_a_worker_that_does_not_end_is_killed(supervised: Supervised) -> None:
    process = supervised.start(DEAF, grace_ms=300)
    until((supervised.directory / "ready").exists)
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGKILL
    assert not any(is_running(pid) for pid in lives(supervised.directory))


def test_a_second_signal_does_not_wait(supervised: Supervised) -> None:
    process = supervised.start(DEAF, grace_ms=60_000)
    until((supervised.directory / "ready").exists)
    started = monotonic_ms()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    until(lambda: "stopping the worker" in (process.stderr.readline() if process.stderr else ""))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGKILL
    assert monotonic_ms() - started < 15_000


def test_a_signal_ends_the_wait_for_a_restart(supervised: Supervised) -> None:
    process = supervised.start("sys.exit(70)")
    until(lambda: len(lives(supervised.directory)) >= 4)
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 70


def test_the_worker_dies_with_its_supervisor(supervised: Supervised) -> None:
    process = supervised.start("Event().wait()")
    until(lambda: len(lives(supervised.directory)) == 1)
    process.kill()
    process.communicate(timeout=20)
    (worker,) = lives(supervised.directory)
    until(lambda: not is_running(worker))


def test_a_worker_of_its_own_is_left_alone() -> None:
    program = "import os; from flows.supervisor import die_with_supervisor; die_with_supervisor({}); print('on')"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True
    )
    assert ended.stdout == "on\n"
    assert os.getpid() > 0
