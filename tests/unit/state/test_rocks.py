"""What an operator is told when RocksDB refuses, and that nothing is half done then."""

from __future__ import annotations

import collections
import gc
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opportune.errors import StateError, TransientError
from state.rocks import LOG_FILES, RocksStore, shared_memory

MEMORY = shared_memory(8 << 20, 16 << 20)
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "shard"


def filled(directory: Path) -> None:
    store = RocksStore(directory, MEMORY)
    batch, family = store.batch(), store.family("profiles")
    for number in range(2_000):
        batch.put(b"%06d" % number, os.urandom(100), family)
    store.write(batch)
    del family
    store.close()
    del store
    # Opening again writes the log out to a file.
    RocksStore(directory, MEMORY).close()


def test_a_second_process_is_refused_and_told_who_holds_the_directory(directory: Path) -> None:
    store = RocksStore(directory, MEMORY)
    code = (
        "import sys; from pathlib import Path; from state.rocks import RocksStore, shared_memory\n"
        "RocksStore(Path(sys.argv[1]), shared_memory(1 << 20, 1 << 20))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    second = subprocess.run(
        [sys.executable, "-c", code, str(directory)], capture_output=True, text=True, env=environment, check=False
    )
    assert second.returncode == 1
    assert "StateError" in second.stderr
    assert "another process runs on this state" in second.stderr
    with pytest.raises(StateError, match="another process runs on this state"):
        RocksStore(directory, MEMORY)
    store.close()


@pytest.mark.parametrize("kept", [0, 20])
def test_a_cut_manifest_is_damage(directory: Path, kept: int) -> None:
    filled(directory)
    for manifest in directory.glob("MANIFEST-*"):
        os.truncate(manifest, kept)
    with pytest.raises(StateError, match="restore a checkpoint set"):
        RocksStore(directory, MEMORY)


@pytest.mark.parametrize("content", [b"", b"MANIFEST-999999\n", b"\xff\n"])
def test_a_wrong_current_file_is_damage(directory: Path, content: bytes) -> None:
    filled(directory)
    (directory / "CURRENT").write_bytes(content)
    with pytest.raises(StateError, match=str(directory)):
        RocksStore(directory, MEMORY)


def test_a_missing_current_file_never_makes_an_empty_shard(directory: Path) -> None:
    filled(directory)
    (directory / "CURRENT").unlink()
    for log in directory.glob("*.log"):
        log.unlink()
    with pytest.raises(StateError, match="CURRENT is missing"):
        RocksStore(directory, MEMORY)


def test_a_damaged_file_is_no_end_of_a_scan_and_no_missing_key(directory: Path) -> None:
    filled(directory)
    for table in directory.glob("*.sst"):
        size = table.stat().st_size
        with table.open("r+b") as file:
            file.seek(size // 3)
            file.write(b"\xff" * (size // 3))
    store = RocksStore(directory, MEMORY)
    with pytest.raises(StateError, match="damaged"):
        list(store.scan("profiles"))
    with pytest.raises(StateError, match="damaged"):
        store.get_many("profiles", [b"%06d" % number for number in range(2_000)])
    with pytest.raises(StateError, match="damaged"):
        [store.get("profiles", b"%06d" % number) for number in range(2_000)]
    store.close()


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("not a directory")
    with pytest.raises(StateError, match="disk refused"):
        RocksStore(path, MEMORY)


def test_many_opens_leave_few_log_files(directory: Path) -> None:
    for _ in range(6):
        RocksStore(directory, MEMORY).close()
    assert len(list(directory.glob("LOG*"))) <= LOG_FILES + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    gc.collect()
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_refuses_whole_batches_and_a_restart_goes_on(small_disk: Path) -> None:
    store = RocksStore(small_disk / "shard", MEMORY)
    with pytest.raises(StateError, match="disk is full"):
        _fill(store)
    written = int(store.get("meta", b"at") or b"-1")
    assert written > 0
    batch = store.batch()
    batch.put(b"later", b"", store.family("meta"))
    with pytest.raises(StateError, match="disk is full"):
        store.write(batch)
    with pytest.raises(StateError, match="disk is full"):
        store.sync()
    assert store.get("profiles", b"%06d.0" % (written + 1)) is None
    assert store.get("profiles", b"%06d.9" % written) is not None
    store.close()
    del store, batch
    gc.collect()
    with (small_disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space left"):
        collections.deque((filler.write(b"x" * 4_096) for _ in itertools.count()), maxlen=0)
    with pytest.raises(TransientError, match="Free space"):
        RocksStore(small_disk / "shard", MEMORY)
    with pytest.raises(TransientError, match="Free space"):
        RocksStore(small_disk / "other", MEMORY)
    gc.collect()

    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    store = RocksStore(small_disk / "shard", MEMORY)
    at = int(store.get("meta", b"at") or b"-1")
    # The refused batch is there as a whole or not at all; it was acknowledged to nobody.
    assert at in (written, written + 1)
    assert len(list(store.scan("profiles"))) == 10 * (at + 1)
    batch = store.batch()
    batch.put(b"later", b"", store.family("meta"))
    store.write(batch)
    store.sync()
    store.close()
    del store, batch


def _fill(store: RocksStore) -> None:
    family, meta = store.family("profiles"), store.family("meta")
    for number in range(1_000):
        batch = store.batch()
        for part in range(10):
            batch.put(b"%06d.%d" % (number, part), os.urandom(10_000), family)
        batch.put(b"at", b"%d" % number, meta)
        store.write(batch)
