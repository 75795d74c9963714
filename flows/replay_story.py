"""A story of a project, played by the engine and compared with what it expects.

Owns: playing the rows through a replay (the same actor as the job's), the memberships at each row's instant, and what of
the expectations does not hold.
Invariant: an expectation is about its instant as a whole: everything that has that instant and stands above or beside it
has been applied, and what is due at it has been fired.
Not here: the values (opportune.story), their YAML (opportune.audiences.story_file), printing (opportune.cli.test).
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias

import msgspec

from flows.replay import Replay
from flows.replay_changes import decode_emitted
from opportune.audiences.explain import Explainer
from opportune.audiences.explained import Explanation
from opportune.audiences.plan import Plan
from opportune.audiences.schema import Scalar, Table, ValueType
from opportune.audiences.story_rows import split
from opportune.errors import DefinitionError
from opportune.event import iso_text
from opportune.membership import MembershipChange
from opportune.project import Project
from opportune.story import Expectation, Row, Rows, Story
from state.person import person_state, profile_of, where
from state.warehouse import WarehouseTable, columns_of, load_table

EXPLAINED_MAX = 3


class Failure(msgspec.Struct, frozen=True):
    """What did not hold.

    Args:
        row: where it was expected.
        expectation: what was expected; None where a message was refused, or was not although it should have been.
        was: what was instead, a sentence.
        people: those of the expectation for whom it does not hold, and for ``members`` those who are in and should not be.
    """

    row: Row
    expectation: Expectation | None
    was: str
    people: tuple[str, ...] = ()


class Outcome(msgspec.Struct, frozen=True):
    """What came of a story: the changes in order of instant, and what did not hold; empty where it passes."""

    story: Story
    changes: list[MembershipChange]
    failures: list[Failure]


def play(project: Project, story: Story) -> Outcome:
    """Plays a story; one whose rows of tables cannot be read as the tables' types fails."""
    refusals: dict[int, str | None] = {}
    try:
        replay = replayed(project, story.warehouse, story.rows, refusals)
    except DefinitionError as error:
        return Outcome(story, [], [Failure(story.rows[0], None, str(error))])
    replay.pass_to(story.rows[-1].now_ms)
    changes = [decode_emitted(told) for told in replay.end()]
    failures: list[Failure] = []
    for number, row in enumerate(story.rows):
        if row.message is not None and refusals.get(number) != row.refused:
            failures.append(Failure(row, None, _refusal(refusals.get(number), row.refused)))
        failures += [failed for each in row.expectations if (failed := _failure(row, each, changes)) is not None]
    return Outcome(story, changes, failures)


def why(project: Project, story: Story, failure: Failure) -> list[Explanation]:
    """Explains a failure: for each person of it, why they are in or out when its instant is over.

    Returns:
        Of the first ``EXPLAINED_MAX`` people, of whom anything is known then.
    """
    if failure.expectation is None:
        return []
    now_ms = failure.row.now_ms
    rows = tuple(row for row in story.rows if row.now_ms <= now_ms)
    replay = replayed(project, story.warehouse, rows, {})
    plan = replay.compiled.plan
    found = []
    store = replay.actor.settle()
    for name in failure.people[:EXPLAINED_MAX]:
        profile = where(lambda _: store, profile_of(*split(name)))
        person = person_state(plan, store, profile, replay.tables)
        if person is not None:
            found.append(Explainer(plan, person).explain(failure.expectation.audience, now_ms))
    return found


def replayed(
    project: Project, warehouse: Mapping[str, Rows], rows: tuple[Row, ...], refusals: dict[int, str | None]
) -> Replay:
    """Applies rows and leaves the replay where the last of them ends, everything before that instant fired.

    Args:
        project: the project.
        warehouse: rows of tables before the first event.
        rows: of a timeline, from the first on.
        refusals: takes why messages were refused, by the row's number.

    Raises:
        DefinitionError: as ``tables_of``.
    """
    given = {name: warehouse.get(name, ()) for name in project.tables}
    replay = Replay(project, tables=tables_of(project, given))
    encode = msgspec.json.Encoder(decimal_format="number").encode
    for number, row in enumerate(rows):
        if row.tables:
            replay.refresh_at(row.now_ms, tables_of(project, row.tables))
        if row.message is None:
            replay.pass_to(row.now_ms)
            continue
        message = dict(row.message)
        if isinstance(at := message.get("timestamp"), int):
            message["timestamp"] = iso_text(at)
        before = dict(replay.result.refused)
        replay.feed([encode(message)])
        after = replay.result.refused
        refusals[number] = next((reason for reason in after if after[reason] != before.get(reason, 0)), None)
    replay.pass_to(rows[-1].now_ms)
    return replay


