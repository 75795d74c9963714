"""Where a process spends its time: py-spy's samples, summed up for docs/benchmarks.md.

Owns: attaching the sampler to the busiest process of a tree, and the list of functions by their own and their whole
share of the samples.
Not here: when it is attached (bench.meter).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import psutil

from bench.kafka import BenchError

SECONDS: Final = 8
RATE: Final = 100
TOP: Final = 30
IDLE: Final = ("clock_nanosleep", "time_sleep", "poll", "epoll_wait", "futex", "pthread_cond", "thread (")
"""Where a thread waits, which costs nothing."""


class Profiler:
    """One profile of a few seconds.

    Args:
        directory: for the list and the raw samples; is made.
        name: of what is watched.

    Raises:
        BenchError: py-spy is not installed.
    """

    def __init__(self, directory: Path, name: str) -> None:
        beside = Path(sys.executable).with_name("py-spy")
        found = str(beside) if beside.exists() else shutil.which("py-spy")
        if found is None:
            raise BenchError("--profile needs py-spy: pip install py-spy")
        directory.mkdir(parents=True, exist_ok=True)
        self._command = found
        self._raw, self.top = directory / f"{name}.raw", directory / f"{name}.txt"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, pid: int) -> None:
        """Attaches to the busiest process of the tree below ``pid``."""
        root = psutil.Process(pid)
        busiest = max([root, *root.children(recursive=True)], key=lambda p: sum(p.cpu_times()[:2]))
        self._process = subprocess.Popen(
            [self._command, "record", "--native", "--threads", "--rate", str(RATE), "--duration", str(SECONDS),
             "--format", "raw", "--output", str(self._raw), "--pid", str(busiest.pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def finish(self) -> None:
        """Waits for the sampler and writes the list."""
        if self._process is None:
            return
        try:
            self._process.wait(SECONDS + 30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise BenchError("py-spy did not end: try again without --profile") from None
        if self._raw.exists():
            self.top.write_text(summary(self._raw.read_text()))


def summary(raw: str) -> str:
    """The top of a profile.

    Args:
        raw: lines of ``frame;frame;frame count``, innermost last.

    Returns:
        A table of functions by their own share of all samples, and one by their share with callees.
    """
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    total = 0
    for line in raw.splitlines():
        stack, _, number = line.rpartition(" ")
        # Frames without a name are inside a library that has no symbols: their callers stand for them.
        frames, count = [frame for frame in stack.split(";") if not frame.startswith("0x")], int(number)
        if not frames or frames[-1].startswith(IDLE):
            continue
        total += count
        own[frames[-1]] += count
        for frame in set(frames):
            whole[frame] += count
    lines = [f"{total:,} samples"]
    for title, counts in (("own", own), ("with callees", whole)):
        lines.append(f"\n{title}")
        lines += [f"{100 * count / max(1, total):6.1f} %  {frame}" for frame, count in counts.most_common(TOP)]
    return "\n".join(lines) + "\n"
