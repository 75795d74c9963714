"""State directories that a job must not run on: it ends with code 65 and says what to do. And a disk that is full."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from state.keys import META_IDENTITY
from state.rocks import RocksStore, shared_memory
from state.shard_identity import decode_identity, encode_identity
from tests.crash.running import running_job, until
from tests.crash.scene import report, scene
from tests.integration.small_job import SmallJob, patched, small_job
from tests.kafka.broker import Kafka

Spoil = Callable[[SmallJob], None]


@pytest.fixture(scope="module")
def stopped(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallJob]:
    """A job that has counted three events and was stopped; ``old`` beside its state is a copy from before the last two."""
    name = f"t-{uuid4().hex[:12]}"
    with small_job(tmp_path_factory.mktemp("stopped") / "project", kafka.bootstrap_servers, name) as small:
        for count in range(1, 4):
            small.job.start()
            small.job.wait_running()
            reading = small.reading()
            small.count("ann")
            small.wait_counted(reading, "ann", count)
            until(small.is_read, "it is read")
            assert small.job.terminate()[0] == 0
            reading.stop_at_end()
            if count == 1:
                shutil.copytree(small.job.state, small.job.project / "old")
        yield small


def set_setting(small: SmallJob, before: str, after: str) -> None:
    settings = small.job.project / "opportune.yml"
    assert before in settings.read_text()
    settings.write_text(settings.read_text().replace(before, after))


def other_project(small: SmallJob) -> None:
    set_setting(small, f"name: {small.name}", "name: somebody-elses")


def other_shard_count(small: SmallJob) -> None:
    set_setting(small, "shards: 4", "shards: 5")
    # The mailbox has a partition a shard and would be refused first.
    set_setting(small, "topics: {", f"topics: {{mailbox: {small.name}.m5, ")


def other_identities(small: SmallJob) -> None:
    (small.job.project / "identity.yml").write_text("blocked: [nobody]\n")


def newer_format(small: SmallJob) -> None:
    store = RocksStore(small.job.state / "shards" / "0002", shared_memory(8 << 20, 8 << 20))
    identity = decode_identity(store.get("meta", META_IDENTITY) or b"")
    write = store.batch()
    write.put(META_IDENTITY, encode_identity(msgspec.structs.replace(identity, format=999)), store.family("meta"))
    store.write(write)
    store.close()


def shards_exchanged(small: SmallJob) -> None:
    shards = small.job.state / "shards"
    (shards / "0001").rename(shards / "x")
    (shards / "0002").rename(shards / "0001")
    (shards / "x").rename(shards / "0002")


def damaged(small: SmallJob) -> None:
    for manifest in (small.job.state / "shards" / "0001").glob("MANIFEST-*"):
        manifest.write_bytes(b"\xff" * 4_096)


def current_lost(small: SmallJob) -> None:
    (small.job.state / "shards" / "0003" / "CURRENT").unlink()


def one_shard_of_before(small: SmallJob) -> None:
    """The topic still has what is lost here: only the engine's store knows that it was applied."""
    directory = small.job.state / "shards" / "0002"
    shutil.rmtree(directory)
    shutil.copytree(small.job.project / "old" / "shards" / "0002", directory)


def unreadable_book(small: SmallJob) -> None:
    (small.job.state / "deaths.json").write_text("{")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (other_project, ["the state is of the project", "state.directory"]),
        (other_shard_count, ["state.shards: 4", "set it to 4"]),
        (other_identities, ["count twice", "new state directory"]),
        (newer_format, ["format 999", "a newer version wrote it"]),
        (shards_exchanged, ["holds shard", "Put them back"]),
        (damaged, ["damaged", "restore a checkpoint set"]),
        (current_lost, ["CURRENT is missing", "restore a checkpoint set"]),
        (one_shard_of_before, ["behind", "old copy"]),
        (unreadable_book, ["deaths.json cannot be read", "delete it"]),
    ],
)
def test_state_that_is_refused(stopped: SmallJob, tmp_path: Path, spoil: Spoil, says: list[str]) -> None:
    directory = tmp_path / "project"
    shutil.copytree(stopped.job.project, directory)
    with running_job(directory, stopped.bootstrap_servers) as job:
        spoil(SmallJob(job, stopped.bootstrap_servers, stopped.name))
        job.start()
        assert job.ended() == 65, job.said()[-6_000:]
        for words in says:
            assert words in job.said()


@pytest.mark.timeout(60)
def test_state_that_is_locked(stopped: SmallJob) -> None:
    stopped.job.start()
    stopped.job.wait_running()
    with running_job(stopped.job.project, stopped.bootstrap_servers) as second:
        second.log = second.project / "second.log"
        second.start()
        assert second.ended() == 65
        assert "is locked: another process runs on this state" in second.said()
    assert not stopped.job.has_ended()
    assert stopped.job.terminate()[0] == 0


FULL_WHEN_THERE_IS = """
import pathlib, flows.worker
from state.faults import FaultyStore
from state.rocks import RocksStore
FULL = pathlib.Path({flag!r})
class Disk(FaultyStore):
    def write(self, batch):
        if FULL.exists():
            self.fail_writes()
        super().write(batch)
flows.worker.RocksStore = lambda directory, memory: Disk(RocksStore(directory, memory))
"""


@pytest.mark.timeout(120)
def test_disk_that_refuses(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    """A store whose disk is full while a file is there: the job ends, says why, and later goes on where it was."""
    flag = tmp_path / "full"
    with scene(tmp_path / "project", kafka.bootstrap_servers, topic_prefix) as made:
        made.job.environment |= patched(tmp_path / "patch", FULL_WHEN_THERE_IS.format(flag=str(flag)))
        made.job.start()
        made.job.wait_running()
        made.begin(seed=5)
        until(lambda: len(made.reading.news) > 100, "changes are made")
        flag.touch()
        assert made.job.ended() == 65
        assert "the disk is full" in made.job.said()
        seen = len(made.reading.news)
        made.job.start()
        assert made.job.ended() == 65
        flag.unlink()
        made.job.start()
        made.job.wait_running()
        until(lambda: len(made.reading.news) > seen, "changes are made again")
        report(f"a disk that refuses: {made.finish()}")


@pytest.mark.timeout(150)
def test_full_disk(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    """A small file system for the state, filled up while events flow."""
    with scene(tmp_path / "project", kafka.bootstrap_servers, topic_prefix) as made, small_disk(made.job.state):
        made.job.start()
        made.job.wait_running()
        made.begin(seed=6, events_a_second=400)
        until(lambda: len(made.reading.news) > 100, "changes are made")
        ballast = made.job.state / "ballast"
        fill(ballast)
        made.job.wait_said("the disk is full", 60)
        # A write that is refused ends the job; where it is the engine's own store, the start after that is refused.
        until(lambda: made.job.has_ended() or "it is started again" in made.job.said(), "the job ends, or tries again")
        seen = len(made.reading.news)
        if made.job.has_ended():
            assert made.job.ended() == 65
            made.job.start()
            made.job.wait_said("the disk is full", 60)
        ballast.unlink()
        # A start that is refused is tried again, unless it came as far as writing.
        until(lambda: made.job.has_ended() or len(made.reading.news) > seen, "the job ends, or goes on by itself", 60)
        if made.job.has_ended():
            assert made.job.ended() == 65
            made.job.start()
            until(lambda: len(made.reading.news) > seen, "changes are made again", 60)
        report(f"a full disk: {made.finish()}")


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """A file system of 24 MiB; skips where none can be made."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def fill(ballast: Path) -> None:
    """Writes a file until there is no room."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65_536))
