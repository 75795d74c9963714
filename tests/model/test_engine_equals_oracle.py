"""The engine gives the changes that the reference evaluator computes, on generated projects and logs.

Replays, and live runs with batches cut anywhere, several partitions, restarts and records that are delivered again.
Not here: what is generated (tests.model.projects, tests.model.logs), real data (tests.integration.test_taobao).
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import event, given

from flows.loop import Arrived, Loop
from flows.replay import replay
from opportune.audiences.plan import Plan
from opportune.audiences.schema import ValueType
from opportune.membership import MembershipChange
from opportune.project import Project
from state.warehouse import WarehouseTable, load_table
from tests import oracle
from tests.model.logs import Advance, Feed, Life, LogRecord, lives, messages
from tests.model.projects import projects, rows
from tests.oracle import Change, Record, Tables
from tests.oracle.builders import DAY_0
from tests.oracle.instants import read_instant, write_instant

pytestmark = pytest.mark.timeout(600)
ROWS_MS = DAY_0 - 1
"""In a live run the rows are in force before the first record."""


def told(changes: Iterable[MembershipChange]) -> list[Change]:
    """The engine's changes as the reference evaluator writes them."""
    out = []
    for change in changes:
        at = read_instant(change.at)
        assert at is not None
        out.append(Change(at, change.profile_id, change.audience, change.change, change.cause, change.version))
    return out


def warehouse(project: Project, tables: Tables) -> Mapping[str, WarehouseTable]:
    """The rows as the engine takes them: written to a file and loaded."""
    used = Plan(project).columns
    loaded = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, table in project.tables.items():
            if name not in used:
                continue
            with (Path(directory) / table.source).open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow([table.key, *table.columns])
                for key, row in tables.get(name, {}).items():
                    writer.writerow([key, *(_cell(row.get(column), kind) for column, kind in table.columns.items())])
            columns: dict[str, ValueType | None] = {column: table.columns[column] for column in used[name]}
            loaded[name] = load_table(table, Path(directory), columns)
    return loaded


def _cell(value: object, kind: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return write_instant(value) if kind == "timestamp" and isinstance(value, int) else str(value)


def used_tables(project: Project, tables: Tables) -> Tables:
    """Only the tables that some condition reads make profiles."""
    return {name: table for name, table in tables.items() if name in Plan(project).columns}


@given(projects(), messages(), rows())
def test_replay(project: Project, raws: list[bytes], tables: Tables) -> None:
    expected = oracle.replay(project, raws, tables=used_tables(project, tables))
    result = replay(project, raws, tables=warehouse(project, tables))
    event(f"changes: {min(len(expected.changes), 10)}")
    assert told(result.changes) == expected.changes
    assert result.refused == dict(expected.refused)
    assert result.duplicates == expected.duplicates
    assert result.clamped == expected.clamped


@given(projects(), lives(), rows())
def test_live(project: Project, life: Life, tables: Tables) -> None:
    loop = Loop(project, 2, tables=warehouse(project, tables), began_ms=ROWS_MS)
    log: list[LogRecord] = []
    records: list[Record] = []
    for batch, step in enumerate(life.steps):
        match step:
            case Feed(fed):
                loop.feed(arrived(fed))
                log += fed
                records += [Record(record.arrival_ms, record.raw, batch) for record in fed]
            case Advance(time_ms):
                loop.advance(time_ms)
            case _:
                loop.restart()
                if step.again and log:
                    loop.feed(arrived(sorted(log, key=lambda record: record.partition)[-step.again :]))
    loop.advance(life.end_ms)
    expected = oracle.live(project, records, life.end_ms, used_tables(project, tables), ROWS_MS)
    event(f"changes: {min(len(expected.changes), 10)}")
    assert sorted(told(loop.changes)) == expected.changes
    assert len(loop.letters) == expected.refused.total()


def arrived(records: Iterable[LogRecord]) -> list[Arrived]:
    return [Arrived("events", each.partition, each.offset, each.arrival_ms, each.raw) for each in records]
