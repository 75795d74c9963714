"""What a reader is shown stays there for as long as it has not been read, whatever the writer removes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from state.mirror import OPEN_FILES, Mirror

pytestmark = pytest.mark.skipif(not OPEN_FILES.exists(), reason="a name that outlives its file needs /proc")


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    directory = tmp_path / "shard"
    directory.mkdir()
    (directory / "CURRENT").write_text("MANIFEST-000001\n")
    (directory / "MANIFEST-000001").write_bytes(b"one")
    return directory


@pytest.fixture
def mirror(shard: Path, tmp_path: Path) -> Iterator[Mirror]:
    (shard / "000003.sst").write_bytes(b"table 3")
    (shard / "000004.log").write_bytes(log(1))
    mirror = Mirror(shard, tmp_path / "own")
    yield mirror
    mirror.close()


def log(first: int) -> bytes:
    """A log whose first write has this number."""
    return struct.pack("<IHBQI", 0, 13, 1, first, 1) + b"\0"


def test_what_is_removed_before_it_is_read_is_there(shard: Path, mirror: Mirror) -> None:
    (shard / "000003.sst").unlink()
    (shard / "000004.log").unlink()
    assert (mirror.tables / "000003.sst").read_bytes() == b"table 3"
    assert (mirror.logs / "000004.log").read_bytes() == log(1)


def test_a_table_that_the_secondary_has_not_opened_stays_held(shard: Path, mirror: Mirror) -> None:
    """It is being written when it is first found; the manifest names it later, and a compaction removes it soon after."""
    (shard / "000005.sst").write_bytes(b"table 5")
    (shard / "MANIFEST-000001").write_bytes(b"one, two")
    assert mirror.take() == b", two"
    mirror.show_manifest(b", two")
    mirror.settle({"000003.sst"})
    (shard / "MANIFEST-000001").write_bytes(b"one, two: 5")
    assert mirror.take() == b": 5"
    (shard / "000005.sst").unlink()
    assert (mirror.tables / "000005.sst").read_bytes() == b"table 5"
    assert (mirror.tables / "000003.sst").read_bytes() == b"table 3"


def test_the_manifest_is_shown_as_far_as_it_was_taken(shard: Path, mirror: Mirror) -> None:
    assert (mirror.own / "MANIFEST-000001").read_bytes() == b"one"
    assert mirror.take() == b""
    (shard / "MANIFEST-000001").write_bytes(b"one, two")
    assert mirror.take() == b", two"
    assert (mirror.own / "MANIFEST-000001").read_bytes() == b"one"
    (shard / "CURRENT").write_text("MANIFEST-000009\n")
    assert mirror.take() is None, "the writer has begun another"


def test_logs_are_shown_in_order_once_something_stands_in_them(shard: Path, mirror: Mirror) -> None:
    (shard / "000008.log").write_bytes(log(7))
    (shard / "000006.log").write_bytes(log(2))
    (shard / "000009.log").write_bytes(b"")
    mirror.take()
    assert [(held.number, first) for held, first in mirror.begun()] == [(6, 2), (8, 7)]
    assert mirror.ends_empty
    for held, _ in mirror.begun():
        mirror.show(held)
    assert sorted(path.name for path in mirror.logs.iterdir()) == ["000004.log", "000006.log", "000008.log"]
    (shard / "000004.log").unlink()
    mirror.take()
    assert sorted(path.name for path in mirror.logs.iterdir()) == ["000006.log", "000008.log"]
    (shard / "000009.log").write_bytes(log(9))
    assert [first for _, first in mirror.begun()] == [9]


def test_files_that_are_gone_are_let_go(shard: Path, mirror: Mirror) -> None:
    mirror.settle({"000003.sst"})
    (shard / "000003.sst").unlink()
    (shard / "000005.sst").write_bytes(b"table 5")
    (shard / "MANIFEST-000001").write_bytes(b"one, two")
    mirror.take()
    assert [path.name for path in mirror.tables.iterdir()] == ["000005.sst"]
    (shard / "000005.sst").unlink()
    (shard / "MANIFEST-000001").write_bytes(b"one, two, three")
    mirror.take()
    assert list(mirror.tables.iterdir()) == []
