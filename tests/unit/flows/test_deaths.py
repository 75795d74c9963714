from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.deaths import CAREFUL_RECORDS, HOUR_MS, Deaths, Mode, Record
from opportune.errors import ConfigurationError, StateError, TransientError
from opportune.settings import Poison

ROOT = Path(__file__).resolve().parents[3]
BAD = Record("shop.events", 3, 41)


class Job:
    """A job whose log is one partition, and whose worker dies where it is told to.

    A round is one life of the worker: in batches of ``batch`` records, all applied or none.
    """

    def __init__(self, directory: Path, poison: Poison | None = None) -> None:
        self.directory = directory
        self.poison = poison or Poison()
        self.now = 0
        self.applied = 0
        self.end = 100
        self.batch = 50
        self.dead_letters: list[int] = []

    def live(self, dies: Callable[[int], str], mode_was: Callable[[Mode], None] = lambda _: None) -> str:
        """One life. ``dies(offset)`` is how an offset ends it: ``raise``, ``kill`` or nothing."""
        self.now += 1_000
        deaths = Deaths(self.directory, self.poison, lambda: self.now)
        waiting = ["p"] if self.applied < self.end else []
        mode = deaths.start({"p": self.applied}, waiting)
        mode_was(mode)
        while self.applied < self.end:
            record = Record("shop.events", 3, self.applied)
            if record in mode.quarantined:
                self.dead_letters.append(self.applied)
                self.applied += 1
                continue
            suspects = [each.offset for each in mode.alone | mode.quarantined if each.offset > self.applied]
            alone = mode.careful or record in mode.alone
            upto = min([self.applied + (1 if alone else self.batch), self.end, *suspects])
            if alone:
                deaths.attempting(record)
            for offset in range(self.applied, upto):
                how = dies(offset)
                if how == "raise":
                    deaths.failed(Record("shop.events", 3, offset), KeyError("x"))
                if how:
                    return how
            self.applied = upto
            if alone:
                deaths.progress(1)
        deaths.stopped()
        return "done"


def poisoned(how: str, *offsets: int) -> Callable[[int], str]:
    return lambda offset: how if offset in offsets else ""


def test_a_record_that_raises_three_times_is_tried_alone_and_given_up(tmp_path: Path) -> None:
    job = Job(tmp_path)
    modes: list[Mode] = []
    lives = [job.live(poisoned("raise", 41), modes.append) for _ in range(5)]
    assert lives == ["raise"] * 4 + ["done"]
    assert [BAD in mode.alone for mode in modes] == [False, False, False, True, False]
    assert modes[4].quarantined == {BAD}
    assert not any(mode.careful for mode in modes)
    assert job.dead_letters == [41]


def test_a_record_that_kills_hard_is_found_and_given_up(tmp_path: Path) -> None:
    job = Job(tmp_path)
    modes: list[Mode] = []
    lives = [job.live(poisoned("kill", 41), modes.append) for _ in range(6)]
    assert lives == ["kill"] * 5 + ["done"]
    assert [mode.careful for mode in modes] == [False, False, False, True, True, True]
    assert job.dead_letters == [41]
    assert job.applied == job.end


def test_two_that_kill_in_different_ways(tmp_path: Path) -> None:
    job = Job(tmp_path)
    lives = [job.live(lambda offset: {20: "kill", 60: "raise"}.get(offset, "")) for _ in range(12)]
    assert lives[-1] == "done"
    assert job.dead_letters == [20, 60]


def test_a_defect_that_was_mended_clears_the_suspect(tmp_path: Path) -> None:
    job = Job(tmp_path)
    for _ in range(3):
        job.live(poisoned("raise", 41))
    assert job.live(poisoned("raise")) == "done"
    job.end = 200
    seen: list[Mode] = []
    job.live(poisoned(""), seen.append)
    assert seen[0] == Mode(False, frozenset(), frozenset())
    assert job.dead_letters == []


# Each example is dozens of lives that sync a file: fewer than the profile asks for.
@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 120), min_size=1, max_size=60))
def test_random_kills_with_progress_give_nothing_up(tmp_path_factory: pytest.TempPathFactory, kills: list[int]) -> None:
    job = Job(tmp_path_factory.mktemp("deaths"))
    job.end, job.batch = 4_000, 7
    for kill in kills:
        before = job.applied
        job.live(lambda offset, at=before + 7 + kill: "kill" if offset == at else "")  # type: ignore[misc]  # a default
        assert job.applied > before or job.applied == job.end
    assert job.live(poisoned("")) == "done"
    assert job.dead_letters == []


