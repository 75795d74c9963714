"""Files that are not what their table says: each is refused with file, column, row, and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from opportune.audiences.schema import Table, ValueType
from opportune.errors import DefinitionError
from state.warehouse import columns_of, load_table

_DEFAULT: dict[str, ValueType | None] = {"plan": None}


def _refusal(directory: Path, source: str, used: dict[str, ValueType | None] | None = None, **table: Any) -> str:
    with pytest.raises(DefinitionError) as caught:
        load_table(Table("customers", source, "id", **table), directory, _DEFAULT if used is None else used)
    text = str(caught.value)
    assert all(line.startswith(f"{directory / source}: table 'customers': ") for line in text.splitlines())
    return text


def _csv(directory: Path, text: str) -> Callable[..., str]:
    (directory / "t.csv").write_text(text)
    return lambda **table: _refusal(directory, "t.csv", **table)


def test_a_file_that_is_missing_or_no_file_or_of_no_format(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "t.xlsx").touch()
    os.mkfifo(tmp_path / "pipe.csv")
    assert "there is no such file; correct `source`" in _refusal(tmp_path, "t.csv")
    assert "not a regular file" in _refusal(tmp_path, "folder.csv")
    assert "not a regular file" in _refusal(tmp_path, "pipe.csv")
    assert "end with one of .parquet, .arrow" in _refusal(tmp_path, "t.xlsx")


@pytest.mark.parametrize("source", ["t.parquet", "t.arrow", "t.feather", "t.csv", "t.csv.gz"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"\xff\xfe\x00garbage\n\xff", b"\n\n"])
def test_a_file_of_another_format(tmp_path: Path, source: str, content: bytes) -> None:
    (tmp_path / source).write_bytes(content)
    _refusal(tmp_path, source)
    with pytest.raises(DefinitionError):
        columns_of(Table("customers", source, "id"), tmp_path)


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    refuse = _csv(tmp_path, "user,plan\na,free\n")
    text = refuse(used={"pln": None, "zzz": None})
    assert "column 'id': the file has no such key column" in text
    assert "column 'pln': the file has no such column; did you mean 'plan'?" in text
    assert "column 'zzz': the file has no such column; it has 'user', 'plan'" in text
    assert "column 'at'" in refuse(order_by="at")
    with pytest.raises(DefinitionError, match=r"column 'plann': .*did you mean 'plan'"):
        columns_of(Table("t", "t.csv", "plan", columns={"plann": "string"}), tmp_path)


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    assert "column 'plan': the file has more than one column" in _csv(tmp_path, "id,plan,plan\na,b,c\n")()


@pytest.mark.parametrize(
    ("declared", "cell", "what"),
    [
        ("number", "abc", '"abc" is not a number'),
        ("number", "1e500", '"1e500" has more than 400 digits'),
        ("boolean", "yes", '"yes" is neither true nor false'),
        ("timestamp", "yesterday", '"yesterday" is not an ISO 8601 date'),
    ],
)
def test_a_cell_that_is_not_of_the_declared_type(tmp_path: Path, declared: str, cell: str, what: str) -> None:
    good = {"number": "1", "boolean": "true", "timestamp": "2024-01-01"}[declared]
    refuse = _csv(tmp_path, f"id,plan,other\na,{good},1\nb,,x\nc,{cell},1\nd,{cell},y\n")
    text = refuse(used={"plan": None, "other": "number"}, columns={"plan": declared})
    assert f"column 'plan', row 3: {what}" in text
    assert "column 'other', row 2: \"x\" is not a number; correct the value" in text


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()])
def test_numbers_that_are_not_finite(tmp_path: Path, number: float, kind: Any) -> None:
    content = pa.table({"id": ["a", "b", "c"], "plan": pa.array([1.0, None, number], kind)})
    pa.parquet.write_table(content, tmp_path / "t.parquet")
    assert "column 'plan', row 3: " in (text := _refusal(tmp_path, "t.parquet"))
    assert "is not a finite number" in text


@pytest.mark.parametrize(
    ("array", "declared"),
    [
        (pa.array(["1"]), "number"),
        (pa.array([1]), "string"),
        (pa.array([1]), "timestamp"),
        (pa.array([True]), "number"),
        (pa.array([Decimal(1)]), "boolean"),
        (pa.array([1], pa.timestamp("s")), "string"),
    ],
)
def test_a_column_of_another_type_than_declared(tmp_path: Path, array: Any, declared: ValueType) -> None:
    pa.parquet.write_table(pa.table({"id": ["a"], "plan": array}), tmp_path / "t.parquet")
    text = _refusal(tmp_path, "t.parquet", columns={"plan": declared})
    assert f"column 'plan': it is declared {declared}, and the file has" in text


def test_types_that_no_condition_can_use_matter_only_where_used(tmp_path: Path) -> None:
    content = pa.table({"id": ["a"], "plan": [[1]], "raw": [b"x"], "pair": [{"a": 1}], "ok": [1]})
    pa.parquet.write_table(content, tmp_path / "t.parquet")
    text = _refusal(tmp_path, "t.parquet", {"plan": None, "raw": None, "pair": None, "ok": None})
    assert [f"column {name!r}: it is of the type" in text for name in ("plan", "raw", "pair", "ok")] == [True] * 3 + [
        False
    ]
    assert len(load_table(Table("t", "t.parquet", "id"), tmp_path, {"ok": None})) == 1
    assert columns_of(Table("t", "t.parquet", "id"), tmp_path) == {"id": "string", "ok": "number"}
    with pytest.raises(DefinitionError, match="column 'raw': a key is a string or a number"):
        load_table(Table("t", "t.parquet", "raw"), tmp_path, {})


def test_a_time_out_of_range(tmp_path: Path) -> None:
    content = pa.table({"id": ["a", "b"], "plan": pa.array([0, 2**60], pa.timestamp("s"))})
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as sink, pa.ipc.new_file(sink, content.schema) as writer:
        writer.write_table(content)
    assert "column 'plan', row 2: the time is out of range" in _refusal(tmp_path, "t.arrow")


def test_rows_without_a_key(tmp_path: Path) -> None:
    text = _csv(tmp_path, 'id,plan\na,x\n,y\n"",z\n  ,z\n')()
    assert "column 'id', row 2: the key is empty, as in 3 rows; give each row a key" in text
    pa.parquet.write_table(pa.table({"id": [1.0, None], "plan": ["x", "y"]}), tmp_path / "t.parquet")
    assert "column 'id', row 2: the key is empty;" in _refusal(tmp_path, "t.parquet")
    pa.parquet.write_table(pa.table({"id": [1.0, float("nan")], "plan": ["x", "y"]}), tmp_path / "t.parquet")
    assert "column 'id', row 2: nan is not a finite number" in _refusal(tmp_path, "t.parquet").replace('"', "")


def test_two_rows_with_one_key(tmp_path: Path) -> None:
    refuse = _csv(tmp_path, "id,plan,at\nb,x,1\na,x,1\nc,x,1\na,x,1\nb,x,0\nb,y,1\n")
    text = refuse()
    assert "column 'id': rows 1 and 5 have the key \"b\"" in text
    assert "name under `order_by` the column whose greatest value holds" in text
    assert 'rows 1 and 6 have the key "b" and the same greatest `order_by` value (2 keys are so)' in refuse(
        order_by="at"
    )
    assert "rows 1 and 2" in _csv(tmp_path, "id,plan,at\na,x,\na,y,\n")(order_by="at")


def test_rows_of_other_lengths_and_open_quotes(tmp_path: Path) -> None:
    text = _csv(tmp_path, "id,plan\na,x\nb\n")()
    assert "row 2: 1 cells where the header has 2; quote values that hold commas" in text
    assert "an odd number of double quotes" in _csv(tmp_path, 'id,plan\na,"x\nb,y\n')()


def test_a_short_row_far_into_the_file(tmp_path: Path) -> None:
    rows = [f"{number},{'x' * 100}" for number in range(60_000)]
    assert "row 60001: 1 cells" in _csv(tmp_path, "\n".join(["id,plan", *rows, "short", "a,b"]) + "\n")()


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"id,plan,note\na,x,\xff\nb,\xe9t\xe9,\xff\n")
    text = _refusal(tmp_path, "t.csv")
    assert "column 'plan', row 2: " in text
    assert "write the file with UTF-8 text" in text
    assert len(load_table(Table("t", "t.csv", "id"), tmp_path, {})) == 2


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    content = pa.table({"id": [str(number) for number in range(5_000)], "plan": ["x"] * 5_000})
    for name in ("t.parquet", "t.arrow"):
        path = tmp_path / name
        if name.endswith("parquet"):
            pa.parquet.write_table(content, path, compression="zstd")
        else:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, content.schema) as writer:
                writer.write_table(content, max_chunksize=1_000)
        path.write_bytes(path.read_bytes()[:-3_000])
        _refusal(tmp_path, name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
@example(content=b"id,plan\n\x00,\x00\n")
@example(content=b'id,plan\n"a,b\n')
@example(content=b"id,plan\r\na,b\r\n\r\n")
def test_any_bytes_are_a_table_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(b"id,plan\n" + content if len(content) % 2 else content)
    table = Table("customers", "t.csv", "id")
    for read in (lambda: load_table(table, tmp_path, {"plan": None}), lambda: columns_of(table, tmp_path)):
        with suppress(DefinitionError):
            read()
