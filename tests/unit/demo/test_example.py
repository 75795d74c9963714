"""The simulator and examples/shop belong together: what one sends the other understands."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from flows.demo.simulator import PEOPLE, Record, Simulator
from flows.replay import replay
from flows.worker import load_tables
from opportune.audiences.loader import load_project
from opportune.audiences.plan import Plan
from opportune.project import Project
from state.warehouse import columns_of, load_table

SHOP = Path(__file__).parents[3] / "examples" / "shop"
START_MS = 1_790_000_000_000


@pytest.fixture(scope="module")
def project() -> Project:
    return load_project(SHOP, columns_of)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return Simulator(seed=1, start_ms=START_MS, rate=300).advance(START_MS + 60_000)


def test_every_track_call_is_declared_with_its_properties(project: Project, records: list[Record]) -> None:
    declared = {model.raw_name for model in project.models.values() if model.type == "track"}
    sent = [msgspec.json.decode(record.value) for record in records if record.kind == "event"]
    assert {message["event"] for message in sent if message["type"] == "track"} == declared


def test_every_account_has_a_row_in_the_warehouse(project: Project) -> None:
    table = load_table(project.tables["customers"], project.directory, {"plan": "string"})
    assert len(table) == PEOPLE


def test_the_engine_refuses_exactly_what_is_meant_to_be_refused(project: Project, records: list[Record]) -> None:
    tables = load_tables(project, Plan(project))
    found = replay(project, [record.value for record in records], tables=tables)
    kinds = Counter(record.kind for record in records)
    taken = {kind: kinds.pop(kind) for kind in ("event", "late", "duplicate")}
    assert found.refused == dict(kinds)
    assert 0 < found.duplicates <= taken["duplicate"]
    entered = {change.audience for change in found.changes}
    assert {"pricing_intent", "open_cart", "browsing_now", "loyal"} <= entered
