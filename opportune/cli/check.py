"""``opportune check``: everything that is wrong with a project, or a short summary of it.

Owns: the command's output, as text and as JSON. Exit codes: 0 with a project (warnings allowed), 1 with errors.
Not here: what is right or wrong (opportune.audiences.loader).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from opportune.audiences.check import walk
from opportune.audiences.diagnostics import Diagnostic
from opportune.audiences.loader import load
from opportune.audiences.plan import Plan
from opportune.audiences.plan_report import report
from opportune.audiences.schema import (
    AbsentCondition,
    All,
    Any,
    AttributeValue,
    Not,
    SequenceCondition,
    Table,
    TraitValue,
    ValueType,
)
from opportune.audiences.sources import Sources
from opportune.audiences.story_file import load_stories
from opportune.cli.check_plan import plan_text
from opportune.project import Project
from opportune.story import Story

if TYPE_CHECKING:
    from opportune.cli.check_state import StateReport


@click.command()
@click.argument(
    "directory", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Text for people, JSON for machines."
)
@click.option("--json", "machine", is_flag=True, help="The same as --format json.")
@click.option(
    "--explain-plan", is_flag=True, help="Show features, who shares them, bytes of state, and work by message."
)
@click.option(
    "--against",
    metavar="STATE",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A state directory: say whether the job would go on with it.",
)
def check(directory: Path, form: str, machine: bool, explain_plan: bool, against: Path | None) -> None:
    """Compile the project in DIR, its stories too, and print everything that is wrong with it.

    Exit code 0: the project is right, perhaps with warnings; 1: it has errors, or the job would not start on the state;
    2: wrong usage.
    """
    project, diagnostics = load(directory, columns_of)
    stories: list[Story] = []
    if project is not None:
        stories, more = load_stories(project)
        diagnostics = [*diagnostics, *more]
        if any(found.severity == "error" for found in more):
            project = None
    plan = report(Plan(project)) if project is not None and explain_plan else None
    state = _against(project, against)
    if machine or form == "json":
        answer = {
            "ok": project is not None and (state is None or state.starts),
            "diagnostics": [found.as_json() for found in diagnostics],
            "project": _summary(project, stories) if project is not None else None,
        }
        answer |= {"plan": plan} if plan is not None else {}
        answer |= {"state": state} if state is not None else {}
        click.echo(msgspec.json.format(msgspec.json.encode(answer), indent=2))
    else:
        _print(project, stories, diagnostics)
        if plan is not None:
            click.echo(f"\n{plan_text(plan)}")
        if state is not None:
            click.secho(f"\n{state.text()}", fg=None if state.starts else "red")
    sys.exit(0 if project is not None and (state is None or state.starts) else 1)


def _against(project: Project | None, directory: Path | None) -> StateReport | None:
    if project is None or directory is None:
        return None
    # Imported late: RocksDB is needed for this alone.
    from opportune.cli.check_state import against

    return against(project, directory)


def columns_of(table: Table, directory: Path) -> Mapping[str, ValueType]:
    """The columns of a table's file, from the room that reads files."""
    # Imported late: Arrow takes a while to load, and most checks of a project without tables do not need it.
    from state.warehouse import columns_of as read

    return read(table, directory)


def _print(project: Project | None, stories: Sequence[Story], diagnostics: Sequence[Diagnostic]) -> None:
    for found in diagnostics:
        head, _, rest = found.render().partition("\n")
        click.secho(head, fg="red" if found.severity == "error" else "yellow", err=True)
        click.echo(rest + "\n" if rest else "", err=True)
    errors = sum(found.severity == "error" for found in diagnostics)
    warnings = len(diagnostics) - errors
    if project is None:
        click.secho(f"{_counted(errors, 'error')}, {_counted(warnings, 'warning')}", fg="red", err=True)
        return
    click.secho(f"{project.name}: {_counted(warnings, 'warning') if warnings else 'all right'}", fg="green")
    summary = _summary(project, stories)
    for kind in ("audiences", "events", "traits", "attributes", "stories"):
        names = summary[kind]
        if names:
            click.echo(f"  {kind:<11}{len(names):>5}  {_shortened(names)}")


def _summary(project: Project, stories: Sequence[Story]) -> dict[str, list[str]]:
    """What the project's audiences use, in order of name."""
    events: set[str] = set()
    traits: set[str] = set()
    attributes: set[str] = set()
    sources = Sources(project)
    leaves = (node for audience in project.audiences for node in walk(audience.condition))
    for source in chain.from_iterable(sources.of(node) for node in leaves if not isinstance(node, All | Any | Not)):
        if isinstance(source, TraitValue):
            traits.add(".".join(source.keys))
        elif isinstance(source, AttributeValue):
            attributes.add(f"{source.table}.{source.column}")
        elif isinstance(source, SequenceCondition):
            events.update(step.model.name for step in source.steps)
        elif isinstance(source, AbsentCondition):
            events.update((source.absent.model.name, source.after.model.name))
        elif not isinstance(source, str):
            events.add(source.model.name)
    return {
        "audiences": [audience.name for audience in project.audiences],
        "events": sorted(events),
        "traits": sorted(traits),
        "attributes": sorted(attributes),
        "stories": [story.name for story in stories],
    }


def _shortened(names: Sequence[str], most: int = 80) -> str:
    text = ", ".join(names)
    return text if len(text) <= most else f"{text[: most - 3].rsplit(', ', 1)[0]}, ..."


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
