"""``opportune warehouse``: what each command says and does."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from opportune.cli.main import main

HEADER = "user_id,plan\n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "audiences").mkdir()
    for name, text in {
        "opportune.yml": "name: shop\n",
        "warehouse.yml": "tables: {customers: {source: c.csv, key: user_id, columns: {plan: string}}}\n",
        "audiences/free.yml": "name: free\nwhen: {attribute: plan, is: free}\n",
        "c.csv": HEADER + "ann,free\nbob,paid\n",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def told(shop: Path, *arguments: str) -> Result:
    command, *options = arguments
    return CliRunner().invoke(main, ["warehouse", command, str(shop), *options])


def test_refresh_and_status(shop: Path) -> None:
    assert "no snapshot yet" in told(shop, "status").output
    done = told(shop, "refresh")
    assert done.exit_code == 0, done.output
    assert "customers: 2 rows, published as 000" in done.output
    assert "customers: unchanged, 2 rows" in told(shop, "refresh").output
    status = told(shop, "status").output
    assert "2 rows, 0 left out" in status
    assert "columns: plan (string)" in status
    assert "unchanged" in status


def test_diff_and_dry_run_publish_nothing(shop: Path) -> None:
    told(shop, "refresh")
    snapshots = sorted((shop / "state" / "warehouse" / "customers").iterdir())
    (shop / "c.csv").write_text(HEADER + "ann,paid\nbob,paid\neve,free\n")
    diff = told(shop, "diff").output
    assert "3 rows, would be published; 1 rows changed, 1 new, 0 gone" in diff
    assert "plan: 1 values differ" in diff
    assert "who would enter and exit is not known: there is no state in" in diff
    assert "would be published" in told(shop, "refresh", "--dry-run").output
    assert sorted((shop / "state" / "warehouse" / "customers").iterdir()) == snapshots


def test_what_is_held_back_is_confirmed(shop: Path) -> None:
    told(shop, "refresh")
    (shop / "c.csv").write_text(HEADER)
    assert told(shop, "refresh", "--dry-run").exit_code == 3
    for said in ("customers: held back: 2 of 2 rows are gone", "customers: still held back: 2 of 2 rows are gone"):
        done = told(shop, "refresh")
        assert said in done.output
        assert done.exit_code == 3
    assert "HELD" in told(shop, "status").output
    assert "may come into force" in told(shop, "confirm").output
    status = told(shop, "status").output
    assert "0 rows, 0 left out" in status
    assert "let through by a confirmation since" in status
    assert "rows are gone" not in status
    for command in ("refresh", "diff", "refresh"):
        done = told(shop, command)
        assert done.exit_code == 0, done.output
        assert "customers: unchanged, 0 rows" in done.output
    assert "held" not in told(shop, "status").output
    assert "nothing is held back" in told(shop, "confirm").output
    assert told(shop, "confirm", "--table", "customers").exit_code == 65


def test_a_source_that_is_gone_fails_and_the_last_snapshot_stays(shop: Path) -> None:
    told(shop, "refresh")
    (shop / "c.csv").unlink()
    failed = told(shop, "refresh")
    assert failed.exit_code == 1
    assert "there is no such file" in failed.output
    status = told(shop, "status").output
    assert "2 rows" in status
    assert "failed" in status


def test_a_table_that_is_not_there(shop: Path) -> None:
    done = told(shop, "refresh", "--table", "orders")
    assert done.exit_code == 1
    assert "there is no table 'orders'; its tables: customers" in done.output


def test_another_state_directory(shop: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    assert "published" in told(shop, "refresh", "--state", str(other)).output
    assert (other / "warehouse" / "customers").is_dir()
    assert not (shop / "state").exists()


def test_an_incremental_table(shop: Path) -> None:
    (shop / "warehouse.yml").write_text(
        "tables: {customers: {source: c.csv, key: user_id, columns: {plan: string, at: timestamp, gone: boolean}, guard: {rows_lost: 100%}, "
        "incremental: {column: at, deleted: gone}}}\n"
    )
    (shop / "c.csv").write_text("user_id,plan,at,gone\nann,free,2026-01-01,\nbob,paid,2026-01-02,\n")
    assert "2 rows, published" in told(shop, "refresh").output
    assert "incremental: read up to at 2026-01-02T00:00:00.000Z; all rows at 20" in told(shop, "status").output
    (shop / "c.csv").write_text("user_id,plan,at,gone\nbob,paid,2026-01-03,true\n")
    assert "1 rows, published" in told(shop, "refresh").output
    assert "unchanged, 1 rows" in told(shop, "refresh").output
    assert "0 rows, " in told(shop, "refresh", "--full").output
