"""``opportune status``: how a job is doing, and whether it is drained.

Owns: the command and its output, as text and as JSON. Exit codes: 0; 1 the project is wrong; 2 wrong usage; 75 the job has not
run yet or tells nothing new, or, with --drained, is not drained in time.
Not here: the figures (flows.metrics; docs/data.md has their meaning), what drained means (flows.drained).
"""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Event
from typing import Any

import click

LATER = 75
PAUSE_S = 0.2
FRESH_MS = 10_000
"""A status that is older was written by a job that does not run."""


@click.command()
@click.argument(
    "directory", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--state", metavar="DIR", type=click.Path(path_type=Path), help="Instead of state.directory.")
@click.option("--drained", is_flag=True, help="Wait until everything is read and applied and nothing is on its way.")
@click.option(
    "--seconds", default=60.0, show_default=True, type=click.FloatRange(min=0), help="Wait no longer than this."
)
@click.option("--json", "machine", is_flag=True, help="All figures, as JSON.")
def status(directory: Path, state: Path | None, drained: bool, seconds: float, machine: bool) -> None:
    """Say how the job of the project in DIR is doing, on this machine."""
    import msgspec

    from flows.metrics import read_status
    from opportune.audiences.loader import settings_of
    from opportune.clock import monotonic_ms, wall_clock_ms

    place = state or directory / settings_of(directory).state.directory
    pause, deadline = Event(), monotonic_ms() + seconds * 1_000
    while True:
        found = read_status(place)
        fresh = found is not None and wall_clock_ms() - found["at_ms"] < FRESH_MS
        if (fresh and found is not None and found.get("drained")) or not drained or monotonic_ms() >= deadline:
            break
        pause.wait(PAUSE_S)
    if found is None:
        click.echo("the job has not run on this state directory yet", err=True)
        sys.exit(LATER)
    click.echo(msgspec.json.encode(found).decode() if machine else told(found, fresh=fresh))
    sys.exit(0 if fresh and (found.get("drained") or not drained) else LATER)


def told(found: dict[str, Any], *, fresh: bool) -> str:
    """A status for people."""
    from opportune.event import iso_text

    behind = max(0, found["at_ms"] - min(found["shard_ms"].values(), default=found["at_ms"]))
    lag = sum(found["lag"].values())
    lines = [
        f"as of {iso_text(found['at_ms'])}" + ("" if fresh else ": the job does not run, or hangs"),
        f"  since the worker's start at {iso_text(found['started_ms'])}: {found['events']:,} records read, "
        f"{found['changes']:,} membership changes, {found['profiles']:+,} profiles (new, less merged and forgotten)",
        f"  {lag:,} records wait; log time is {behind:,} ms behind",
        f"  mail on its way: {found.get('mail_under_way', 0)}",
        f"  drained: {'yes' if found.get('drained') else 'no'}",
    ]
    erasures = found.get("erasures", {})
    if erasures.get("open"):
        lines.append(f"  requests to forget somebody that are not complete: {erasures['open']}")
    refused = ", ".join(f"{reason} {count:,}" for reason, count in sorted(found["rejected"].items()))
    if refused:
        lines.append(f"  refused: {refused}")
    return "\n".join(lines)
