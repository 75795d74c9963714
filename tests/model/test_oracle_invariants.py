"""What holds of every history, whatever the definitions: checked on the reference evaluator, which all else answers to."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given

from opportune.project import Project
from tests.model.logs import Life, lives, messages
from tests.model.projects import projects, rows
from tests.oracle import Change, Outcome, Record, Tables, live, replay


def check(outcome: Outcome) -> None:
    last: dict[str, Change] = {}
    state: dict[tuple[str, str], str] = defaultdict(lambda: "exited")
    seen: set[tuple[int, str, str]] = set()
    for change in outcome.changes:
        assert (change.at, change.profile, change.audience) not in seen, "at one instant at most one change an audience"
        seen.add((change.at, change.profile, change.audience))
        before = last.get(change.profile)
        assert before is None or (before.version < change.version and before.at <= change.at)
        last[change.profile] = change
        assert state[change.profile, change.audience] != change.change, "entered and exited alternate"
        state[change.profile, change.audience] = change.change


@given(projects(), messages(), rows())
def test_a_replay_alternates_and_never_goes_back(project: Project, raws: list[bytes], tables: Tables) -> None:
    check(replay(project, raws, tables=tables))


@given(projects(tables=False), lives())
def test_a_live_run_alternates_and_never_goes_back(project: Project, life: Life) -> None:
    check(live(project, [Record(record.arrival_ms, record.raw) for record in life.records()], life.end_ms))
