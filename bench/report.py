"""Tables on the terminal, and rows in docs/benchmarks.md.

Owns: how a result looks and what a row says: date, commit, machine, command, figures.
Invariant: a row is only ever added, right below its table's head, so that the newest comes first.
Not here: making the figures.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

DOCUMENT: Final = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD: Final = "| date | commit | machine | command | figures |\n|---|---|---|---|---|\n"


@dataclass
class Result:
    """What a measurement found.

    Args:
        title: what was measured.
        columns: heads of the table.
        rows: its rows, as text.
        figures: the same in short, for a row of docs/benchmarks.md.
        notes: sentences below the table.
        passed: whether the bars that the measurement has were held; None: it has none.
    """

    title: str
    columns: Sequence[str]
    rows: list[list[str]]
    figures: list[str]
    notes: list[str] = field(default_factory=list)
    passed: bool | None = None


def show(result: Result) -> None:
    """Prints the result."""
    table = Table(title=result.title, title_justify="left")
    for i, column in enumerate(result.columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in result.rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for note in result.notes:
        console.print(f"  {note}", highlight=False)


def write(result: Result, arguments: Sequence[str]) -> None:
    """Adds a row to docs/benchmarks.md."""
    text = DOCUMENT.read_text() if DOCUMENT.exists() else f"# Benchmarks\n\n{HEAD}"
    command = f"python -m bench {shlex.join(arguments)}"
    cells = (datetime.now(UTC).strftime("%Y-%m-%d"), commit(), machine(), f"`{command}`", "; ".join(result.figures))
    row = "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
    assert HEAD in text, f"{DOCUMENT.name} has no table that begins with {HEAD.splitlines()[0]!r}"
    DOCUMENT.write_text(text.replace(HEAD, HEAD + row, 1))


def commit() -> str:
    """The commit measured, with a + where the tree differs from it."""
    try:
        found = subprocess.run(["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def machine() -> str:
    """The machine in a few words."""
    model = "CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} x {model}, {memory:.0f} GiB, Python {sys.version_info[0]}.{sys.version_info[1]}"
