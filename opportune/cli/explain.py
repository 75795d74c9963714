"""``opportune explain``: why somebody is in an audience or not, and when that will next change.

Owns: the command, its options and its output, as text and as JSON. Exit codes: 0 explained, 1 the project is wrong or there
is no such person, 2 wrong usage, 65 the state cannot be used.
Not here: the explanation (opportune.audiences.explain), a person's state (state.person), the tree (opportune.cli.explain_tree).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from opportune.audiences.diagnostics import nearest, printable
from opportune.cli.explain_tree import tree_text
from opportune.cli.replay_files import lines_of
from opportune.cli.replay_options import Files, instant

if TYPE_CHECKING:
    from opportune.audiences.explain import PersonState
    from opportune.audiences.plan import Plan

encode = msgspec.json.Encoder(decimal_format="number").encode


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("person")
@click.argument("audience", required=False)
@click.option(
    "--events", metavar="FILE", multiple=True, help="Files of events in order of arrival; - is standard input."
)
@click.option(
    "--warehouse", metavar="TABLE=FILE[@INSTANT]", multiple=True, help="A file instead of the table's source."
)
@click.option("--state", is_flag=True, help="Look into the job's state directory instead of files of events.")
@click.option(
    "--at", metavar="INSTANT", help="The instant to explain, ISO 8601; else after the last event, with --state now."
)
@click.option("--json", "machine", is_flag=True, help="JSON for machines.")
def explain(
    directory: Path,
    person: str,
    audience: str | None,
    events: tuple[str, ...],
    warehouse: tuple[str, ...],
    state: bool,
    at: str | None,
    machine: bool,
) -> None:
    """Explain why PERSON is in AUDIENCE of the project in DIR, or not; without AUDIENCE, for all audiences.

    PERSON is namespace:value, such as anonymous_id:a-17, or a value of the strongest namespace, such as a user id.
    """
    from flows.identity.account import identifier_of
    from opportune.audiences.explain import Explainer
    from opportune.audiences.loader import load_project
    from opportune.audiences.plan import Plan
    from state.warehouse import columns_of

    if state == bool(events):
        raise click.UsageError("give --events FILE or --state")
    files = Files(load_project(directory, columns_of), warehouse)
    plan = Plan(files.first)
    if audience is not None and audience not in plan.numbers:
        raise click.BadParameter(_unknown(audience, list(plan.numbers)), param_hint="AUDIENCE")
    at_ms = instant(at, "--at")
    try:
        namespace, _, value = identifier_of(files.first.identity, person).partition(":")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="PERSON") from error
    name = namespace, value
    found, now_ms = _of_state(files, plan, name, at_ms) if state else _of_events(files, plan, events, name, at_ms)
    if found is None:
        click.echo(f"nobody is called {printable(person)} then: no event, and no row of a table", err=True)
        sys.exit(1)
    explainer = Explainer(plan, found)
    wanted = [audience] if audience is not None else [each.name for each in plan.audiences]
    explanations = [explainer.explain(each, max(now_ms, found.now_ms)) for each in wanted]
    if machine:
        answer = encode(explanations[0] if audience is not None else explanations)
        click.echo(msgspec.json.format(answer, indent=2))
    else:
        click.echo("\n\n".join(map(tree_text, explanations)))


def _of_events(
    files: Files, plan: Plan, events: tuple[str, ...], name: tuple[str, str], at_ms: int | None
) -> tuple[PersonState | None, int]:
    """The state of a person after a replay, and its last instant."""
    from flows.replay import Replay
    from flows.worker import load_tables
    from state.person import person_state, profile_of, where

    tables = load_tables(files.first, plan)
    replay = Replay(files.first, tables=tables, refreshes=files.refreshes(), until_ms=at_ms)
    for _ in replay.run_blocks(lines_of(events)):
        pass
    store = replay.actor.settle()
    profile = where(lambda _: store, profile_of(*name))
    found = person_state(replay.compiled.plan, store, profile, replay.tables)
    return found, replay.result.end_ms or 0


def _of_state(files: Files, plan: Plan, name: tuple[str, str], at_ms: int | None) -> tuple[PersonState | None, int]:
    """The state of a person as the job's directory has it, and the instant that is asked for."""
    from flows.in_force import in_force
    from flows.snapshots import TableSnapshots
    from flows.worker import load_tables
    from opportune.clock import wall_clock_ms
    from state.person import Looking, person_state, profile_of, where

    project = files.first
    state = project.directory / project.settings.state.directory
    snapshots = TableSnapshots(project, plan, state, project.settings.state.shards, wall_clock_ms)
    with Looking(state / "shards", project.settings.state.shards, plan.fingerprint.encode()) as looking:
        profile = where(looking.store_of, profile_of(*name))
        store = looking.store_of(profile)
        # What the shard has in force, whatever the source says by now.
        tables = snapshots.open(in_force(store).versions) or load_tables(project, plan)
        found = person_state(plan, store, profile, tables)
    return found, wall_clock_ms() if at_ms is None else at_ms


def _unknown(audience: str, names: list[str]) -> str:
    near = nearest(audience, names)
    hint = f"did you mean {near}?" if near is not None else f"there are {', '.join(names) or 'none'}"
    return f"there is no audience {printable(audience)!r}; {hint}"
