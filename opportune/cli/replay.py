"""``opportune replay``: events of files or topics through the engine, membership changes out.

Owns: the options, where the changes go, and the summary. Exit codes: 0 done, 1 the project is wrong, 2 wrong usage.
Not here: the replay itself (flows.replay), where the events come from (opportune.cli.replay_source), the picture
(opportune.cli.replay_plot).
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from opportune.audiences.diagnostics import nearest, printable
from opportune.cli.replay_counts import Counts
from opportune.cli.replay_options import Files, instant
from opportune.cli.replay_progress import progress
from opportune.cli.replay_source import of_files, of_topics
from opportune.errors import ConfigurationError

if TYPE_CHECKING:
    from flows.replay_result import ReplayResult


@click.command()
@click.argument(
    "directory", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--events",
    metavar="FILE",
    multiple=True,
    help="JSON lines, CSV or Parquet (.gz, .zst, .bz2), in order of arrival; - is standard input. Without it: the events topics.",
)
@click.option(
    "--warehouse",
    metavar="TABLE=FILE[@INSTANT]",
    multiple=True,
    help="A file instead of the table's source; with an instant it comes into force then.",
)
@click.option("--until", metavar="INSTANT", help="Ignore later events and end at this instant, ISO 8601.")
@click.option("--from", "begin", metavar="INSTANT", help="Read the topics from here on, not from their beginning.")
@click.option("--bootstrap-servers", metavar="HOST:PORT", help="Instead of kafka.bootstrap_servers of opportune.yml.")
@click.option("--topic-prefix", metavar="TEXT", default="", help="Put before the name of every topic.")
@click.option("--out", metavar="FILE", help="Write the changes here instead of standard output.")
@click.option("--members", metavar="AUDIENCE", multiple=True, help="Print who is in at the end instead of the changes.")
@click.option("--plot", metavar="FILE", help="Draw the members of all audiences over time: .png, .svg or .pdf.")
def replay(
    directory: Path,
    events: tuple[str, ...],
    warehouse: tuple[str, ...],
    until: str | None,
    begin: str | None,
    bootstrap_servers: str | None,
    topic_prefix: str,
    out: str | None,
    members: tuple[str, ...],
    plot: str | None,
) -> None:
    """Run events through the project in DIR and print the membership changes as JSON lines.

    The events are those of files, or all that the events topics hold. The changes are those that the job would make, in order of instant, profile and audience. A summary goes to standard
    error, and a progress bar where that is a terminal.
    """
    # Imported late: the engine is not needed for --help.
    from opportune.audiences.loader import load_project
    from state.warehouse import columns_of

    if events and (begin is not None or bootstrap_servers is not None or topic_prefix):
        raise click.UsageError("--from, --bootstrap-servers and --topic-prefix are for topics, --events for files")
    until_ms, from_ms = instant(until, "--until"), instant(begin, "--from")
    files = Files(load_project(directory, columns_of), warehouse)
    names = [audience.name for audience in files.first.audiences]
    _check_names(members, names)
    if plot is not None:
        _check_picture(plot)
    if events:
        source = of_files(files, events, until_ms)
    else:
        source = of_topics(files, from_ms, until_ms, bootstrap_servers, topic_prefix)
    run = source.run
    counts = Counts(names, members, curves=plot is not None)
    with ExitStack() as stack:
        sink: BinaryIO | None = None if members else sys.stdout.buffer
        if out is not None:
            sink = stack.enter_context(_opened(out))
        advanced = stack.enter_context(progress(source.size, run.result))
        stack.enter_context(_few_collections())
        for told in source.changes(advanced):
            if sink is not None and told:
                sink.write(("\n".join([value for _, _, value, _ in told]) + "\n").encode())
            counts.take(told)
        counts.close()
        if sink is not None:
            sink.flush()
    for name in members:
        for line in counts.members_of(name):
            click.echo(line)
    _summary(run.result, counts)
    if plot is not None:
        _draw(plot, counts, run.result, files.first.name)


@contextmanager
def _few_collections() -> Iterator[None]:
    """Python looks for cycles only where it is told: it would walk all that a replay keeps, which has none."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _opened(name: str) -> BinaryIO:
    try:
        return Path(name).open("wb")
    except OSError as error:
        raise ConfigurationError(f"cannot write the changes to {name}: {error.strerror}") from error


def _check_names(asked: Sequence[str], names: Sequence[str]) -> None:
    for name in asked:
        if name not in names:
            near = nearest(name, names)
            hint = f"did you mean {near}?" if near is not None else f"there are {', '.join(names) or 'none'}"
            raise click.BadParameter(f"there is no audience {printable(name)!r}; {hint}", param_hint="--members")


def _check_picture(file: str) -> None:
    """Says before the work what would go wrong after it."""
    from opportune.cli.replay_plot import ENDINGS, library

    if not file.lower().endswith(ENDINGS):
        raise click.BadParameter(f"a picture's name ends with {', '.join(ENDINGS)}", param_hint="--plot")
    library()


def _draw(file: str, counts: Counts, result: ReplayResult, title: str) -> None:
    from opportune.cli.replay_plot import draw

    if result.start_ms is None or result.end_ms is None:
        click.echo("nothing was drawn: there is no instant to draw", err=True)
    else:
        draw(Path(file), counts.curves, counts.peak, result.start_ms, result.end_ms, title)


def _summary(result: ReplayResult, counts: Counts) -> None:
    refused = ", ".join(f"{reason} {count}" for reason, count in sorted(result.refused.items())) or "none"
    more = {
        "clamped": result.clamped,
        "after --until": result.after_until,
        "page and screen calls that no audience reads": result.unread_pages,
    }
    click.echo(
        f"events {result.events}, applied {result.applied}, duplicates {result.duplicates}, refused: {refused}"
        + "".join(f", {what} {number}" for what, number in more.items() if number),
        err=True,
    )
    click.echo(f"profiles {result.profiles}", err=True)
    for name in counts.entered:
        click.echo(
            f"{name}: entered {counts.entered[name]}, exited {counts.exited[name]}, "
            f"members at the end {counts.now[name]}, at most {counts.peak[name]}",
            err=True,
        )