def test_kills_at_the_start_quarantine_nothing_either(tmp_path: Path) -> None:
    job = Job(tmp_path)
    for _ in range(30):
        Deaths(tmp_path, Poison(), lambda: 0).start({"p": 0}, ["p"])
    seen: list[Mode] = []
    assert job.live(poisoned(""), seen.append) == "done"
    assert seen[0].careful
    assert job.dead_letters == []


def test_inputs_that_are_read_to_their_end_are_no_reason_to_be_careful(tmp_path: Path) -> None:
    for step in range(10):
        mode = Deaths(tmp_path, Poison(), lambda: 0).start({"busy": step, "idle": 5}, ["busy"])
        assert not mode.careful


def test_one_input_that_stands_still_among_busy_ones_is_noticed(tmp_path: Path) -> None:
    modes = [Deaths(tmp_path, Poison(), lambda: 0).start({"a": step, "b": 5}, ["a", "b"]) for step in range(4)]
    assert [mode.careful for mode in modes] == [False, False, False, True]


def test_being_careful_ends(tmp_path: Path) -> None:
    for _ in range(3):
        Deaths(tmp_path, Poison(), lambda: 0).start({"p": 0}, ["p"])
    deaths = Deaths(tmp_path, Poison(), lambda: 0)
    assert deaths.start({"p": 0}, ["p"]).careful
    assert deaths.progress(CAREFUL_RECORDS - 1)
    assert not deaths.progress(1)
    deaths.stopped()
    assert not Deaths(tmp_path, Poison(), lambda: 0).start({"p": 9}, ["p"]).careful


@pytest.mark.parametrize("error", [TransientError("broker"), ConfigurationError("x"), StateError("x")])
def test_a_broker_that_is_away_spends_nothing(tmp_path: Path, error: Exception) -> None:
    for _ in range(60):
        deaths = Deaths(tmp_path, Poison(), lambda: 0)
        assert deaths.start({"p": 0}, ["p"]) == Mode(False, frozenset(), frozenset())
        deaths.failed(BAD, error)


def test_a_defect_without_a_record_stops_the_job_in_the_end(tmp_path: Path) -> None:
    poison = Poison(budget_an_hour=2)
    with pytest.raises(StateError, match="budget"):  # noqa: PT012 - which of the lives is the last is what is counted
        for life in range(20):
            deaths = Deaths(tmp_path, poison, lambda: 0)
            deaths.start({"p": life}, ["p"])
            deaths.failed(None, KeyError("timer"))
    assert life == 2 * 4
    # An hour later it may try again.
    Deaths(tmp_path, poison, lambda: HOUR_MS).start({"p": 0}, ["p"])


def test_more_records_than_the_budget_stop_the_job(tmp_path: Path) -> None:
    job = Job(tmp_path, Poison(budget_an_hour=2, deaths=1))
    with pytest.raises(StateError, match=r"poison\.budget_an_hour"):  # noqa: PT012 - as above
        for _ in range(20):
            job.live(lambda offset: "raise" if offset >= 10 else "")
    assert job.dead_letters == [10, 11]


def test_the_setting_may_stop_the_job_instead(tmp_path: Path) -> None:
    job = Job(tmp_path, Poison(action="stop"))
    for _ in range(3):
        job.live(poisoned("raise", 41))
    with pytest.raises(StateError, match=r"shop\.events\[3\] at offset 41"):
        job.live(poisoned("raise", 41))


def test_the_marker_outlives_a_kill(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from flows.deaths import Deaths, Record; from opportune.settings import Poison\n"
        "deaths = Deaths(Path(sys.argv[1]), Poison()); deaths.start({'p': 0}, ['p'])\n"
        "deaths.attempting(Record('shop.events', 3, 40)); deaths.attempting(Record('shop.events', 3, 41))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, timeout=30, check=False)
    assert Deaths(tmp_path, Poison()).start({"p": 0}, ["p"]).quarantined == {BAD}


def test_a_file_that_cannot_be_read_is_no_empty_one(tmp_path: Path) -> None:
    (tmp_path / "deaths.json").write_bytes(b"{")
    with pytest.raises(StateError, match=r"deaths\.json"):
        Deaths(tmp_path, Poison()).start({}, [])
