"""``python -m bench.conditions``: the CPU time of an event for each kind of condition, engine and state included; no broker.

Owns: the measurement. The same events of the same people are replayed in one process for a project of one audience after the
other, and for one that none of them touches; ``more`` is what a condition takes beyond that. Windows hold about
``INSIDE`` events of a person. The last rows are of one person with ten times more events than are kept one by one.
Not here: the speed of the whole job (bench.throughput), a plan of many audiences (bench.audiences).
"""

from __future__ import annotations

import json
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
from rich import print as show
from rich.table import Table

from flows.replay import Replay
from opportune.audiences.loader import load_project
from opportune.features import limits
from opportune.project import Project

PEOPLE: Final = 400
INSIDE: Final = 20
STEP_S: Final = 1
WINDOW: Final = f"{PEOPLE * INSIDE * STEP_S} seconds"
BEGIN: Final = datetime(2026, 3, 2, tzinfo=UTC)
EVENT: Final = {"event": "Seen"}
MANY: Final = ("sum", "distinct")
"""Aggregates that are measured for somebody with too many events too."""
CONDITIONS: Final[dict[str, Any]] = {
    "an event that nothing asks for": {"event": "Other"},
    "event, times, a duration": {**EVENT, "times": ">= 3", "within": WINDOW},
    "event, times, ever": {**EVENT, "times": ">= 3"},
    "event, where": {**EVENT, "where": {"kind": "k1"}, "within": WINDOW},
    "count, day": {**EVENT, "times": ">= 3", "within": "day"},
    "count, session": {**EVENT, "times": ">= 3", "within": "session"},
    **{
        f"{function}, a duration": {**EVENT, function: "number", "is": {"gte": 3}, "within": WINDOW}
        for function in ("sum", "avg", "min", "max", "distinct", "first", "last")
    },
    **{
        f"{function}, ever": {**EVENT, function: "number", "is": {"gte": 3}}
        for function in ("sum", "avg", "min", "distinct", "last")
    },
    "sum, month": {**EVENT, "sum": "number", "is": {"gte": 3}, "within": "month"},
    "sequence": {"sequence": [EVENT, {**EVENT, "where": {"kind": "k2"}}], "within": WINDOW},
    "sequence, by": {"sequence": [EVENT, {**EVENT, "where": {"kind": "k2"}}], "by": "cart", "within": WINDOW},
    "absent": {"absent": {"event": "Other"}, "after": EVENT, "for": "10 minutes", "within": "2 hours"},
    "absent, by": {
        "absent": {"event": "Other"},
        "after": EVENT,
        "for": "10 minutes",
        "within": "2 hours",
        "by": "cart",
    },
    "near": {"near": {"lat": 48.85, "lon": 2.35}, "radius": "1 km", "fresh": "15 minutes", **EVENT},
    "event, during": {"all": [{**EVENT, "within": WINDOW}, {"during": {"from": "09:00", "to": "18:00"}}]},
    "trait": {"trait": "plan", "is": "free"},
    "trait, an operand": {**EVENT, "last": "number", "is": {"gt": {"trait": "plan"}}},
}


def messages(events: int, people: int) -> list[bytes]:
    """Events of so many people in turn, a second apart; every twentieth sets a trait."""
    raws = []
    for number in range(events):
        message: dict[str, Any] = {
            "type": "track",
            "event": "Seen",
            "messageId": f"m{number}",
            "userId": f"u{number % people}",
            "timestamp": (BEGIN + timedelta(seconds=number * STEP_S)).isoformat(),
            "properties": {
                "number": number // people % 50,
                "serial": number,
                "kind": f"k{number // people % 4}",
                "cart": f"c{number // people % 6}",
                "lat": 48.85,
                "lon": 2.35 + number // people % 3 / 50,
            },
        }
        if number // people % 20 == 19:
            message |= {"type": "identify", "traits": {"plan": "free" if number % 2 else 7}}
        raws.append(json.dumps(message).encode())
    return raws


def project_of(when: Any) -> Project:
    """A project of one audience."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "audiences").mkdir()
        (directory / "opportune.yml").write_text("name: bench\n")
        (directory / "audiences" / "all.yml").write_text(json.dumps([{"name": "measured", "when": when}]))
        return load_project(directory)


def cpu_us(project: Project, raws: list[bytes], rounds: int) -> tuple[float, int]:
    """CPU microseconds of an event, the best of some rounds, and the changes of a round."""
    best, changes = float("inf"), 0
    for _ in range(rounds):
        one = Replay(project)
        began = time.process_time()
        changes = sum(1 for _ in one.run(raws))
        best = min(best, time.process_time() - began)
    return best / len(raws) * 1e6, changes


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--events", default=20_000, show_default=True, help="Events of a round.")
@click.option("--rounds", default=2, show_default=True, help="Rounds of each condition; the fastest counts.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def main(events: int, rounds: int, as_json: bool) -> None:
    """Measures the CPU time of an event for each kind of condition."""
    found: dict[str, tuple[float, int]] = {}
    raws = messages(events, PEOPLE)
    cpu_us(project_of(CONDITIONS["event, where"]), raws, 1)  # what the first run of a process takes more
    for name, when in CONDITIONS.items():
        found[name] = cpu_us(project_of(when), raws, rounds)
    busy = messages(events, 1)
    most = events // 10
    # A plan takes its limits when it is made; of one person the events are ten times as many as these.
    limits.FULL = limits.Limits(entries=most, hops=1_000)
    for function in MANY:
        when = {**EVENT, function: "serial", "is": {"gte": 3}, "within": f"{events} seconds"}
        found[f"{function}, of {events:,} events; {most:,} kept"] = cpu_us(project_of(when), busy, 1)
    base = found["an event that nothing asks for"][0]
    if as_json:
        click.echo(
            json.dumps({name: {"us": round(us, 2), "changes": changes} for name, (us, changes) in found.items()})
        )
        return
    table = Table("condition", "CPU us/event", "more", "changes", title=f"{events:,} events, {PEOPLE} people")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, (us, changes) in found.items():
        table.add_row(name, f"{us:.2f}", f"{us - base:.2f}", f"{changes:,}")
    show(table)


if __name__ == "__main__":
    main()
