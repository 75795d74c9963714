from __future__ import annotations

from pathlib import Path

from flows.metrics import Metrics, StatusFile, read_status


def test_a_snapshot_does_not_change_with_later_counting() -> None:
    metrics = Metrics(1_000)
    metrics.events += 3
    metrics.reject("bad_time")
    before = metrics.snapshot(2_000)
    metrics.reject("bad_time")
    metrics.events += 1
    assert (before["at_ms"], before["started_ms"], before["events"]) == (2_000, 1_000, 3)
    assert before["rejected"] == {"bad_time": 1}
    assert metrics.snapshot(2_001)["rejected"] == {"bad_time": 2}


def test_the_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
    metrics = Metrics(0)
    status = StatusFile(tmp_path, metrics.snapshot, clock=lambda: 7)
    metrics.shard_ms[3] = 99
    status.write()
    first = read_status(tmp_path)
    assert first is not None
    assert (first["at_ms"], first["shard_ms"]) == (7, {"3": 99})
    metrics.events = 5
    status.start()
    status.stop()
    last = read_status(tmp_path)
    assert last is not None
    assert last["events"] == 5
    assert [file.name for file in tmp_path.iterdir()] == ["status.json"]


def test_a_disk_that_refuses_stops_nobody(tmp_path: Path) -> None:
    StatusFile(tmp_path / "gone", Metrics(0).snapshot).write()
    assert read_status(tmp_path / "gone") is None
