"""``python -m bench NAME...``: measure, print a table, and with --write add a row to docs/benchmarks.md.

Owns: the command line and the order of things: broker, topics, a working directory, the measurements, cleaning up.
Not here: any measurement.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import click

from bench import identity, latency, lookups, memory, readers, refresh, replay, service, soak, storm
from bench.kafka import BenchError, Topics, broker
from bench.report import Result, show, write
from bench.throughput import JOBS, Options, measure_jobs

Step: TypeAlias = Callable[[str, Path, Topics], Result]
"""Given the broker's address, a working directory and topics, makes a measurement."""

BASELINE: Final = "calibrator"
REPLAY: Final = "replay"
IDENTITY: Final = "identity"
ALONE: Final = {REPLAY: replay, IDENTITY: identity}
"""What needs no broker, and is measured only if it is named."""
SHORT: Final = Options(events=1_000_000, rounds=1)
FULL: Final = Options(events=3_000_000, rounds=3)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--full", is_flag=True, help="Full length: the figures of docs/benchmarks.md. Without it a short form.")
@click.option("--events", type=int, help="Events in each topic of the throughput jobs.")
@click.option("--rounds", type=int, help="How often each throughput job runs.")
@click.option(
    "--by-slot", is_flag=True, help="Partitions follow the slots of people, as in topics that Opportune fills."
)
@click.option("--no-calibrator", is_flag=True, help="Leave the baseline out.")
@click.option(
    "--profile", type=click.Path(path_type=Path), help="Directory for profiles of the throughput jobs (py-spy)."
)
@click.option("--bootstrap-servers", help="A running Kafka; else KAFKA_BOOTSTRAP_SERVERS, else one is started.")
@click.option("--write", "write_rows", is_flag=True, help="Add rows to docs/benchmarks.md.")
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep state and logs here instead of a temporary directory.",
)
def main(
    names: tuple[str, ...],
    full: bool,
    events: int | None,
    rounds: int | None,
    by_slot: bool,
    no_calibrator: bool,
    profile: Path | None,
    bootstrap_servers: str | None,
    write_rows: bool,
    work: Path | None,
) -> None:
    """Measures NAME...

    One of: calibrator one hundred nothing ten thousand latency storm refresh soak memory service lookups members changes replay.

    Without a name all of them but replay, which needs a data set and no broker.

    Exit code 1 where a bar is missed or a measurement cannot be made.
    """
    options = replace(FULL if full else SHORT, by_slot=by_slot, calibrate=not no_calibrator, profile=profile)
    options = replace(options, events=events or options.events, rounds=rounds or options.rounds)
    others = _others(full)
    wanted = tuple(name for name in names if name not in ALONE) if names else (*JOBS, *others)
    unknown = [name for name in wanted if name not in JOBS and name not in others and name != BASELINE]
    if unknown:
        raise click.UsageError(
            f"unknown: {', '.join(unknown)}; there are {', '.join([BASELINE, *JOBS, *others, *ALONE])}"
        )
    jobs = [name for name in wanted if name in JOBS]
    steps = [others[name] for name in wanted if name in others]
    if jobs or BASELINE in wanted:
        steps.insert(0, lambda bootstrap, work, topics: measure_jobs(jobs, bootstrap, work, topics, options))
    try:
        missed = False
        for module in [module for name, module in ALONE.items() if name in names]:
            with _directory(work) as directory:
                result = module.measure(Path(directory), module.FULL if full else module.SHORT)
            missed |= _tell(result, write_rows)
        if steps:
            with broker(bootstrap_servers) as bootstrap, _directory(work) as directory:
                missed |= _run(steps, bootstrap, Path(directory), write_rows)
    except BenchError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(1 if missed else 0)


def _others(full: bool) -> dict[str, Step]:
    def of(module: Any) -> Step:
        return lambda bootstrap, work, topics: module.measure(
            bootstrap, work, topics, module.FULL if full else module.SHORT
        )

    reading = readers.FULL if full else readers.SHORT
    return {
        "latency": of(latency),
        "storm": of(storm),
        "refresh": of(refresh),
        "soak": of(soak),
        "memory": of(memory),
        "service": of(service),
        "lookups": of(lookups),
        "members": lambda bootstrap, work, topics: readers.measure_members(bootstrap, work, topics, reading),
        "changes": lambda bootstrap, work, topics: readers.measure_changes(bootstrap, work, topics, reading),
    }


def _directory(work: Path | None) -> AbstractContextManager[str]:
    if work is None:
        return tempfile.TemporaryDirectory(prefix="opportune-bench-")
    work.mkdir(parents=True, exist_ok=True)
    return nullcontext(tempfile.mkdtemp(prefix="run-", dir=work))


def _run(steps: Sequence[Step], bootstrap: str, work: Path, write_rows: bool) -> bool:
    """Makes the measurements one after the other; returns whether one of them missed a bar."""
    missed = False
    for number, step in enumerate(steps):
        place = work / str(number)
        place.mkdir()
        topics = Topics(bootstrap)
        try:
            result = step(bootstrap, place, topics)
        finally:
            topics.close()
        missed |= _tell(result, write_rows)
    return missed


def _tell(result: Result, write_rows: bool) -> bool:
    """Shows a result, and writes it where that is asked for; returns whether it missed a bar."""
    show(result)
    if write_rows:
        write(result, sys.argv[1:])
    return result.passed is False


if __name__ == "__main__":
    main(prog_name="python -m bench")
