"""Incremental refreshes: every one gives what a full one would, also after faults, and asks no more than it has to."""

from __future__ import annotations

import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opportune.audiences.schema import Incremental, Table, ValueType
from opportune.errors import DefinitionError
from state.warehouse import Refreshed, Refresher, Shelf, open_snapshot
from state.warehouse.manifest import MANIFEST, ROWS
from state.warehouse.shelf import READ
from tests.conftest import ROOT
from tests.unit.warehouse.test_refreshing import FREE, POINTS

HEADER = "id,plan,spend,name,at,gone\n"
TYPES: dict[str, ValueType] = {
    "plan": "string",
    "spend": "number",
    "name": "string",
    "at": "number",
    "gone": "boolean",
}
KEPT = ("name", "plan", "spend")
FLAGGED = Incremental("at", "gone")
HOUR_MS = 3_600_000


class Place:
    """A table that is read incrementally, and what a full read of it gives."""

    def __init__(self, directory: Path, incremental: Incremental = FLAGGED, **table: object) -> None:
        self.directory = directory
        fields = {"columns": TYPES, "guard": FREE, "source": "t.csv", "incremental": incremental, **table}
        self.table = Table("t", key="id", **fields)  # type: ignore[arg-type]  # fields of a table
        self.shelf = Shelf(directory / "state", "t")
        self.now = 1_000_000

    def write(self, *rows: str, header: str = HEADER) -> None:
        (self.directory / "t.csv").write_text(header + "".join(f"{row}\n" for row in rows))

    def refresher(self, shelf: Shelf | None = None, **more: object) -> Refresher:
        return Refresher(self.table, self.directory, shelf or self.shelf, list(KEPT), lambda: self.now, **more)  # type: ignore[arg-type]  # its options

    def refresh(self, full: bool = False) -> Refreshed:
        self.now += 1
        return self.refresher().refresh(full=full)

    def rows(self, shelf: Shelf | None = None) -> dict[str, object]:
        shelf = shelf or self.shelf
        newest = shelf.newest()
        assert newest is not None
        table = open_snapshot(shelf.path(newest.version), used=KEPT, checked=True)
        return {key: row for _, key, row in table.rows(0, 1)}

    def full(self) -> dict[str, object]:
        """What a full refresh into a directory of its own gives."""
        shelf = Shelf(self.directory / "full", "t")
        self.refresher(shelf).refresh(full=True)
        return self.rows(shelf)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.write("ann,free,1.5,Ann,1,", "bob,paid,,Bob,2,false", "cid,free,3,,3,true")
    assert place.refresh().outcome == "published"
    return place


def test_new_rows_replace_and_deleted_ones_go(place: Place) -> None:
    assert place.rows() == {"ann": ("Ann", "free", Decimal("1.5")), "bob": ("Bob", "paid", None)}
    place.write("bob,free,7,Bob,5,", "ann,free,1.5,Ann,6,true", "eve,trial,0.25,Eve,7,")
    done = place.refresh()
    assert done.outcome == "published"
    assert done.manifest.read_rows == 3
    assert done.manifest.watermark is not None
    assert done.manifest.watermark.value == 7
    assert place.rows() == {"bob": ("Bob", "free", 7), "eve": ("Eve", "trial", Decimal("0.25"))}
    assert done.figures is not None
    assert (done.figures.changed, done.figures.added, done.figures.gone) == (1, 1, 1)


def test_rows_below_the_watermark_are_not_looked_at(place: Place) -> None:
    place.write("ann,secret,9,Ann,1,", "bob,paid,,Bob,2,false", "eve,free,1,Eve,3,")
    assert place.refresh().manifest.read_rows == 1, "the one whose `at` is not below that of the last read row"
    assert place.rows()["ann"] == ("Ann", "free", Decimal("1.5"))
    assert "eve" in place.rows()
    assert place.refresh(full=True).manifest.read_rows == 3
    assert place.rows()["ann"] == ("Ann", "secret", 9)