Names: TypeAlias = set[tuple[str, str]]
"""All identifiers of a person, namespace and value."""


def inside(changes: list[MembershipChange], audience: str, at_ms: int) -> list[Names]:
    """Who is in an audience when an instant is over, person by person."""
    found: dict[str, Names] = {}
    until = iso_text(at_ms)
    for change in changes:
        if change.audience == audience and change.at <= until:
            if change.change == "entered":
                found[change.profile_id] = names_of(change)
            else:
                found.pop(change.profile_id, None)
    return list(found.values())


def names_of(change: MembershipChange) -> Names:
    """The identifiers of a change's person."""
    return {(namespace, value) for namespace, values in change.identifiers.items() for value in values}


def called(names: Names) -> str:
    """What a story calls somebody: by user id where there is one."""
    namespace, value = max(names, key=lambda name: (name[0] == "user_id", name))
    return value if namespace == "user_id" else f"{namespace}:{value}"


def _failure(row: Row, expected: Expectation, changes: list[MembershipChange]) -> Failure | None:
    if expected.kind in ("entered", "exited"):
        return _unchanged(row, expected, changes)
    there = inside(changes, expected.audience, row.now_ms)
    if expected.kind == "members":
        return _not_these(row, expected, there)
    wrong = tuple(
        name for name in expected.people if any(split(name) in names for names in there) != (expected.kind == "in")
    )
    if not wrong:
        return None
    verb = "is" if len(wrong) == 1 else "are"
    return Failure(row, expected, f"{', '.join(wrong)} {verb} {'out' if expected.kind == 'in' else 'in'}", wrong)


def _not_these(row: Row, expected: Expectation, there: list[Names]) -> Failure | None:
    wanted = {split(name): name for name in expected.people}
    missing = [name for who, name in wanted.items() if not any(who in names for names in there)]
    others = sorted(called(names) for names in there if not names & wanted.keys())
    if not missing and not others:
        return None
    said = [*(f"{name} is not" for name in missing), *(f"{name} is too" for name in others)]
    return Failure(row, expected, ", ".join(said), (*missing, *others))


def _unchanged(row: Row, expected: Expectation, changes: list[MembershipChange]) -> Failure | None:
    at = iso_text(row.now_ms)
    theirs = [change for change in changes if change.audience == expected.audience]
    missed, said = [], []
    for name in expected.people:
        own = [change for change in theirs if split(name) in names_of(change)]
        if not any(change.at == at and change.change == expected.kind for change in own):
            missed.append(name)
            others = [f"{change.change} at {change.at}" for change in own if change.change == expected.kind]
            said.append(f"{name} {' and '.join(others) or f'never {expected.kind}'}")
    return Failure(row, expected, "; ".join(said), tuple(missed)) if missed else None


def _refusal(reason: str | None, expected: str | None) -> str:
    if reason is None:
        return f"the message was taken, not refused as {expected}"
    return f"the message was refused: {reason}"


def tables_of(project: Project, rows: Mapping[str, Rows]) -> dict[str, WarehouseTable]:
    """Warehouse tables with the rows of a story.

    Raises:
        DefinitionError: a value does not read as its column's type, or a key has several rows.
    """
    used = Plan(project).columns
    made: dict[str, WarehouseTable] = {}
    with tempfile.TemporaryDirectory(prefix="opportune-story-") as directory:
        for name, theirs in rows.items():
            table = project.tables[name]
            wanted = used.get(name, [])
            types = {column: _type(project, table, column) for column in wanted}
            file = Path(directory) / "rows.csv"
            _write(file, table, wanted, theirs)
            try:
                made[name] = load_table(msgspec.structs.replace(table, source=file.name), Path(directory), types)
            except DefinitionError as error:
                # The file is ours; the author knows the story's rows.
                raise DefinitionError(str(error).replace(f"{file}: ", "")) from error
    return made


def _type(project: Project, table: Table, column: str) -> ValueType | None:
    """The type of a column: declared, else that of the table's own file."""
    if column in table.columns:
        return table.columns[column]
    try:
        return columns_of(table, project.directory).get(column)
    except DefinitionError:
        return None


def _write(file: Path, table: Table, wanted: list[str], rows: Rows) -> None:
    columns = list(dict.fromkeys([table.key, *([table.order_by] if table.order_by is not None else []), *wanted]))
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(columns)
        writer.writerows([[_cell(row.get(column)) for column in columns] for row in rows])


def _cell(value: Scalar | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return format(value, "f") if isinstance(value, Decimal) else str(value)
