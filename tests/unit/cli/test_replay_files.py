"""Files of events in every format, and what is wrong with them."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.cli import replay_files
from opportune.cli.replay_files import lines_of, size_of
from opportune.errors import ConfigurationError

LINES = [b'{"a": 1}', b"x" * 3_000_000, b"last"]


def zst(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def read(file: Path) -> list[bytes]:
    return [line for block in lines_of([str(file)]) for line in block]


def messages(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_float=Decimal) for line in read(file)]


@pytest.mark.parametrize(
    ("name", "pack"),
    [("e.jsonl", bytes), ("e", bytes), ("e.jsonl.gz", gzip.compress), ("e.ndjson.bz2", bz2.compress), ("e.zst", zst), ("E.JSONL.GZ", gzip.compress)],
)  # fmt: skip
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"])
def test_lines_of_any_file(tmp_path: Path, name: str, pack: Callable[[bytes], bytes], end: bytes) -> None:
    (tmp_path / name).write_bytes(pack(end.join(LINES)))
    assert read(tmp_path / name) == LINES


def test_compressed_files_may_be_put_together(tmp_path: Path) -> None:
    for name, pack in (("e.gz", gzip.compress), ("e.bz2", bz2.compress), ("e.zst", zst)):
        (tmp_path / name).write_bytes(pack(b"one\ntw") + pack(b"o\nthree\n"))
        assert read(tmp_path / name) == [b"one", b"two", b"three"], name


@given(
    st.lists(st.binary(max_size=9).filter(lambda line: b"\n" not in line and b"\r" not in line), max_size=20),
    st.integers(1, 7),
)
def test_blocks_do_not_show(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], block: int) -> None:
    file = tmp_path_factory.getbasetemp() / "blocks.jsonl"
    file.write_bytes(b"\r\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay_files, "BLOCK_BYTES", block)
        assert read(file) == [line for line in lines if line]


def test_a_csv_row_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(
        "type,event,userId,timestamp,properties.total,properties.zip:string,properties.note,context.device.type\n"
        'track,Order,007,2026-03-02,12.50,123,"a, ""b""",phone\n'
        "track,Order,8,2026-03-03,007,,true,\n"
    )
    assert messages(tmp_path / "e.csv") == [
        {
            "type": "track",
            "event": "Order",
            "userId": "007",
            "timestamp": "2026-03-02",
            "properties": {"total": Decimal("12.50"), "zip": "123", "note": 'a, "b"'},
            "context": {"device": {"type": "phone"}},
        },
        {
            "type": "track",
            "event": "Order",
            "userId": "8",
            "timestamp": "2026-03-03",
            "properties": {"total": "007", "note": True},
        },
    ]


def test_a_parquet_row_is_a_message(tmp_path: Path) -> None:
    rows = [
        {
            "type": "track",
            "userId": "ann",
            "timestamp": datetime(2026, 3, 2, 12, 0, 0, 250_000, UTC),
            "properties.total": Decimal("0.10"),
            "context": {"device": {"type": "phone", "id": None}},
        },
        {"type": "track", "userId": "bob", "timestamp": None, "properties.total": None, "context": None},
    ]
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "e.parquet")
    assert messages(tmp_path / "e.parquet") == [
        {
            "type": "track",
            "userId": "ann",
            "timestamp": "2026-03-02T12:00:00.250000Z",
            "properties": {"total": Decimal("0.10")},
            "context": {"device": {"type": "phone"}},
        },
        {"type": "track", "userId": "bob"},
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("e.gz", b"plain text", "gzipped"),
        ("e.bz2", b"plain text", "Invalid data stream"),
        ("e.zst", b"plain text", "ZSTD"),
        ("e.gz", gzip.compress(b"abc" * 9_000, mtime=0)[:40], "end-of-stream"),
        ("e.parquet", b"PAR1 no", "Parquet"),
        ("e.csv", b"type,event\ntrack\n", "line 2 has 1 cells, the header has 2"),
        ("e.csv", b"type,event\n\xff,b\n", "not UTF-8"),
        ("e.csv", b'a\n"x', "unexpected end of data"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=says) as raised:
        read(tmp_path / name)
    assert name in str(raised.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read the events of nowhere.csv: No such file"):
        list(lines_of(["nowhere.csv"]))
    assert size_of(["nowhere.csv"]) is None


def test_a_line_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_files, "LINE_BYTES_MAX", 1_000)
    (tmp_path / "e.jsonl").write_bytes(b"x" * 2_000_000)
    with pytest.raises(ConfigurationError, match="is it JSON lines"):
        read(tmp_path / "e.jsonl")


@pytest.mark.parametrize("name", ["e.jsonl", "e.gz", "e.parquet"])
def test_what_was_read_adds_up_to_the_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if name == "e.parquet":
        pa.parquet.write_table(pa.table({"userId": [str(number) for number in range(10_000)]}), file)
    else:
        file.write_bytes(gzip.compress(b"a\n" * 99) if name == "e.gz" else b"a\n" * 2_000_000)
    told: list[int] = []
    list(lines_of([str(file)], told.append))
    assert sum(told) == size_of([str(file)])
