"""The demo's changing tables."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from flows.demo.tables import EVERY_MS, PAIRS, ChangingTables
from opportune.audiences.loader import load_project
from tests.conftest import ROOT

SHOP = ROOT / "examples" / "shop"


def rows(path: Path) -> dict[str, list[str]]:
    with path.open(newline="") as file:
        _, *found = csv.reader(file)
    return {key: values for key, *values in found}


def test_people_swap_what_the_table_says_of_them(tmp_path: Path) -> None:
    project, now = load_project(SHOP), 0
    tables = ChangingTables(project, tmp_path, 7, lambda: now)
    copy = tables.project_directory / "warehouse" / "customers.csv"
    before = rows(copy)
    assert before == rows(SHOP / "warehouse" / "customers.csv")
    tables.change()
    assert rows(copy) == before, "not yet"
    now = EVERY_MS
    tables.change()
    after = rows(copy)
    changed = {key for key, values in after.items() if values != before[key]}
    assert 0 < len(changed) <= 2 * PAIRS
    assert after.keys() == before.keys()
    assert sorted(after.values()) == sorted(before.values())
    assert rows(SHOP / "warehouse" / "customers.csv") == before
    assert load_project(tables.project_directory).tables == project.tables


def test_a_project_without_tables_is_run_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    shutil.copytree(
        SHOP / "audiences", tmp_path / "p" / "audiences", ignore=shutil.ignore_patterns("customers.yml", "carts.yml")
    )
    shutil.copy(SHOP / "events.yml", tmp_path / "p")
    (tmp_path / "p" / "opportune.yml").write_text("name: p\n")
    (tmp_path / "p" / "audiences" / "pricing_intent.yml").write_text("name: a\nwhen: {event: Order Completed}\n")
    project = load_project(tmp_path / "p")
    assert ChangingTables(project, tmp_path, 7, lambda: 0).project_directory == project.directory
