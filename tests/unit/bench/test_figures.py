import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import report
from bench.arrivals import Change, instant_ms, latencies_ms
from bench.kafka import BenchError
from bench.meter import measure
from bench.profiling import summary
from bench.report import Result, write

STEADY = """
import sys, time
from pathlib import Path
file, total, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
done = 0
while True:
    until = time.monotonic() + 0.02
    while time.monotonic() < until:
        pass
    done = min(last, done + total // 20)
    file.with_suffix(".new").write_text(str(done))
    file.with_suffix(".new").replace(file)
    if last < total and done == last:
        sys.exit(3)
"""


class Steady:
    """A process that burns CPU, says twenty times how far it is, and, with ``last``, dies there."""

    name = "steady"

    def __init__(self, directory: Path, total: int, last: int | None = None) -> None:
        self.progress_file = directory / "progress"
        self._arguments = [str(self.progress_file), str(total), str(last or total)]

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", STEADY, *self._arguments])

    @property
    def pid(self) -> int:
        return self._process.pid

    def progress(self) -> int:
        return int(self.progress_file.read_text())

    def ended(self) -> str | None:
        code = self._process.poll()
        return None if code is None else f"exit code {code}"

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def changes(self) -> int:
        return 7


def test_a_pass_is_measured_from_a_tenth_to_nine_tenths(tmp_path: Path) -> None:
    found = measure(Steady(tmp_path, 1_000), 1_000, 30)
    # Sixteen steps of at least 20 ms, all of them busy.
    assert found.seconds >= 0.3
    assert 0 < found.cpu_s <= found.cpu_all_s
    assert found.events_a_second == pytest.approx(800 / found.seconds)
    assert found.cpu_us == pytest.approx(found.cpu_s / 800 * 1e6)
    assert found.changes == 7
    assert found.largest == found.resident > 0


def test_a_process_that_dies_is_an_error_that_says_where(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"steady ended after 500 of 1,000 events: exit code 3"):
        measure(Steady(tmp_path, 1_000, last=500), 1_000, 30)


def test_latency_is_that_of_the_event_named_in_the_change() -> None:
    produced = np.array([1_000_000, 2_000_000, 3_000_000])
    changes = [
        Change("a", "entered", "", "event", event_id="00000002ffff"),
        Change("a", "exited", "", "time", event_id="00000001ffff"),
        Change("a", "entered", "", "event"),
        Change("a", "entered", "", "event", event_id="0000000affff"),
    ]
    which, taken = latencies_ms(changes, [7_500_000] * 4, produced)
    assert which.tolist() == [2]
    assert taken.tolist() == [4.5]


def test_instants_of_changes_are_read_to_the_millisecond() -> None:
    assert instant_ms("2025-11-24T16:00:00.007Z") == 1_764_000_000_007


def test_a_row_goes_below_the_head_with_the_newest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "benchmarks.md"
    monkeypatch.setattr(report, "DOCUMENT", document)
    for figure in ("old | pipe", "new"):
        write(Result("t", ["a"], [["1"]], [figure]), ["one", "--full"])
    rows = document.read_text().splitlines()[-2:]
    assert rows[0].endswith("| `python -m bench one --full` | new |")
    assert rows[1].endswith("old \\| pipe |")


def test_a_profile_lists_functions_by_their_own_and_whole_share() -> None:
    text = summary("main;fold 30\nmain;fold;decode 60\nmain 10\n")
    assert text.splitlines()[0] == "100 samples"
    assert "  60.0 %  decode" in text
    assert " 100.0 %  main" in text
