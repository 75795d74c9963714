"""``opportune replay``: files of events through the engine, membership changes out.

Owns: options, reading of lines, the summary. Not here: the replay itself (flows.replay).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import click
import msgspec

from opportune.errors import ConfigurationError
from opportune.event import instant_ms

if TYPE_CHECKING:
    from flows.replay import ReplayResult
    from opportune.project import Project
    from state.warehouse import WarehouseTable


@click.command()
@click.argument(
    "directory", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--events",
    metavar="FILE",
    multiple=True,
    required=True,
    help="JSON lines in order of arrival; - is standard input.",
)
@click.option("--warehouse", metavar="TABLE=FILE", multiple=True, help="A file instead of the table's source.")
@click.option("--until", metavar="INSTANT", help="Ignore later events and end at this instant, ISO 8601.")
@click.option("--out", metavar="FILE", help="Write the changes here instead of standard output.")
def replay(
    directory: Path, events: tuple[str, ...], warehouse: tuple[str, ...], until: str | None, out: str | None
) -> None:
    """Run files of events through the project in DIR and print the membership changes as JSON lines.

    The changes are those that the job would make, in order of instant, profile and audience. A summary goes to standard
    error.
    """
    # Imported late: the engine is not needed for --help.
    from flows.replay import Replay
    from flows.worker import load_tables
    from opportune.audiences.loader import load_project
    from opportune.audiences.plan import Plan
    from state.warehouse import columns_of

    until_ms = _instant(until)
    project = with_files(load_project(directory, columns_of), warehouse)
    tables: dict[str, WarehouseTable] = load_tables(project, Plan(project))
    run = Replay(project, tables=tables, until_ms=until_ms)
    encode = msgspec.json.Encoder().encode
    entered: dict[str, int] = {}
    exited: dict[str, int] = {}
    with ExitStack() as stack:
        sink: BinaryIO = stack.enter_context(_open(out, "wb", "write the changes to")) if out else sys.stdout.buffer
        for change in run.run(_lines(events, stack)):
            sink.write(encode(change) + b"\n")
            counts = entered if change.change == "entered" else exited
            counts[change.audience] = counts.get(change.audience, 0) + 1
        sink.flush()
    _summary(run.result, run.compiled.names, entered, exited)


def _open(name: str, mode: Literal["rb", "wb"], what: str) -> BinaryIO:
    try:
        return Path(name).open(mode)
    except OSError as error:
        raise ConfigurationError(f"cannot {what} {name}: {error.strerror}") from error


def _instant(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return instant_ms(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not an ISO 8601 instant", param_hint="--until") from error


def with_files(project: Project, given: tuple[str, ...]) -> Project:
    """The project with files in place of its tables' sources. Raises ``BadParameter`` for what it does not have."""
    tables = dict(project.tables)
    for text in given:
        name, _, file = text.partition("=")
        if name not in tables or not file:
            known = ", ".join(sorted(tables)) or "none"
            raise click.BadParameter(f"{text!r} is not TABLE=FILE of a known table ({known})", param_hint="--warehouse")
        tables[name] = msgspec.structs.replace(tables[name], source=str(Path(file).resolve()))
    return msgspec.structs.replace(project, tables=tables)


def _lines(names: tuple[str, ...], stack: ExitStack) -> Iterator[bytes]:
    """The lines of all files, one after the other, empty ones left out."""
    for name in names:
        file = sys.stdin.buffer if name == "-" else stack.enter_context(_open(name, "rb", "read the events of"))
        for line in file:
            text = line.rstrip(b"\r\n")
            if text:
                yield text


def _summary(result: ReplayResult, names: list[str], entered: dict[str, int], exited: dict[str, int]) -> None:
    refused = ", ".join(f"{reason} {count}" for reason, count in sorted(result.refused.items())) or "none"
    click.echo(
        f"events {result.events}, applied {result.applied}, duplicates {result.duplicates}, refused: {refused}"
        + (f", after --until {result.after_until}" if result.after_until else ""),
        err=True,
    )
    click.echo(f"profiles {result.profiles}", err=True)
    for name in names:
        into, out_of = entered.get(name, 0), exited.get(name, 0)
        click.echo(f"{name}: entered {into}, exited {out_of}, members at the end {into - out_of}", err=True)
