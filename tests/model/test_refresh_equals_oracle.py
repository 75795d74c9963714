"""Random projects, records, snapshots, restarts: at every instant the engine's memberships are the evaluator's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from flows.loop import Loop
from flows.preview import preview
from opportune.audiences.plan import Plan
from opportune.membership import MembershipChange
from opportune.project import Project
from state.warehouse import version_text
from tests.model import snapshots
from tests.model.living import lived
from tests.model.logs import Life, lives
from tests.model.projects import projects, rows
from tests.model.snapshots import Decided, Net
from tests.model.test_engine_equals_oracle import ROWS_MS, loaded
from tests.oracle import Record, Tables
from tests.oracle.engine import used_tables
from tests.oracle.instants import read_instant

pytestmark = pytest.mark.timeout(600)


def nets(changes: Iterable[MembershipChange]) -> list[Net]:
    """What is left of the changes of each instant, person and audience."""
    kept: dict[tuple[int, str, str], str] = {}
    for change in changes:
        at = read_instant(change.at)
        assert at is not None
        key = (at, change.profile_id, change.audience)
        if kept.pop(key, change.change) == change.change:
            kept[key] = change.change
    return sorted((*key, change) for key, change in kept.items())


def previewed(loop: Loop, project: Project, content: Tables) -> Counter[tuple[str, str]]:
    """How many are told to enter and exit each audience, before it happens."""
    tables = loaded(project, content)
    for table in tables.values():
        table.version = version_text(10**15)
    found = preview(loop.compiled, loop.stores, loop.snapshots, tables, loop.time_ms)
    told = {(name, "entered"): moves.entered for name, moves in found.items()}
    return +Counter(told | {(name, "exited"): moves.exited for name, moves in found.items()})


@settings(max_examples=settings().max_examples // 2)
@given(projects(), lives(), st.lists(rows(), min_size=2, max_size=4))
def test_what_is_told_before_is_what_happens_then(project: Project, life: Life, contents: list[Tables]) -> None:
    assume(Plan(project).columns)
    loop = Loop(project, 2, tables=loaded(project, contents[0]), began_ms=ROWS_MS)
    for _ in lived(loop, life):
        pass
    for content in contents[1:]:
        # What is due by now is done, as it nearly always is: time is not asked what it will do.
        loop.advance(max(loop.time_ms, ROWS_MS))
        told, happened = previewed(loop, project, content), len(loop.changes)
        assert previewed(loop, project, content) == told, "asking changes nothing"
        loop.refresh(loaded(project, content))
        moved = [one for one in loop.changes[happened:] if one.cause == "attribute"]
        event(f"moved: {min(len(moved), 5)}")
        assert told == Counter((one.audience, one.change) for one in moved)


@given(projects(), lives(), st.lists(rows(), min_size=1, max_size=4), st.data())
def test_live(project: Project, life: Life, contents: list[Tables], data: st.DataObject) -> None:
    # Without a condition on attributes there is nothing that a snapshot could change.
    assume(Plan(project).columns)
    loop = Loop(project, 2, tables=loaded(project, contents[0]), began_ms=ROWS_MS)
    steps: list[Record | Decided] = []
    for fed in lived(loop, life):
        steps += fed
        content = data.draw(st.sampled_from([None, *contents]), label="snapshot")
        if content is not None:
            # A restart forgets the shards' time until the next batch; the decision's instant is kept all the same.
            loop.advance(max(loop.time_ms, 1))
            at_ms = max(loop.time_ms, ROWS_MS)
            steps.append(Decided(at_ms, used_tables(project, content)))
            loop.refresh(loaded(project, content), finish=data.draw(st.booleans(), label="finish"))
    loop.advance(life.end_ms)
    expected = snapshots.live(project, steps, life.end_ms, used_tables(project, contents[0]), ROWS_MS)
    event(f"changes: {min(len(expected), 10)}")
    event(f"snapshots: {sum(isinstance(step, Decided) for step in steps)}")
    assert nets(loop.changes) == expected
