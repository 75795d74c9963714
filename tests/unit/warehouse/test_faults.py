"""What the world does to a refresh: killed at any step, refused by the disk at any byte, clocks that jump, bytes that turn."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from opportune.audiences.schema import Guard
from opportune.errors import DefinitionError, TransientError
from state.warehouse.manifest import MANIFEST, ROWS
from tests.conftest import ROOT
from tests.unit.warehouse.test_refreshing import Place

BEFORE = {"ann": ("free", Decimal("1.5")), "bob": ("paid", None)}
AFTER = {"ann": ("paid", 2), "eve": ("free", 3)}
STEPS = ["reading", "sorting", "column plan", "column spend", "comparing"]
KILLED = (
    "import os, signal, sys; from pathlib import Path; "
    "from tests.unit.warehouse.test_refreshing import Place; place = Place(Path(sys.argv[1])); place.now = 2000; "
    "die = lambda step, rows: step == sys.argv[2] and os.kill(os.getpid(), signal.SIGKILL); "
    "place.refresher(progress=die).refresh()"
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.write("ann,free,1.5", "bob,paid,")
    place.refresh()
    place.write("ann,paid,2", "eve,free,3")
    return place


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step(place: Place, step: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(place.directory), step], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert place.rows() == BEFORE
    assert len(place.names()) == 2, "what it had begun lies there"
    assert place.refresh().outcome == "published"
    assert place.rows() == AFTER
    assert [name for name in place.names() if name.startswith("new-")] == []


def test_refused_by_the_disk_at_any_size(place: Place) -> None:
    """The system lets no file become larger than a limit, which is raised until the refresh gets through."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    refused: list[str] = []
    try:
        for limit in range(0, 40_000, 120):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            try:
                place.refresh()
                break
            except TransientError as error:
                refused.append(str(error))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            assert place.rows() == BEFORE
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert len(refused) > 5
    assert {told for told in refused if "The last good snapshot stays in force" not in told} == set()
    assert place.rows() == AFTER


@pytest.mark.parametrize("jump", [-10_000_000, -1, 0, 10_000_000])
def test_a_clock_that_jumps(place: Place, jump: int) -> None:
    versions = place.shelf.versions()
    for number in range(4):
        place.write(f"ann,paid,{number}", "eve,free,3")
        place.now = max(place.now + jump * (-1) ** number, 1)
        done = place.refresh()
        assert done.outcome == "published"
        assert done.manifest.version > versions[-1], "newer than every one before, whatever the clock says"
        versions.append(done.manifest.version)
        assert place.rows()["ann"] == ("paid", number)


@pytest.mark.parametrize("damage", ["a byte", "cut off", "no manifest", "empty manifest"])
def test_a_damaged_snapshot_is_replaced_though_the_source_is_as_it_was(place: Place, damage: str) -> None:
    place.refresh()
    newest = place.shelf.versions()[-1]
    spoil(place.shelf.path(newest), damage)
    done = place.refresh()
    assert done.outcome == "published"
    assert done.manifest.version > newest
    assert place.rows() == AFTER
    assert place.refresh().outcome == "unchanged"


def test_the_guard_compares_with_the_last_one_that_is_whole(tmp_path: Path) -> None:
    place = Place(tmp_path, guard=Guard())
    place.write("ann,free,1", "bob,paid,2")
    place.refresh()
    place.write("ann,free,1", "bob,paid,3")
    place.refresh()
    spoil(place.shelf.path(place.shelf.versions()[-1]), "a byte")
    place.write()
    held = place.refresh()
    assert held.outcome == "held", "a turned byte does not let an empty table through"
    assert "2 of 2 rows are gone" in held.manifest.held


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_a_source_that_is_cut_off_anywhere_is_refused(tmp_path: Path, suffix: str) -> None:
    """A file that says where it ends is whole or refused. A CSV file cannot say it: docs/warehouse.md has what to do."""
    place = Place(tmp_path, source=f"t.{suffix}")
    path = tmp_path / f"t.{suffix}"
    content = pa.table({"id": ["ann", "eve"], "plan": ["paid", "free"], "spend": [2, 3]})
    if suffix == "arrow":
        pa.feather.write_feather(content, str(path), compression="uncompressed")
    else:
        pa.parquet.write_table(content, path)
    whole = path.read_bytes()
    place.refresh()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        with pytest.raises(DefinitionError):
            place.refresh()
    path.write_bytes(whole)
    assert place.refresh().outcome == "unchanged"
    assert place.rows() == AFTER


def test_an_older_snapshot_that_somebody_puts_back_is_not_newer(place: Place) -> None:
    first = place.shelf.versions()[0]
    place.refresh()
    second = place.shelf.versions()[-1]
    assert first < second
    newest = place.shelf.newest()
    assert newest is not None
    assert newest.version == second, "the greatest number is the newest, whenever its directory was touched"
    place.shelf.path(first).touch()
    assert place.rows() == AFTER


def spoil(directory: Path, damage: str) -> None:
    """Damages a snapshot."""
    if damage == "no manifest":
        (directory / MANIFEST).unlink()
    elif damage == "empty manifest":
        (directory / MANIFEST).write_bytes(b"")
    else:
        content = bytearray((directory / ROWS).read_bytes())
        content[len(content) // 2] ^= 1
        (directory / ROWS).write_bytes(content if damage == "a byte" else content[:-9])