def test_what_changes_nothing_makes_no_snapshot_and_moves_the_watermark(place: Place) -> None:
    first = place.shelf.newest()
    assert first is not None
    place.write("ann,free,1.50,Ann,5,", "bob,paid,,Bob,6,", "cid,free,3,,9,true", "zoe,free,3,,9,true")
    done = place.refresh()
    assert (done.outcome, done.manifest) == ("unchanged", first)
    mark = place.shelf.watermark(first)
    assert mark is not None
    assert mark.value == 9
    place.write("ann,hidden,1.5,Ann,8,")
    assert place.refresh().outcome == "unchanged"
    assert len(place.shelf.versions()) == 1


def test_a_note_of_another_snapshot_is_not_believed(place: Place) -> None:
    place.write("ann,free,1.5,Ann,50,")
    assert place.refresh().outcome == "unchanged"
    (place.shelf.directory / READ).write_bytes((place.shelf.directory / READ).read_bytes().replace(b"000", b"111", 1))
    place.write("ann,paid,1.5,Ann,40,")
    assert place.refresh().outcome == "published"
    (place.shelf.directory / READ).write_bytes(b"{")
    place.write("ann,free,1.5,Ann,41,")
    assert place.refresh().outcome == "published"


def test_all_rows_are_read_when_it_is_time(tmp_path: Path) -> None:
    place = Place(tmp_path, Incremental("at", None, HOUR_MS))
    place.write("ann,free,1,Ann,1,", "bob,free,1,Bob,2,")
    place.refresh()
    place.write("ann,paid,1,Ann,3,")
    place.refresh()
    assert place.rows().keys() == {"ann", "bob"}, "nothing says that Bob is gone"
    place.now += HOUR_MS
    assert place.refresh().outcome == "published"
    assert place.rows().keys() == {"ann"}
    place.write()
    place.now -= 3 * HOUR_MS
    place.refresh()
    assert place.rows() == {}, "with a clock that has gone back nobody knows how long ago it was"


def test_a_time_far_ahead_hides_nothing(tmp_path: Path) -> None:
    declared: dict[str, ValueType] = {**TYPES, "at": "timestamp"}
    place = Place(tmp_path, Incremental("at", "gone", overlap_ms=1_000), columns=declared)
    place.write("ann,free,1,Ann,2099-01-01,", "bob,free,1,Bob,1970-01-01T00:16:39Z,")
    mark = place.refresh().manifest.watermark
    assert mark is not None
    assert mark.value == place.now
    place.write("ann,free,1,Ann,2099-01-01,", "bob,paid,1,Bob,1970-01-01T00:16:39.500Z,")
    done = place.refresh()
    assert done.outcome == "published", "committed late, within the overlap"
    assert done.manifest.read_rows == 2
    assert place.rows()["bob"] == ("Bob", "paid", 1)


def test_several_rows_of_one_key(tmp_path: Path) -> None:
    place = Place(tmp_path, order_by="at")
    place.write("ann,free,1,Ann,1,", "ann,paid,1,Ann,2,", "bob,free,1,Bob,3,", "bob,free,1,Bob,4,true")
    place.refresh()
    assert place.rows() == {"ann": ("Ann", "paid", 1)}
    place.write("ann,trial,2,Ann,9,", "ann,paid,1,Ann,8,", "bob,free,1,Bob,4,true", "bob,late,1,Bob,5,")
    place.refresh()
    assert place.rows() == {"ann": ("Ann", "trial", 2), "bob": ("Bob", "late", 1)}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("ann,free,1,Ann,,", "column 'at', row 1: it is null"),
        ("ann,free,1,Ann,soon,", '"soon" is not a number'),
        ("ann,free,much,Ann,7,", '"much" is not a number'),
        (",free,1,Ann,7,", "the key is empty"),
        ("ann,free,1,Ann,7,perhaps", '"perhaps" is neither true nor false'),
    ],
)
def test_a_row_that_is_refused_leaves_the_last_good_snapshot(place: Place, row: str, said: str) -> None:
    before = place.rows()
    place.write(row)
    with pytest.raises(DefinitionError, match=said.replace("(", "[(]")):
        place.refresh()
    assert place.rows() == before
    place.write("ann,paid,1,Ann,7,")
    place.refresh()
    assert place.rows() == {**before, "ann": ("Ann", "paid", 1)}


@pytest.mark.parametrize("column", ["name", "gone"])
def test_a_column_that_cannot_rise(tmp_path: Path, column: str) -> None:
    place = Place(tmp_path, Incremental(column, "gone"))
    place.write("ann,free,1,Ann,1,true")
    with pytest.raises(DefinitionError, match="names one of whole numbers or timestamps"):
        place.refresh()


