"""The demo's warehouse: a copy of the project whose CSV tables change while the demo runs.

Owns: the copy, and the changes: every few seconds some people swap all that the table says of them. So somebody upgrades
and somebody else does not renew, and one sees people move who did nothing.
Invariant: the project itself is never written.
Not here: refreshing (the job does that by itself, as the project's warehouse.yml says).
"""

from __future__ import annotations

import csv
import random
import shutil
from collections.abc import Iterable
from pathlib import Path

from opportune.audiences.schema import Table
from opportune.clock import Clock
from opportune.project import Project

EVERY_MS = 4_000
PAIRS = 10
BYTES_MAX = 16 << 20
"""Larger projects are shown as they are, with tables that stay."""


class ChangingTables:
    """The tables of a demo.

    Args:
        project: what is shown.
        directory: of the demo; the copy goes into it.
        seed: of the changes.
        clock: milliseconds that never go back.

    Attributes:
        project_directory: what the job is to run: the copy, or the project where nothing in it can change.
    """

    def __init__(self, project: Project, directory: Path, seed: int, clock: Clock) -> None:
        self._random = random.Random(seed)
        self._clock = clock
        self._tables = [one for one in project.tables.values() if one.origin is None and one.source.endswith(".csv")]
        self._next_ms = clock() + EVERY_MS
        self.project_directory = project.directory
        if not self._tables or _bytes(project.directory.rglob("*")) > BYTES_MAX:
            self._tables = []
            return
        self.project_directory = directory / "project"
        shutil.copytree(project.directory, self.project_directory, ignore=shutil.ignore_patterns("state", ".*"))

    def change(self) -> None:
        """Changes the tables when it is time to."""
        if self._clock() >= self._next_ms:
            self._next_ms = self._clock() + EVERY_MS
            for table in self._tables:
                self._swap(table)

    def _swap(self, table: Table) -> None:
        path = self.project_directory / table.source
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        key = header.index(table.key)
        chosen = self._random.sample(range(len(rows)), min(2 * PAIRS, len(rows) // 2 * 2))
        for one, other in zip(chosen[::2], chosen[1::2], strict=True):
            rows[one], rows[other] = rows[other], rows[one]
            rows[one][key], rows[other][key] = rows[other][key], rows[one][key]
        beside = path.with_name(f".{path.name}")
        with beside.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        beside.replace(path)


def _bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())
