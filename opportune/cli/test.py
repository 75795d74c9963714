"""``opportune test``: the stories of a project, played by the engine.

Owns: the command, which stories are played, and the exit codes: 0 all pass, 1 one fails or a file is wrong, 2 wrong usage.
Not here: playing (flows.replay_story), how a failing story is shown (opportune.cli.test_report).
"""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from opportune.audiences.diagnostics import Diagnostic, render
from opportune.cli.test_report import as_json, shown, summary

if TYPE_CHECKING:
    from flows.replay_story import Outcome
    from opportune.project import Project
    from opportune.story import Story

encode = msgspec.json.Encoder(decimal_format="number").encode


@click.command()
@click.argument(
    "directory", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--only", metavar="TEXT", help="Play stories whose name or file has this in it; * stands for anything.")
@click.option("--verbose", "-v", is_flag=True, help="Show the timeline of stories that pass, too.")
@click.option("--json", "machine", is_flag=True, help="JSON for machines.")
def test(directory: Path, only: str | None, verbose: bool, machine: bool) -> None:
    """Play the stories of the project in DIR (stories/*.yml) and compare memberships with what they expect.

    A failing story shows its timeline, what was expected, what was, and why. Exit code 0: all pass; 1: one fails, or a
    file is wrong; 2: wrong usage.
    """
    project, stories, diagnostics = _loaded(directory)
    errors = [found for found in diagnostics if found.severity == "error"]
    chosen = [story for story in stories if _wanted(story, only)] if not errors else []
    if only is not None and not chosen and not errors:
        raise click.BadParameter(f"no story has {only!r} in its name or file", param_hint="--only")
    if not machine and diagnostics:
        click.echo(render(diagnostics), err=bool(errors))
        click.echo(err=bool(errors))
    outcomes: list[Outcome] = []
    for story in chosen:
        assert project is not None, "stories are read of a valid project"
        outcomes.append(_play(project, story))
        if not machine:
            text = shown(project, outcomes[-1], verbose=verbose)
            click.echo(text)
    failed = sum(bool(outcome.failures) for outcome in outcomes)
    if machine:
        answer: dict[str, Any] = {"ok": not errors and not failed}
        answer["diagnostics"] = [found.as_json() for found in diagnostics]
        answer["stories"] = [as_json(project, outcome) for outcome in outcomes if project is not None]
        click.echo(msgspec.json.format(encode(answer), indent=2))
    else:
        click.echo(summary(directory, len(outcomes), failed, len(errors)), err=bool(errors))
    sys.exit(1 if errors or failed else 0)


def _loaded(directory: Path) -> tuple[Project | None, list[Story], list[Diagnostic]]:
    from opportune.audiences.loader import load
    from opportune.audiences.story_file import load_stories
    from state.warehouse import columns_of

    project, diagnostics = load(directory, columns_of)
    if project is None:
        return None, [], diagnostics
    stories, more = load_stories(project)
    return project, stories, [*diagnostics, *more]


def _wanted(story: Story, only: str | None) -> bool:
    if only is None:
        return True
    pattern = f"*{only.casefold()}*"
    return fnmatchcase(story.name.casefold(), pattern) or fnmatchcase(Path(story.span.file).name.casefold(), pattern)


def _play(project: Project, story: Story) -> Outcome:
    from flows.replay_story import play

    return play(project, story)
