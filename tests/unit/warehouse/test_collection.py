"""Rows of a snapshot by key and by value are those of the file, whatever the values are."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opportune.audiences.schema import Guard, Table, ValueType
from opportune.errors import StateError
from state.warehouse import Collection, Refresher, Shelf, secondary
from state.warehouse.secondary import index_file

DECLARED: dict[str, ValueType] = {"word": "string", "number": "number", "flag": "boolean", "at": "timestamp"}
VALUES: dict[str, st.SearchStrategy[object]] = {
    "word": st.none() | st.sampled_from(["", "1", "true", "é", "a b", "A"]) | st.text("ab", max_size=3),
    "number": st.none() | st.sampled_from([Decimal(0), Decimal("0.1"), Decimal("1e-9"), Decimal(10) ** 12]),
    "flag": st.none() | st.booleans(),
    "at": st.none() | st.integers(0, 3),
}
TYPES = {"word": pa.string(), "number": pa.decimal128(38, 9), "flag": pa.bool_(), "at": pa.timestamp("ms")}
ROWS = st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=30)


def collection(directory: Path, rows: list[dict[str, object]]) -> Collection:
    columns = {name: pa.array([row[name] for row in rows], type_) for name, type_ in TYPES.items()}
    pa.feather.write_feather(pa.table({"id": [f"p{at}" for at in range(len(rows))], **columns}), directory / "t.arrow")
    table = Table("t", "t.arrow", "id", columns=DECLARED, guard=Guard(1.0, 1.0), indexes=tuple(DECLARED))
    shelf = Shelf(directory / "state", "t")
    done = Refresher(table, directory, shelf, [], lambda: 1_000).refresh()
    return Collection(table, shelf, done.manifest.version)


def texts(value: object, kind: ValueType) -> str:
    """A value as a query writes it."""
    if kind == "boolean":
        return "true" if value else "false"
    return f"1970-01-01T00:00:00.00{value}Z" if kind == "timestamp" else str(value)


@settings(max_examples=40)
@given(ROWS)
def test_an_index_finds_the_rows_with_a_value_and_no_others(rows: list[dict[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        found = collection(Path(name), rows)
        for column, kind in DECLARED.items():
            for value in {row[column] for row in rows} - {None}:
                wanted = {f"p{at}" for at, row in enumerate(rows) if row[column] == value}
                index, asked = found.indexes[column], found.value_of(column, texts(value, kind))
                places = index.places(asked, -1, 100)
                assert {row["key"] for row in found.rows(places)} == wanted
                assert places == sorted(places)
                paged: list[int] = []
                while page := index.places(asked, paged[-1] if paged else -1, 2):
                    paged += page
                assert paged == places
        found.close()


def test_rows_have_the_columns_that_have_a_value(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"word": "x", "number": Decimal("0.1"), "flag": True, "at": 3},
        dict.fromkeys(DECLARED),
    ]
    found = collection(tmp_path, rows)
    whole = {"word": "x", "number": Decimal("0.1"), "flag": True, "at": "1970-01-01T00:00:00.003Z"}
    assert (found.row("p0"), found.row("p1")) == ({"key": "p0", "row": whole}, {"key": "p1", "row": {}})
    assert found.row("p2") is None
    assert found.indexes["word"].places("nothing", -1, 5) == []
    for column, text in (("number", "x"), ("flag", "1"), ("at", "yesterday")):
        with pytest.raises(ValueError, match="is"):
            found.value_of(column, text)


def test_values_with_one_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secondary, "hash_of", lambda _: 7)
    words = ["a", "b", "a", "c", "b", "a"]
    found = collection(tmp_path, [{**dict.fromkeys(DECLARED), "word": word} for word in words])
    index = found.indexes["word"]
    places = index.places("a", -1, 2) + index.places("a", index.places("a", -1, 2)[-1], 9)
    assert sorted(row["key"] for row in found.rows(places)) == ["p0", "p2", "p5"]


def test_an_index_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    found = collection(tmp_path, [dict.fromkeys(DECLARED)])
    shelf = Shelf(tmp_path / "state", "t")
    path = shelf.path(found.manifest.version) / index_file("word")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StateError, match=r"index-word\.arrow is not readable"):
        Collection(Table("t", "t.arrow", "id", columns=DECLARED, indexes=("word",)), shelf, found.manifest.version)
