"""Real households, their purchases and their warehouse table, which changes half way: the reference evaluator's memberships.

A loop of shards reads the purchases; the table goes through snapshots on disk, incrementally, as in the job.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.loop import Arrived, Loop
from opportune.audiences.loader import load_project
from opportune.audiences.plan import Plan
from opportune.project import Project
from state.warehouse import Refresher, Shelf, WarehouseTable, open_snapshot
from tests.integration.taobao import SHARED, chance
from tests.model import snapshots
from tests.model.snapshots import Decided, Net
from tests.model.test_refresh_equals_oracle import nets
from tests.oracle import Record
from tests.oracle.builders import encode
from tests.oracle.evaluator import Row
from tests.oracle.instants import write_instant

PURCHASES, HOUSEHOLDS = SHARED / "transactions_sample.csv", SHARED / "demographics.csv"
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (PURCHASES.exists() and HOUSEHOLDS.exists()), reason=f"{PURCHASES} is not there (OPPORTUNE_SHARED_DATA)"
    ),
]
SHARDS = 3
BATCH = 400
DAY_MS = 86_400_000
COLUMNS = ("income", "home_ownership", "kids_count")
AUDIENCES = """
{name: owners, when: {attribute: home_ownership, is: Homeowner}}
---
{name: no_kids, when: {none: [{attribute: kids_count, is: {exists: true}}]}}
---
name: big_families_that_buy
when: [{attribute: kids_count, is: {gte: 1}}, {event: Purchase, times: ">= 3", within: 14 days}]
---
name: spenders_with_little
when:
  - attribute: income
    is: [Under 15K, 15-24K, 25-34K]
  - {sum: value, event: Purchase, within: 30 days, is: {gte: 20}}
---
name: owners_gone_quiet
when:
  all: [{attribute: home_ownership, is: Homeowner}, {event: Purchase}]
  none: [{event: Purchase, within: 21 days}]
"""
TABLE = """
tables:
  households:
    source: households.csv
    key: household_id
    columns: {income: string, home_ownership: string, kids_count: number, at: number, gone: boolean}
    guard: {rows_lost: 100%, cells_changed: 100%}
    incremental: {column: at, deleted: gone}
"""
Cells = dict[str, dict[str, str]]


def purchases() -> list[tuple[int, bytes]]:
    """The purchases in order of time, as messages with their arrival."""
    found = []
    with PURCHASES.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            at = datetime.fromisoformat(row["transaction_timestamp"]).replace(tzinfo=UTC)
            at_ms = int(at.timestamp() * 1000)
            said = {
                "type": "track",
                "event": "Purchase",
                "messageId": f"p{number}",
                "userId": row["household_id"],
                "timestamp": write_instant(at_ms),
                "properties": {"value": float(row["sales_value"]), "product": row["product_id"]},
            }
            # A fourth of them is enough to make everybody move, and is looked at in a minute.
            if chance("household", row["household_id"]) % 4 == 0:
                found.append((at_ms, encode(said)))
    return sorted(found)


def households() -> Cells:
    """The table as it is given."""
    with HOUSEHOLDS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["household_id"]: {name: row[name].replace("+", "") for name in COLUMNS} for row in rows}


def changed(before: Cells, number: int) -> Cells:
    """The table later: some have moved house, earn otherwise, have a child more; some are gone, and come back."""
    original, after = households(), dict(before)
    incomes = sorted({row["income"] for row in original.values()})
    for key, row in original.items():
        lot = chance(number, key)
        if lot % 11 == 0:
            after.pop(key, None)
        elif lot % 3 == 0:
            after[key] = {
                "income": incomes[lot // 3 % len(incomes)],
                "home_ownership": "Homeowner" if lot % 2 else "",
                "kids_count": row["kids_count"] if lot % 5 else str(lot % 4),
            }
    return after


def as_rows(table: Cells) -> Mapping[str, Row]:
    """The rows as the reference evaluator has them."""
    return {
        key: {
            name: None if value == "" else int(value) if name == "kids_count" and value.isdigit() else value
            for name, value in row.items()
        }
        for key, row in table.items()
    }


class Shop:
    """The project directory, and the snapshots of its table."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "audiences").mkdir()
        (directory / "opportune.yml").write_text("name: shop\n")
        (directory / "warehouse.yml").write_text(TABLE)
        (directory / "audiences" / "all.yml").write_text(AUDIENCES)
        self.project: Project = load_project(directory)
        self.used = Plan(self.project).columns["households"]
        self.lines: dict[str, str] = {}
        self.shelf = Shelf(directory / "state", "households")
        self.number = 0

    def publish(self, table: Cells) -> dict[str, WarehouseTable]:
        """Writes what has changed into the source, refreshes it, and opens the snapshot."""
        self.number += 1
        for key in {*self.lines, *table}:
            cells = ",".join(table[key][name] for name in COLUMNS) if key in table else ",,"
            gone = "" if key in table else "true"
            if not self.lines.get(key, "").startswith(f"{key},{cells},{gone},"):
                self.lines[key] = f"{key},{cells},{gone},{self.number}"
        header = f"household_id,{','.join(COLUMNS)},gone,at\n"
        (self.directory / "households.csv").write_text(header + "".join(f"{line}\n" for line in self.lines.values()))
        definition = self.project.tables["households"]
        done = Refresher(definition, self.directory, self.shelf, self.used, lambda: self.number).refresh()
        assert done.outcome == "published"
        if self.number > 2:
            assert done.manifest.read_rows < len(self.lines), "only what was written since the watermark, inclusive"
        return {"households": open_snapshot(self.shelf.path(done.manifest.version), used=self.used, checked=True)}


def test_memberships_are_the_reference_evaluators(tmp_path: Path) -> None:
    shop, log = Shop(tmp_path), purchases()
    tables = [households()]
    tables += [changed(tables[-1], 1)]
    tables += [changed(tables[-1], 2)]
    began_ms, end_ms = log[0][0], log[-1][0] + 60 * DAY_MS
    loop = Loop(shop.project, SHARDS, tables=shop.publish(tables[0]), began_ms=began_ms)
    steps: list[Record | Decided] = []
    for at in range(0, len(log), BATCH):
        fed = log[at : at + BATCH]
        if at // BATCH in (len(log) // BATCH // 2, len(log) // BATCH * 3 // 4):
            table = tables[1] if at // BATCH == len(log) // BATCH // 2 else tables[2]
            decided_ms = fed[0][0] - 1
            loop.advance(decided_ms)
            steps.append(Decided(decided_ms, {"households": as_rows(table)}))
            # Left to the events that come, and to a restart in the middle of it.
            loop.refresh(shop.publish(table), finish=False)
            loop.restart()
        loop.feed([Arrived("events", 0, at + n, arrival, raw) for n, (arrival, raw) in enumerate(fed)])
        steps += [Record(arrival, raw, at) for arrival, raw in fed]
    loop.advance(end_ms)
    expected = snapshots.live(shop.project, steps, end_ms, {"households": as_rows(tables[0])}, began_ms)
    worth_it(expected)
    assert nets(loop.changes) == expected


def worth_it(expected: list[Net]) -> None:
    """Each audience is entered and exited often enough for the comparison to say something."""
    happened = Counter((audience, change) for _, _, audience, change in expected)
    names = {audience for audience, _ in happened}
    assert len(names) == 5
    assert [name for name in names if min(happened[name, "entered"], happened[name, "exited"]) < 20] == []
