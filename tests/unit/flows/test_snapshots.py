"""Which snapshots a worker takes: the newest that is whole and of its definitions, kept while somebody reads it."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from flows.snapshots import TableSnapshots
from opportune.audiences.loader import load_project
from opportune.audiences.plan import Plan
from opportune.errors import DefinitionError
from opportune.identity import profile_id
from state.warehouse import WarehouseTable
from tests.unit.warehouse.test_faults import spoil

NAME = "customers"


class Shop:
    """A project with one table."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "audiences").mkdir()
        (directory / "opportune.yml").write_text("name: shop\n")
        (directory / "warehouse.yml").write_text(
            "tables: {customers: {source: c.csv, key: user_id, columns: {plan: string}, guard: {cells_changed: 100%}}}\n"
        )
        (directory / "audiences" / "free.yml").write_text("name: free\nwhen: {attribute: plan, is: free}\n")
        self.write("free")
        self.snapshots = self.start()

    def write(self, plan: str) -> None:
        (self.directory / "c.csv").write_text(f"user_id,plan\nann,{plan}\n")

    def start(self) -> TableSnapshots:
        project = load_project(self.directory)
        return TableSnapshots(project, Plan(project), self.directory / "state", 2, lambda: 1)

    def publish(self, plan: str) -> str:
        self.write(plan)
        return self.snapshots.refreshers[NAME].refresh().manifest.version

    def plan_of(self, tables: object) -> object:
        assert isinstance(tables, dict)
        table = tables[NAME]
        assert isinstance(table, WarehouseTable)
        (row,) = table.lookup([profile_id("user_id", "ann")])
        assert row is not None
        return row[0]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_the_first_start_makes_one(shop: Shop) -> None:
    versions = shop.snapshots.newest()
    assert shop.plan_of(shop.snapshots.open(versions)) == "free"
    assert shop.start().newest() == versions


@pytest.mark.parametrize("damage", ["a byte", "cut off", "no manifest", "empty manifest"])
def test_a_start_takes_the_newest_that_is_whole(shop: Shop, damage: str) -> None:
    first = shop.publish("free")
    second = shop.publish("paid")
    spoil(shop.snapshots.shelves[NAME].path(second), damage)
    assert shop.start().newest() == {NAME: first}
    (shop.directory / "c.csv").unlink()
    assert shop.start().newest() == {NAME: first}, "whatever has become of the source"
    spoil(shop.snapshots.shelves[NAME].path(first), damage)
    with pytest.raises(DefinitionError, match="there is no such file"):
        shop.start().newest()
    shop.write("trial")
    started = shop.start()
    assert shop.plan_of(started.open(started.newest())) == "trial"


def test_a_snapshot_of_other_definitions_is_not_taken(shop: Shop) -> None:
    shop.publish("free")
    text = (shop.directory / "warehouse.yml").read_text()
    (shop.directory / "warehouse.yml").write_text(text.replace("user_id,", "user_id, namespace: anonymous_id,"))
    started = shop.start()
    tables = started.open(started.newest())
    assert tables is not None
    assert tables[NAME].namespace == "anonymous_id"
    assert tables[NAME].lookup([profile_id("user_id", "ann")]) == [None]


def test_what_is_open_stays_and_what_nobody_reads_goes(shop: Shop) -> None:
    first = shop.publish("free")
    tables = shop.snapshots.open({NAME: first})
    for plan in ("paid", "trial", "pro"):
        shop.publish(plan)
    shelf = shop.snapshots.shelves[NAME]
    assert first in shelf.versions()
    assert shop.plan_of(tables) == "free"
    assert shop.snapshots.open({NAME: first}) == tables, "the same table for all shards"
    del tables
    gc.collect()
    shelf.prune()
    assert first not in shelf.versions()
    assert shop.snapshots.open({NAME: first}) is None