def test_a_column_whose_type_has_changed_is_read_anew(tmp_path: Path) -> None:
    place = Place(tmp_path, columns={"at": "number", "gone": "boolean"})
    place.write("ann,1,1,Ann,1,", "bob,2,2,Bob,2,")
    place.refresh()
    place.write("ann,1,1,Ann,1,", "bob,2,2,Bob,2,", "cid,three,3,Cid,3,")
    done = place.refresh()
    assert done.manifest.columns["plan"] == "string"
    assert done.manifest.read_rows == 3
    assert place.rows()["ann"] == ("Ann", "1", 1)


@pytest.mark.parametrize("damaged", [ROWS, MANIFEST])
def test_a_damaged_snapshot_is_not_built_upon(place: Place, damaged: str) -> None:
    newest = place.shelf.newest()
    assert newest is not None
    path = place.shelf.path(newest.version) / damaged
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damaged == ROWS else b"")
    place.write("ann,paid,1,Ann,9,")
    done = place.refresh()
    assert done.manifest.read_rows == 1
    assert place.rows() == {"ann": ("Ann", "paid", 1)}


@pytest.mark.parametrize("point", POINTS)
def test_a_process_that_is_killed(place: Place, point: str) -> None:
    before = place.rows()
    place.write("ann,paid,2,Ann,9,")
    program = (
        "import os, signal, sys; from pathlib import Path; "
        "from tests.unit.warehouse.test_incremental import Place; place = Place(Path(sys.argv[1])); place.now += 9; "
        "place.refresher(on_point=lambda p: p == sys.argv[2] and os.kill(os.getpid(), signal.SIGKILL)).refresh()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(place.directory), point], cwd=ROOT, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    after: dict[str, object] = {**before, "ann": ("Ann", "paid", 2)}
    assert place.rows() == (after if point == "published" else before)
    assert place.refresh().outcome == ("unchanged" if point == "published" else "published")
    assert place.rows() == after
    assert [path.name for path in place.shelf.directory.iterdir() if path.name.startswith("new-")] == []


def test_an_older_table_again_is_seen_by_a_full_refresh(place: Place) -> None:
    place.write("ann,paid,2,Ann,9,")
    newer = place.refresh().manifest.version
    place.write("ann,free,1.5,Ann,1,", "bob,paid,,Bob,2,false")
    assert place.refresh().outcome == "unchanged"
    restored = place.refresh(full=True)
    assert restored.manifest.version > newer
    assert restored.manifest.watermark is not None
    assert restored.manifest.watermark.value == 2, "it is read on from where the restored table is"


def test_another_definition_is_read_in_full(place: Place) -> None:
    place.write("ann,paid,2,Ann,9,")
    place.table = Table("t", "t.csv", "id", columns=TYPES, guard=FREE, incremental=Incremental("at", None, HOUR_MS))
    assert place.refresh().manifest.rows == 1


VALUES = st.tuples(
    st.sampled_from(["free", "paid", "", "trial"]),
    st.sampled_from(["", "0", "1.5", "1e3", "123456789012", "0.000000001"]),
    st.sampled_from(["", "Ann", "Zoë", '"a,b"']),
)
CHANGES = st.dictionaries(st.sampled_from([f"u{n}" for n in range(9)]), st.none() | VALUES, max_size=6)


@settings(max_examples=40)
@given(st.lists(CHANGES, min_size=1, max_size=6), st.booleans())
def test_any_history_gives_what_a_full_read_gives(
    tmp_path_factory: pytest.TempPathFactory, history: list[dict[str, tuple[str, str, str] | None]], log: bool
) -> None:
    """Rows are written anew where they are, or appended to a log; either way the snapshots are those of full reads."""
    place = Place(tmp_path_factory.mktemp("history"), order_by="at" if log else None)
    lines: dict[object, str] = {}
    number = 0
    for changes in history:
        for key, values in changes.items():
            number += 1
            plan, spend, name = values or ("", "", "")
            line = f"{key},{plan},{spend},{name},{number},{'true' if values is None else ''}"
            lines[(key, number) if log else key] = line
        place.write(*lines.values())
        place.refresh()
        assert place.rows() == place.full()
