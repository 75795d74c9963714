"""How stories that were played are shown: a line for one that passes, the whole timeline for one that fails.

Owns: the text and the JSON. Not here: playing and comparing (flows.replay_story), trees of conditions
(opportune.cli.explain_tree).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opportune.audiences.diagnostics import printable
from opportune.cli.explain_tree import tree_text
from opportune.event import instant_ms, iso_text

HAPPENS, CHANGES, EXPECTED = range(3)
"""The order of what is shown of one instant."""

if TYPE_CHECKING:
    from flows.replay_story import Failure, Outcome
    from opportune.membership import MembershipChange
    from opportune.project import Project
    from opportune.story import Expectation, Row


def shown(project: Project, outcome: Outcome, *, verbose: bool) -> str:
    """The text of one story.

    Args:
        project: the project.
        outcome: what came of it.
        verbose: whether one that passes shows its timeline as well.
    """
    story = outcome.story
    place = f"{printable(_short(project, story.span.file))}:{story.span.line}"
    if not outcome.failures:
        head = f"{click.style('pass', fg='green')}  {printable(story.name)}  {click.style(place, dim=True)}"
        return "\n".join([head, *_timeline(outcome), ""]) if verbose else head
    head = f"{click.style('FAIL', fg='red', bold=True)}  {printable(story.name)}  {click.style(place, dim=True)}"
    lines = [head, *_timeline(outcome)]
    for text in dict.fromkeys(_why(project, outcome)):
        lines += ["", *(f"  {line}" for line in text.splitlines())]
    return "\n".join([*lines, ""])


def _why(project: Project, outcome: Outcome) -> Iterator[str]:
    from flows.replay_story import why

    for failure in outcome.failures:
        for explanation in why(project, outcome.story, failure):
            yield tree_text(explanation)


def summary(directory: Path, played: int, failed: int, errors: int) -> str:
    """The last line."""
    if errors:
        return click.style(f"{errors} error{'' if errors == 1 else 's'}: no story was played", fg="red")
    if not played:
        return f"no stories: write one into {directory / 'stories'}/NAME.yml (docs/testing-audiences.md)"
    noun = "story" if played == 1 else "stories"
    if failed:
        return click.style(f"{failed} of {played} {noun} failed", fg="red")
    return click.style(f"{played} {noun} {'passes' if played == 1 else 'pass'}", fg="green")


def as_json(project: Project, outcome: Outcome) -> dict[str, Any]:
    """One story for machines."""
    story = outcome.story
    return {
        "story": story.name,
        "file": printable(_short(project, story.span.file)),
        "line": story.span.line,
        "passed": not outcome.failures,
        "failures": [_failure_json(project, outcome, failure) for failure in outcome.failures],
        "changes": [
            {
                "at": change.at,
                "change": change.change,
                "audience": change.audience,
                "cause": change.cause,
                "identifiers": change.identifiers,
            }
            for change in outcome.changes
        ],
    }


def _failure_json(project: Project, outcome: Outcome, failure: Failure) -> dict[str, Any]:
    from flows.replay_story import why

    expected = failure.expectation
    span = expected.span if expected is not None else failure.row.span
    return {
        "at": iso_text(failure.row.now_ms),
        "line": span.line,
        "column": span.column,
        "expected": _expected(expected) if expected is not None else f"refused: {failure.row.refused or 'no'}",
        "was": failure.was,
        "people": list(failure.people),
        "why": why(project, outcome.story, failure),
    }


def _timeline(outcome: Outcome) -> list[str]:
    """Rows and changes by instant: what happens, what comes of it, what was expected and was not so."""
    entries = [entry for row in outcome.story.rows for entry in _of_row(row, outcome.failures)]
    entries += [(instant_ms(change.at), CHANGES, _change(change)) for change in outcome.changes]
    entries.sort(key=lambda entry: entry[:2])
    several = len({iso_text(now_ms)[:10] for now_ms, _, _ in entries}) > 1
    lines, before = [], ""
    for now_ms, _, text in entries:
        whole = iso_text(now_ms)[:-1].replace("T", " ").removesuffix(".000")
        at = whole if several else whole[11:]
        shown_at = "" if at == before else at
        before = at
        lines.append(f"  {click.style(f'{shown_at:<{23 if several else 12}}', dim=True)}  {text}")
    return lines


def _of_row(row: Row, failures: list[Failure]) -> list[tuple[int, int, str]]:
    entries = []
    if row.text:
        late = f"  (of {iso_text(row.at_ms)[:-1].replace('T', ' ')}, late)" if row.at_ms < row.now_ms else ""
        entries.append((row.now_ms, HAPPENS, printable(row.text) + late))
    mine = [failure for failure in failures if failure.row is row]
    wrong = {id(failure.expectation): failure for failure in mine}
    entries += [(row.now_ms, EXPECTED, _wrong(None, each)) for each in mine if each.expectation is None]
    for expected in row.expectations:
        failure = wrong.get(id(expected))
        text = click.style("ok", fg="green") + f"     {_expected(expected)}"
        entries.append((row.now_ms, EXPECTED, text if failure is None else _wrong(expected, failure)))
    return entries


def _wrong(expected: Expectation | None, failure: Failure) -> str:
    said = f"{_expected(expected)}, but " if expected is not None else ""
    return click.style(f"WRONG  {said}{printable(failure.was)}", fg="red")


def _change(change: MembershipChange) -> str:
    names = sorted((f"{space}:{value}", value) for space, values in change.identifiers.items() for value in values)
    users = [value for name, value in names if name.startswith("user_id:")]
    who = users[0] if users else names[0][0] if names else change.profile_id
    verb = "enters" if change.change == "entered" else "exits"
    return click.style(f"  -> {printable(who)} {verb} {change.audience}, by {change.cause}", fg="cyan")


def _expected(expected: Expectation) -> str:
    people = ", ".join(map(printable, expected.people)) or "nobody"
    several = len(expected.people) > 1
    one = {"in": "is in", "out": "is out of", "entered": "enters", "exited": "exits"}
    many = {"in": "are in", "out": "are out of", "entered": "enter", "exited": "exit"}
    if expected.kind == "members":
        return f"members of {expected.audience}: {people}"
    return f"{people} {(many if several else one)[expected.kind]} {expected.audience}"


def _short(project: Project, file: str) -> str:
    path = Path(file)
    return str(path.relative_to(project.directory)) if path.is_relative_to(project.directory) else file
