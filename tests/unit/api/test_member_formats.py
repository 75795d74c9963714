"""What is written in each format is read back as what was written, identifiers of any text included."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from api.member_formats import ARROW, COLUMNS, CSV, FORMATS, NDJSON, PARQUET, body
from state.members import Slice

NAMES: tuple[tuple[str, ...], ...] = (
    ("user_id:ada", "email:ada@x.example"),
    (),
    ("user_id:žofie", "user_id:\U0001f600", 'user_id:a,"b"'),
    ("user_id:bob",),
)
PARTS = (
    [Slice([bytes([7] * 16)] * 3, np.array([1_767_225_600_000, 0, 5], np.int64), NAMES[:3])],
    [Slice([bytes([number] * 16)], np.array([number], np.int64), [NAMES[number]]) for number in range(4)],
    [Slice([bytes([1] * 16)], np.array([1], np.int64), [("user_id:ada", "user_id:bob")])],
)


def rows_of(media_type: str, content: bytes) -> list[dict[str, Any]]:
    """The rows, with the instant in milliseconds where the format has one."""
    if media_type == NDJSON:
        return [json.loads(line) for line in content.splitlines()]
    if media_type == CSV:
        return list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    if media_type == PARQUET:
        return list(pa.parquet.read_table(io.BytesIO(content)).to_pylist())
    return list(pa.ipc.open_stream(content).read_all().to_pylist())


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("media_type", [NDJSON, CSV, ARROW, PARQUET])
def test_rows_are_what_was_written(media_type: str, parts: list[Slice]) -> None:
    make, _ = FORMATS[media_type]
    rows = rows_of(media_type, b"".join(body(make(COLUMNS), parts)))
    names = [one for part in parts for one in part.identifiers or ()]
    assert [row["profile_id"] for row in rows] == [who.hex() for part in parts for who in part.ids]
    wanted: list[Any] = [" ".join(one) if media_type == CSV else list(one) for one in names]
    assert [row["identifiers"] for row in rows] == wanted
    if media_type in (ARROW, PARQUET):
        since = [int(row["since"].timestamp() * 1_000) for row in rows]
        assert since == [at for part in parts for at in part.since_ms.tolist()]


@pytest.mark.parametrize("media_type", [ARROW, PARQUET])
def test_half_of_a_surrogate_pair_breaks_no_list(media_type: str) -> None:
    part = Slice([bytes(16)], np.array([1], np.int64), [("user_id:ada", "user_id:\ud800")])
    make, _ = FORMATS[media_type]
    content = b"".join(body(make(COLUMNS), [part]))
    assert rows_of(media_type, content)[0]["identifiers"] == ["user_id:ada", "user_id:?"]


def test_a_list_of_nobody_is_a_whole_file() -> None:
    for media_type, (make, _) in FORMATS.items():
        content = b"".join(body(make(COLUMNS), []))
        assert rows_of(media_type, content) == []
