"""A reader beside a writer that flushes all the time, is killed and starts again: every value is that of the position read.

The seed is in the test's name. OPPORTUNE_READS makes it longer (pytest takes --timeout then).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from opportune.clock import monotonic_ms
from opportune.errors import ReadRefused
from state.reader import ShardReader
from tests.crash.counting import LAST, PEOPLE, RARE, TIMERS, expected, expected_rare, person

READS = int(os.environ.get("OPPORTUNE_READS", "1200"))
WAIT_MS = 60_000


class Beside:
    """A writer in a process of its own, and a reader here."""

    def __init__(self, directory: Path, memtable_bytes: int) -> None:
        self.directory, self.memtable_bytes = directory, memtable_bytes
        self.writer = self._started()
        self.reader: ShardReader | None = None
        self.refused = ""

    def _started(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.crash.counting", str(self.directory), str(self.memtable_bytes)]
        return subprocess.Popen(command)

    def kill(self) -> None:
        """As a crash does."""
        self.writer.kill()
        self.writer.wait()

    def again(self) -> None:
        """The writer goes on."""
        self.kill()
        self.writer = self._started()

    def read(self) -> tuple[ShardReader, int]:
        """The reader, caught up, and the last batch that it sees. A refusal is an answer that the service asks again after."""
        until = monotonic_ms() + WAIT_MS
        while monotonic_ms() < until:
            try:
                if self.reader is None:
                    self.reader = ShardReader(self.directory)
                self.reader.catch_up()
                last = self.reader.get("meta", LAST)
            except ReadRefused as error:
                self.refused = str(error)
                self.close()
                continue
            if last is not None:
                return self.reader, int(last)
        raise AssertionError(f"in {WAIT_MS} ms nothing could be read; the writer: {self.writer.poll()}; {self.refused}")

    def close(self) -> None:
        """Lets the reader go."""
        if self.reader is not None:
            self.reader.close()
            self.reader = None


@pytest.mark.parametrize(("seed", "memtable_bytes"), [(1, 8 << 20), (2, 2 << 20), (3, 1 << 19)])
def test_no_value_is_older_or_newer_than_the_position(tmp_path: Path, seed: int, memtable_bytes: int) -> None:
    dice = random.Random(seed)
    beside = Beside(tmp_path / "shard", memtable_bytes)
    seen = compared = 0
    try:
        for turn in range(READS):
            if turn and turn % (READS // 3) == 0:
                beside.again()
            reader, last = beside.read()
            assert last >= seen, "what was seen is seen again"
            seen = last
            # Many reads now and then: the writer comes and goes with its logs meanwhile.
            few = [dice.randrange(PEOPLE) for _ in range(20)] + [(last - back) % PEOPLE for back in range(20)]
            for people in [few] * dice.choice((1, 1, 1, 60)):
                values = reader.get_many("profiles", [person(number) for number in people])
                found = [None if value is None else int(value.split(b" ", 1)[0]) for value in values]
                assert found == [expected(last, number) for number in people], f"at {last}, opened {reader.opened}"
                compared += len(found)
            timers = reader.get_many("timers", [b"%02d" % number for number in range(TIMERS)])
            assert max(int(value or 0) for value in timers) == last
            rare = reader.get_many("seen", [b"%02d" % number for number in range(RARE)])
            assert [value and int(value) for value in rare] == [expected_rare(last, number) for number in range(RARE)]
    finally:
        beside.kill()
        beside.close()
    assert compared > READS * 40
    assert seen > 500, "the writer has written"
