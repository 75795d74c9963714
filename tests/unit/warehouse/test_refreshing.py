"""Refreshes of snapshots: what is published, what is held back, and that no fault takes the last good one away."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from opportune.audiences.schema import Guard, Table, ValueType
from opportune.errors import DefinitionError, StateError, TransientError
from opportune.identity import profile_id
from state.warehouse import Refreshed, Refresher, Shelf, WarehouseTable, load_table, open_snapshot, snapshot, writing
from state.warehouse.manifest import MANIFEST, ROWS
from tests.conftest import ROOT

CSV = "id,plan,spend\n"
DECLARED: dict[str, ValueType] = {"plan": "string", "spend": "number"}
FREE = Guard(rows_lost=1.0, cells_changed=1.0)


class Place:
    """A project directory with one table, and its shelf."""

    def __init__(self, directory: Path, **table: object) -> None:
        self.directory = directory
        defaults = {"columns": DECLARED, "guard": FREE, "source": "t.csv"}
        self.table = Table("t", key="id", **{**defaults, **table})  # type: ignore[arg-type]  # fields of a table
        self.shelf = Shelf(directory / "state", "t")
        self.now = 1_000

    def write(self, *rows: str, name: str = "t.csv", header: str = CSV) -> None:
        (self.directory / name).write_text(header + "".join(f"{row}\n" for row in rows))

    def refresher(self, used: tuple[str, ...] = ("plan", "spend"), **more: object) -> Refresher:
        return Refresher(self.table, self.directory, self.shelf, list(used), self.clock, **more)  # type: ignore[arg-type]  # its options

    def refresh(self, *, dry_run: bool = False, unguarded: bool = False, wait: bool = True) -> Refreshed:
        return self.refresher().refresh(dry_run=dry_run, unguarded=unguarded, wait=wait)

    def clock(self) -> int:
        self.now += 1
        return self.now

    def open(self, used: tuple[str, ...] = ("plan", "spend")) -> WarehouseTable:
        newest = self.shelf.newest()
        assert newest is not None
        return open_snapshot(self.shelf.path(newest.version), used=used, checked=True)

    def rows(self) -> dict[str, object]:
        return {key: row for _, key, row in self.open().rows(0, 1)}

    def names(self) -> list[str]:
        return sorted(path.name for path in self.shelf.directory.iterdir() if path.name not in ("lock", "last.json"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.write("ann,free,1.5", "bob,paid,")
    return place


def test_a_snapshot_has_what_the_source_has(place: Place) -> None:
    done = place.refresh()
    assert done.outcome == "published"
    assert place.rows() == {"ann": ("free", Decimal("1.5")), "bob": ("paid", None)}
    manifest = done.manifest
    assert (manifest.rows, manifest.columns, manifest.version) == (2, DECLARED, "0000000000001001")
    assert place.open().lookup([profile_id("user_id", "bob"), profile_id("user_id", "eve")]) == [("paid", None), None]


@pytest.mark.parametrize("rows", [0, 1, 5, 5_000, 70_000])
@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv"])
def test_a_snapshot_equals_the_table_loaded_into_memory(tmp_path: Path, rows: int, suffix: str) -> None:
    content = pa.table(
        {
            "id": [f"u{number}" for number in range(rows)],
            "few": pa.array([(None, "a", "b")[number % 3] for number in range(rows)], pa.string()),
            "many": pa.array([f"text {number}" if number % 7 else None for number in range(rows)], pa.string()),
            "whole": pa.array([number - 9 if number % 5 else None for number in range(rows)], pa.int64()),
            "half": pa.array([number / 4 for number in range(rows)], pa.float64()),
            "truth": pa.array([(True, False, None)[number % 3] for number in range(rows)], pa.bool_()),
            "at": pa.array([number * 1000 for number in range(rows)], pa.timestamp("ms")),
        }
    )
    writers: dict[str, Callable[[object, Path], object]] = {
        "parquet": pa.parquet.write_table,
        "csv": pa.csv.write_csv,
        "arrow": lambda table, path: pa.feather.write_feather(table, str(path), compression="zstd"),
    }
    writers[suffix](content, tmp_path / f"t.{suffix}")
    names = ("few", "many", "whole", "half", "truth", "at")
    types: tuple[ValueType, ...] = ("string", "string", "number", "number", "boolean", "timestamp")
    kinds = dict(zip(names, types, strict=True))
    place = Place(tmp_path, source=f"t.{suffix}", columns=kinds)
    used = tuple(kinds)
    place.refresher(used).refresh()
    loaded = load_table(place.table, tmp_path, dict.fromkeys(used))
    kept = place.open(used)
    for shard in range(3):
        assert list(kept.rows(shard, 3)) == list(loaded.rows(shard, 3))
    ids = [profile_id("user_id", f"u{number}") for number in range(0, rows + 40, max(rows // 60, 1))]
    assert kept.lookup(ids) == loaded.lookup(ids)
    assert kept.types == loaded.types


def test_equal_content_makes_no_snapshot(place: Place) -> None:
    first = place.refresh().manifest
    names = place.names()
    for _ in range(5):
        done = place.refresh()
        assert (done.outcome, done.manifest) == ("unchanged", first)
    place.write("bob,paid,", "ann,free,1.50")
    assert place.refresh().outcome == "unchanged"
    assert place.names() == names


def test_figures_say_what_changed(place: Place) -> None:
    place.refresh()
    place.write("ann,paid,1.5", "eve,free,3", "cid,free,4")
    figures = place.refresh().figures
    assert figures is not None
    assert (figures.before, figures.changed, figures.added, figures.gone) == (2, 1, 2, 1)
    assert figures.cells == {"plan": 1, "spend": 0}


def test_versions_rise_whatever_the_clock_says(place: Place) -> None:
    first = place.refresh().manifest
    place.now = 5
    place.write("ann,paid,1")
    second = place.refresh().manifest
    assert second.version > first.version
    assert place.shelf.versions() == [first.version, second.version]


def test_old_snapshots_go_when_nobody_reads_them(place: Place) -> None:
    first = place.refresh().manifest.version
    table = place.open()
    pin = place.shelf.pin(first)
    versions = []
    for number in range(4):
        place.write(f"ann,free,{number}")
        versions.append(place.refresh().manifest.version)
    assert place.shelf.versions() == [first, *versions[-2:]]
    pin.release()
    place.shelf.prune()
    assert place.shelf.versions() == versions[-2:]
    assert table.lookup([profile_id("user_id", "ann")]) == [("free", Decimal("1.5"))]


def test_a_dry_run_leaves_nothing(place: Place) -> None:
    place.refresh()
    names, last = place.names(), place.shelf.last()
    place.write("ann,paid,9")
    done = place.refresh(dry_run=True)
    assert done.outcome == "published"
    assert done.figures is not None
    assert done.figures.changed == 1
    assert (place.names(), place.shelf.last()) == (names, last)


class TestGuard:
    def test_an_empty_table_is_held_until_it_is_confirmed(self, tmp_path: Path) -> None:
        place = Place(tmp_path, guard=Guard())
        place.write("ann,free,1", "bob,paid,2")
        first = place.refresh().manifest
        place.write()
        held = place.refresh()
        assert held.outcome == "held"
        assert "2 of 2 rows are gone" in held.manifest.held
        assert place.shelf.newest() == first
        assert place.refresh().outcome == "unchanged", "the same accident again makes no further directory"
        assert place.shelf.held() == held.manifest
        place.shelf.confirm()
        assert place.rows() == {}
        assert place.shelf.held() is None

    def test_a_good_refresh_after_it_removes_what_was_held(self, tmp_path: Path) -> None:
        place = Place(tmp_path, guard=Guard())
        place.write("ann,free,1", "bob,paid,2")
        place.refresh()
        place.write()
        place.refresh()
        place.write("ann,free,1", "bob,paid,2")
        assert place.refresh().outcome == "unchanged"
        assert place.shelf.held() is None
        with pytest.raises(StateError, match="no snapshot waits"):
            place.shelf.confirm()

    def test_too_many_changed_values(self, tmp_path: Path) -> None:
        place = Place(tmp_path, guard=Guard(cells_changed=0.5))
        place.write(*(f"u{number},free,1" for number in range(10)))
        place.refresh()
        place.write(*(f"u{number},paid,{2 if number < 1 else 1}" for number in range(10)))
        assert place.refresh().outcome == "held"
        place.write(*(f"u{number},paid,1" for number in range(10)))
        assert place.refresh().outcome == "published", "half of the values is what the guard allows"

    def test_unguarded(self, tmp_path: Path) -> None:
        place = Place(tmp_path, guard=Guard())
        place.write("ann,free,1")
        place.refresh()
        place.write("bob,free,1")
        assert place.refresh(unguarded=True).outcome == "published"


BROKEN = {
    "source gone": lambda place: (place.directory / "t.csv").unlink(),
    "column gone": lambda place: place.write("ann,free", header="id,plan\n"),
    "type changed": lambda place: place.write("ann,free,much"),
    "null key": lambda place: place.write(",free,1"),
    "duplicate keys": lambda place: place.write("ann,free,1", "ann,free,2"),
    "empty file": lambda place: (place.directory / "t.csv").write_text(""),
    "cut off": lambda place: (place.directory / "t.csv").write_text(CSV + 'ann,"fre'),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_refused_source_leaves_the_last_good_snapshot(place: Place, fault: str) -> None:
    first = place.refresh().manifest
    BROKEN[fault](place)
    with pytest.raises(DefinitionError, match=r"t\.csv"):
        place.refresh()
    assert place.names() == [first.version]
    assert place.rows() == {"ann": ("free", Decimal("1.5")), "bob": ("paid", None)}
    last = place.shelf.last()
    assert last is not None
    assert last.outcome == "failed"
    assert "t.csv" in last.error
    place.write("ann,paid,2")
    assert place.refresh().outcome == "published"


def test_a_new_column_changes_nothing(place: Place) -> None:
    place.refresh()
    place.write("ann,free,1.5,x", "bob,paid,,y", header="id,plan,spend,extra\n")
    assert place.refresh().outcome == "unchanged"


def test_a_parquet_file_that_is_cut_off(tmp_path: Path) -> None:
    place = Place(tmp_path, source="t.parquet")
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(pa.table({"id": ["ann"], "plan": ["free"], "spend": [1]}), path)
    place.refresh()
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(DefinitionError):
            place.refresh()
    assert place.rows() == {"ann": ("free", 1)}


@pytest.mark.parametrize("step", ["reading", "sorting", "column plan", "comparing"])
def test_a_full_disk_leaves_the_last_good_snapshot(place: Place, step: str) -> None:
    first = place.refresh().manifest
    place.write("ann,paid,2")

    def progress(now: str, _: int) -> None:
        if now == step:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(TransientError, match=r"the disk of .* is full"):
        place.refresher(progress=progress).refresh()
    assert place.names() == [first.version]


def test_a_disk_that_is_full_in_truth(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    first = place.refresh().manifest
    place.write("ann,paid,2")
    # The rows' file lies on a device that is always full; nothing of ours is replaced but the path.
    monkeypatch.setattr(writing, "write_rows", lambda _, *rest: snapshot.write_rows(Path("/dev/full"), *rest))
    with pytest.raises(TransientError, match=r"the disk of .* is full"):
        place.refresh()
    assert place.names() == [first.version]


POINTS = ["written", "synced", "before_publish", "published"]


@pytest.mark.parametrize("point", POINTS)
def test_a_process_that_is_killed_leaves_the_last_good_snapshot(place: Place, point: str) -> None:
    place.refresh()
    place.write("ann,paid,2")
    program = (
        "import os, signal, sys; from pathlib import Path; "
        "from tests.unit.warehouse.test_refreshing import Place; place = Place(Path(sys.argv[1])); place.now = 2000; "
        "place.refresher(on_point=lambda p: p == sys.argv[2] and os.kill(os.getpid(), signal.SIGKILL)).refresh()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(place.directory), point], cwd=ROOT, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    expected: dict[str, object] = {"ann": ("paid", 2)}
    before = {"ann": ("free", Decimal("1.5")), "bob": ("paid", None)}
    assert place.rows() == (expected if point == "published" else before)
    assert place.refresh().outcome == ("unchanged" if point == "published" else "published"), "the lock was given back"
    assert place.rows() == expected
    assert [name for name in place.names() if name.startswith("new-")] == []


def test_a_second_refresher_waits_or_is_told(place: Place) -> None:
    with place.shelf.locked(), pytest.raises(TransientError, match="another process refreshes it"):
        place.refresh(wait=False)
    assert place.refresh(wait=False).outcome == "published"


class TestDamage:
    def test_a_file_that_is_cut_off_is_not_opened(self, place: Place) -> None:
        path = place.shelf.path(place.refresh().manifest.version)
        rows = (path / ROWS).read_bytes()
        (path / ROWS).write_bytes(rows[:-1])
        with pytest.raises(StateError, match=r"has \d+ bytes"):
            open_snapshot(path)

    def test_a_byte_that_turned_is_found(self, place: Place) -> None:
        path = place.shelf.path(place.refresh().manifest.version)
        rows = bytearray((path / ROWS).read_bytes())
        rows[len(rows) // 2] ^= 1
        (path / ROWS).write_bytes(rows)
        with pytest.raises(StateError, match="checksum"):
            open_snapshot(path, checked=True)

    @pytest.mark.parametrize("manifest", [b"", b"{}", b"[1]", b"\xff", None])
    def test_a_manifest_that_is_not_one(self, place: Place, manifest: bytes | None) -> None:
        path = place.shelf.path(place.refresh().manifest.version)
        if manifest is None:
            (path / MANIFEST).unlink()
        else:
            (path / MANIFEST).write_bytes(manifest)
        with pytest.raises(StateError, match="cannot be used"):
            open_snapshot(path)

    def test_a_refresh_replaces_a_damaged_snapshot(self, place: Place) -> None:
        path = place.shelf.path(place.refresh().manifest.version)
        (path / ROWS).write_bytes(b"")
        assert place.refresh().outcome == "published"
        assert place.rows() == {"ann": ("free", Decimal("1.5")), "bob": ("paid", None)}

    def test_a_format_of_the_future(self, place: Place) -> None:
        path = place.shelf.path(place.refresh().manifest.version)
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes())
        (path / MANIFEST).write_bytes(msgspec.json.encode({**manifest, "format": 2}))
        with pytest.raises(StateError, match="format 2"):
            open_snapshot(path)
