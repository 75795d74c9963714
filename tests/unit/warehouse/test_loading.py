"""Tables of every format against plain dicts: types, keys, order, versions."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opportune.audiences.schema import Table, ValueType
from opportune.event import blocked
from opportune.identity import profile_id, shard_of
from state.warehouse import WarehouseTable, columns_of, load_table, readings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NINE_PLACES = Decimal("1e-9")
_WIDE = Context(prec=400, rounding=ROUND_HALF_EVEN)
_FORMATS = ("parquet", "arrow", "csv")
_DECLARED: dict[str, ValueType] = {
    "text": "string",
    "whole": "number",
    "float": "number",
    "money": "number",
    "flag": "boolean",
    "seen": "timestamp",
}
_ARROW = {
    "text": pa.string(),
    "whole": pa.int64(),
    "float": pa.float64(),
    "money": pa.decimal128(20, 4),
    "flag": pa.bool_(),
    "seen": pa.timestamp("us", "UTC"),
}
# CSV cannot tell the empty string from null.
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=8)
_MOMENT = st.timedeltas(timedelta(days=-25_000), timedelta(days=80_000)).map(lambda since: _EPOCH + since)
_ROW = st.fixed_dictionaries(
    {
        "text": st.none() | _TEXT,
        "whole": st.none() | st.integers(-(2**63), 2**63 - 1),
        "float": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "money": st.none() | st.decimals(-(10**9), 10**9, places=4),
        "flag": st.none() | st.booleans(),
        "seen": st.none() | _MOMENT,
    }
)
_KEY = _TEXT.map(str.strip).filter(lambda key: key and not blocked(key))
_ROWS = st.dictionaries(_KEY, _ROW, max_size=30)


def _write(path: Path, columns: Mapping[str, Any]) -> None:
    content = pa.table(dict(columns))
    if path.suffix == ".parquet":
        pa.parquet.write_table(content, path, row_group_size=7)
    elif path.suffix == ".arrow":
        pa.feather.write_feather(
            content, str(path), compression="uncompressed", chunksize=max(content.num_rows // 3, 1)
        )
    else:
        _write_csv(path, content.column_names, zip(*[column.to_pylist() for column in content.columns], strict=True))


def _write_csv(path: Path, header: Sequence[str], rows: Any) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([[cell.isoformat() if isinstance(cell, datetime) else cell for cell in row] for row in rows])


def _expected(row: Mapping[str, Any]) -> tuple[Any, ...]:
    def number(cell: Any) -> Any:
        return None if cell is None else Decimal(str(cell)).quantize(_NINE_PLACES, context=_WIDE)

    seen = None if row["seen"] is None else (row["seen"] - _EPOCH) // timedelta(milliseconds=1)
    return row["text"], row["whole"], number(row["float"]), number(row["money"]), row["flag"], seen


def _all_rows(table: WarehouseTable, shards: int) -> list[tuple[bytes, str, tuple[Any, ...]]]:
    walked = [(shard, *found) for shard in range(shards) for found in table.rows(shard, shards)]
    assert all(shard_of(profile, shards) == shard for shard, profile, _, _ in walked)
    return [(profile, key, row) for _, profile, key, row in walked]


@pytest.mark.parametrize("suffix", _FORMATS)
@pytest.mark.parametrize("coded_max", [0, readings.CODED_MAX])
# A tenth of the examples, for there are six of these tests and each example writes a file.
@settings(
    max_examples=max(settings().max_examples // 10, 50),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=_ROWS, shards=st.integers(1, 20))
def test_every_format_equals_a_dict(
    tmp_path: Path, suffix: str, coded_max: int, rows: dict[str, dict[str, Any]], shards: int
) -> None:
    columns = {name: pa.array([row[name] for row in rows.values()], kind) for name, kind in _ARROW.items()}
    _write(tmp_path / f"t.{suffix}", {"id": pa.array(list(rows), pa.string()), **columns})
    table = Table("t", f"t.{suffix}", "id", columns=_DECLARED)
    with pytest.MonkeyPatch.context() as patch:
        # The layouts for many distinct values, without many values.
        patch.setattr(readings, "CODED_MAX", coded_max)
        loaded = load_table(table, tmp_path, dict.fromkeys(_DECLARED))
    expected = {profile_id("user_id", key): _expected(row) for key, row in rows.items()}
    asked = [*expected, profile_id("user_id", "\0nobody"), profile_id("anonymous_id", next(iter(rows), ""))]
    assert loaded.lookup(asked) == [expected.get(profile) for profile in asked]
    found = [row for row in loaded.lookup(asked) if row is not None]
    assert not any(isinstance(cell, float) for row in found for cell in row)
    assert all(type(row[4]) in (bool, type(None)) for row in found)
    keys = {profile_id("user_id", key): key for key in rows}
    assert _all_rows(loaded, shards) == [(profile, keys[profile], expected[profile]) for profile in sorted(expected)]
    assert (len(loaded), loaded.columns, loaded.types) == (len(rows), tuple(_DECLARED), _DECLARED)
    assert columns_of(table, tmp_path) == {"id": "string", **_DECLARED} | _inferred_key(suffix, rows)


def _inferred_key(suffix: str, rows: Mapping[str, Any]) -> dict[str, ValueType]:
    """what an undeclared key column of a CSV file is, worked out another way."""
    if suffix != "csv" or not rows:
        return {}
    if all(key.lower() in ("true", "false") for key in rows):
        return {"id": "boolean"}
    return {"id": "number"} if all(_is_json_number(key) for key in rows) else {}


def _is_json_number(text: str) -> bool:
    try:
        return text == text.strip() and text[0] in "-0123456789" and not isinstance(json.loads(text), str | bool)
    except ValueError:
        return False


def test_undeclared_csv_columns_are_what_all_of_them_is(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        'id,count,price,flag,zip,mixed,when,nothing\n1,1,0.10,true,01234,1,2024-01-01,\n2,,1e-05,False,99999,x,2024-01-02,""\n'
    )
    table = Table("t", "t.csv", "id")
    types = columns_of(table, tmp_path)
    assert types == {
        "id": "number",
        "count": "number",
        "price": "number",
        "flag": "boolean",
        "zip": "string",
        "mixed": "string",
        "when": "string",
        "nothing": "string",
    }
    loaded = load_table(table, tmp_path, dict.fromkeys(types))
    assert loaded.types == types
    assert loaded.lookup([profile_id("user_id", "1"), profile_id("user_id", "2")]) == [
        (1, 1, Decimal("0.1"), True, "01234", "1", "2024-01-01", None),
        (2, None, Decimal("0.00001"), False, "99999", "x", "2024-01-02", None),
    ]


def test_arrow_types_map_to_the_types_of_the_language(tmp_path: Path) -> None:
    day = date(1969, 12, 31)
    columns: dict[str, tuple[Any, ValueType, Any]] = {
        "u64": (pa.array([2**64 - 1], pa.uint64()), "number", 2**64 - 1),
        "i8": (pa.array([-5], pa.int8()), "number", -5),
        "f32": (pa.array([0.1], pa.float32()), "number", Decimal("0.1")),
        "f16": (pa.array(np.array([0.1], np.float16)), "number", Decimal("0.1")),
        "big": (pa.array([Decimal("1.23")], pa.decimal256(60, 2)), "number", Decimal("1.23")),
        "large": (pa.array(["é"], pa.large_string()), "string", "é"),
        "view": (pa.array(["v"], pa.string_view()), "string", "v"),
        "coded": (pa.array(["c"]).dictionary_encode(), "string", "c"),
        "day": (pa.array([day], pa.date32()), "timestamp", -86_400_000),
        "day64": (pa.array([day], pa.date64()), "timestamp", -86_400_000),
        "s": (pa.array([-1], pa.timestamp("s")), "timestamp", -1_000),
        "ns": (pa.array([-1], pa.timestamp("ns")), "timestamp", -1),
        "zoned": (pa.array([1_500], pa.timestamp("us", "Europe/Paris")), "timestamp", 1),
        "nothing": (pa.nulls(1), "string", None),
        "iso": (pa.array(["1970-01-01T00:00:00.001Z"]), "timestamp", 1),
    }
    stored = {name: array for name, (array, _, _) in columns.items()}
    path = tmp_path / "t.arrow"
    content = pa.table({"id": pa.array([7]), "list": pa.array([[1]]), **stored})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, content.schema) as writer:
        writer.write_table(content)
    table = Table("t", "t.arrow", "id", columns={"iso": "timestamp"})
    assert columns_of(table, tmp_path) == {"id": "number", **{name: type_ for name, (_, type_, _) in columns.items()}}
    loaded = load_table(table, tmp_path, dict.fromkeys(columns))
    assert loaded.lookup([profile_id("user_id", "7")]) == [tuple(value for _, _, value in columns.values())]


@pytest.mark.parametrize(
    ("keys", "texts"),
    [
        (pa.array([1, -20], pa.int32()), ["1", "-20"]),
        (pa.array([1.0, 2.5, 1e20]), ["1", "2.5", "100000000000000000000"]),
        (pa.array([0.1], pa.float32()), ["0.1"]),
        (pa.array([Decimal("7.00")], pa.decimal128(9, 2)), ["7"]),
        (pa.array(["007", " a\n"]).dictionary_encode(), ["007", "a"]),
    ],
)
def test_keys_are_their_text(tmp_path: Path, keys: Any, texts: list[str]) -> None:
    _write(tmp_path / "t.parquet", {"id": keys})
    loaded = load_table(Table("t", "t.parquet", "id", namespace="email"), tmp_path, {})
    assert sorted(key for _, key, _ in loaded.rows(0, 1)) == sorted(texts)
    assert loaded.lookup([profile_id("email", text) for text in texts]) == [()] * len(texts)


def test_csv_keys_are_numbers_where_declared(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id\n1.0\n007\n")
    for table, keys in (
        (Table("t", "t.csv", "id"), ["007", "1.0"]),
        (Table("t", "t.csv", "id", columns={"id": "number"}), ["1", "7"]),
    ):
        assert sorted(key for _, key, _ in load_table(table, tmp_path, {}).rows(0, 1)) == keys


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 9), st.integers()), unique_by=lambda row: row[:2]
    )
)
def test_the_greatest_in_order_by_holds(tmp_path: Path, rows: list[tuple[str, int | None, int]]) -> None:
    _write_csv(tmp_path / "t.csv", ["id", "at", "value"], rows)
    loaded = load_table(Table("t", "t.csv", "id", order_by="at"), tmp_path, {"value": "number"})
    expected: dict[str, tuple[int, int]] = {}
    for key, at, value in rows:
        rank = -1 if at is None else at
        expected[key] = max(expected.get(key, (rank, value)), (rank, value))
    assert {key: row for _, key, row in loaded.rows(0, 1)} == {key: (value,) for key, (_, value) in expected.items()}


@pytest.mark.parametrize("coded_max", [0, readings.CODED_MAX])
@pytest.mark.parametrize(
    ("older", "newer"),
    [("B", "a"), ("z", "é"), ("￿", "\U00010000"), (2, 10), (0.5, 0.25 + 0.5), (None, -1), (False, True)],
)
def test_order_by_compares_as_the_language_does(tmp_path: Path, coded_max: int, older: Any, newer: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readings, "CODED_MAX", coded_max)
        for values in ([older, newer], [newer, older]):
            _write(tmp_path / "t.parquet", {"id": pa.array(["k", "k"]), "at": pa.array(values)})
            loaded = load_table(Table("t", "t.parquet", "id", order_by="at"), tmp_path, {"at": None})
            assert loaded.lookup([profile_id("user_id", "k")]) == [
                (Decimal(str(newer)) if isinstance(newer, float) else newer,)
            ]


def test_blocked_keys_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,plan\nnull,free\na,team\n NULL ,free\n0000,free\n0000,team\n")
    loaded = load_table(Table("t", "t.csv", "id"), tmp_path, {"plan": None})
    assert (loaded.blocked_rows, len(loaded)) == (4, 1)
    assert [(key, row) for _, key, row in loaded.rows(0, 1)] == [("a", ("team",))]


def test_keys_that_are_longer_than_an_identifier_are_left_out_and_counted(tmp_path: Path) -> None:
    longest, longer = "u" * 256, "\u00e9" * 128 + "u"
    (tmp_path / "t.csv").write_text(f"id,plan\n{longest},free\n{longer},free\n", encoding="utf-8")
    loaded = load_table(Table("t", "t.csv", "id"), tmp_path, {"plan": None})
    assert (loaded.blocked_rows, len(loaded)) == (1, 1)
    assert [key for _, key, _ in loaded.rows(0, 1)] == [longest]


@pytest.mark.parametrize("coded_max", [0, readings.CODED_MAX])
def test_the_version_is_of_the_used_content(tmp_path: Path, coded_max: int) -> None:
    def version(name: str, text: str, *used: str) -> str:
        (tmp_path / name).write_text(text)
        return load_table(Table("t", name, "id"), tmp_path, dict.fromkeys(used)).version

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readings, "CODED_MAX", coded_max)
        first = version("a.csv", "id,plan,spend,note\na,free,1.5,x\nb,team,2,y\nc,,,\n", "plan", "spend")
        assert first == version("b.csv", "id,spend,plan,note\nc,,,\nb,2.0,team,y\na,1.50,free,other\n", "plan", "spend")
        changed = [
            version("c.csv", "id,plan,spend\na,team,1.5\nb,free,2\nc,,\n", "plan", "spend"),
            version("c.csv", "id,plan,spend\na,free,1.5\nb,team,3\nc,,\n", "plan", "spend"),
            version("c.csv", "id,plan,spend\na,free,1.5\nb,team,2\nd,,\n", "plan", "spend"),
            version("c.csv", "id,plan,spend\na,free,1.5\nb,team,2\n", "plan", "spend"),
            version("c.csv", "id,plan,spend\na,free,1.5\nb,team,2\nc,,\n", "plan"),
        ]
    assert len({first, *changed}) == len(changed) + 1


def test_a_compressed_csv_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b'\xef\xbb\xbfid,plan\na,"fr""ee,\n"\n'))
    loaded = load_table(Table("t", "t.csv.gz", "id"), tmp_path, {"plan": None})
    assert loaded.lookup([profile_id("user_id", "a")]) == [('fr"ee,\n',)]


def test_many_rows_over_many_batches(tmp_path: Path) -> None:
    count = 150_000
    keys = [f"u{number}" for number in range(count)]
    spend = [None if number % 7 == 0 else number / 100 for number in range(count)]
    plans = [("free", "team", None)[number % 3] for number in range(count)]
    columns = {"id": pa.array(keys), "name": pa.array(keys), "spend": pa.array(spend), "plan": pa.array(plans)}
    _write(tmp_path / "t.arrow", columns)
    loaded = load_table(Table("t", "t.arrow", "id"), tmp_path, dict.fromkeys(["plan", "name", "spend"]))
    asked = range(0, count, 10)
    ids = [profile_id("user_id", keys[number]) for number in asked]
    expected = [
        (plans[number], keys[number], None if spend[number] is None else Decimal(number) / 100) for number in asked
    ]
    assert loaded.lookup(ids) == expected
    assert sum(1 for shard in range(12) for _ in loaded.rows(shard, 12)) == count
