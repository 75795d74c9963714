from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from flows.exit_codes import WATCHDOG
from flows.watchdog import Watchdog

ROOT = Path(__file__).resolve().parents[3]


class Time:
    now = 0

    def __call__(self) -> int:
        return self.now


def test_only_a_process_that_is_not_fed_ends() -> None:
    time, ended = Time(), list[int]()
    dog = Watchdog(1_000, time, ended.append, native=False)
    time.now = 999
    dog.look()
    dog.feed()
    time.now = 1_998
    dog.look()
    assert ended == []
    time.now = 1_999
    dog.look()
    assert ended == [WATCHDOG]


def test_a_process_that_was_suspended_has_not_hung() -> None:
    time, ended = Time(), list[int]()
    dog = Watchdog(1_000, time, ended.append, native=False)
    time.now = 50_000
    dog.look(late_ms=49_900)
    dog.look()
    assert ended == []


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )


def test_a_hang_ends_with_the_stacks() -> None:
    ended = run(
        "import threading; from flows.watchdog import Watchdog\n"
        "def where_it_hangs(): threading.Event().wait()\n"
        "Watchdog(200).start(); where_it_hangs()"
    )
    assert ended.returncode == WATCHDOG
    assert "where_it_hangs" in ended.stderr


def test_a_hang_that_holds_the_interpreter_ends_too() -> None:
    ended = run(
        "import ctypes; from flows.watchdog import Watchdog\n"
        "Watchdog(200).start()\n"
        "def where_it_hangs(): ctypes.PyDLL(None).sleep(20)\n"
        "where_it_hangs()"
    )
    assert ended.returncode == 1
    assert "where_it_hangs" in ended.stderr


def test_a_watch_that_is_over_ends_nobody() -> None:
    ended = run(
        "import threading; from flows.watchdog import Watchdog\n"
        "dog = Watchdog(100); dog.start(); dog.stop(); threading.Event().wait(0.5)"
    )
    assert ended.returncode == 0
