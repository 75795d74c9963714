"""A progress bar on standard error, where that is a terminal.

Owns: the bar. Not here: what is read (opportune.cli.replay_files).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.replay_result import ReplayResult


@contextmanager
def progress(total_bytes: int | None, result: ReplayResult) -> Iterator[Callable[[int], None] | None]:
    """Shows how far the files are read, for as long as it is open.

    Args:
        total_bytes: of all files; None where nobody knows.
        result: its ``events`` are shown.

    Yields:
        What to tell how many bytes were read; None where nothing is shown.
    """
    if not sys.stderr.isatty():
        yield None
        return
    # Imported late: most replays run without a terminal.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("replay"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %") if total_bytes else TextColumn(""),
        TextColumn("{task.fields[events]:,} events"),
        TimeElapsedColumn(),
        TimeRemainingColumn() if total_bytes else TextColumn(""),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replay", total=total_bytes, events=0)

        def advanced(read: int) -> None:
            bar.update(task, advance=read, events=result.events)

        yield advanced
