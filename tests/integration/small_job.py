"""One project's job with few events, for tests of what goes wrong.

Owns: sending single events, and waiting for what comes of them. The project is that of the crash tests.
Not here: the process (tests.crash.running), floods of events (tests.crash.traffic).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from confluent_kafka import Message, Producer

from opportune.clock import wall_clock_ms
from opportune.identity import profile_id
from opportune.membership import MembershipChange
from tests.crash.judgement import ReadingAlong, ends_of, headers_of, read_all
from tests.crash.project import write_project
from tests.crash.running import ROOT, RunningJob, running_job, until
from tests.oracle.instants import write_instant


class SmallJob:
    """A job with its topics by name.

    Args:
        job: its process tree, not started.
        bootstrap_servers: of the broker.
        name: of the project.
    """

    def __init__(self, job: RunningJob, bootstrap_servers: str, name: str) -> None:
        self.job = job
        self.bootstrap_servers = bootstrap_servers
        self.name = name
        self.events = f"{name}.events"
        self._number = 0
        self.reconnect()

    def reconnect(self) -> None:
        """Sends with a new client, which sees the topics as they are now."""
        self._producer = Producer({
            "bootstrap.servers": self.bootstrap_servers,
            "message.max.bytes": 4 << 20,
            "log_level": 2,
        })  # fmt: skip

    def send(
        self,
        value: bytes | None,
        partition: int = 0,
        *,
        key: bytes | None = None,
        topic: str | None = None,
        timestamp: int = 0,
        headers: Mapping[str, bytes] | None = None,
    ) -> None:
        """Produces one record, and waits until the broker has it."""
        failed: list[object] = []
        self._producer.produce(
            topic or self.events,
            value,
            key,
            partition,
            timestamp=timestamp or wall_clock_ms(),
            headers=list((headers or {}).items()),
            on_delivery=lambda error, _: failed.append(error) if error is not None else None,
        )
        assert self._producer.flush(30) == 0
        assert not failed, str(failed)

    def count(self, person: str, partition: int = 0, *, topic: str | None = None, **fields: object) -> None:
        """Sends an event ``Counted`` of a person; ``fields`` go before those that are made."""
        self._number += 1
        message = {
            "type": "track",
            "event": "Counted",
            "messageId": f"{self.name}-{self._number}",
            "userId": person,
            "timestamp": write_instant(wall_clock_ms()),
            **fields,
        }
        self.send(json.dumps(message).encode(), partition, topic=topic)

    def wait_counted(self, reading: ReadingAlong, person: str, times: int, seconds: float = 30.0) -> MembershipChange:
        """Waits until so many events of a person have counted; the change that says so."""
        profile, audience = profile_id("user_id", person).hex(), f"counted_{times:02d}"

        def entry() -> MembershipChange | None:
            assert reading.failed is None, str(reading.failed)
            assert not self.job.has_ended(), self.job.said()[-6_000:]
            return next((one for one in reading.news if (one.profile_id, one.audience) == (profile, audience)), None)

        found: MembershipChange = until(entry, f"{times} events of {person} count", seconds)
        return found

    def reading(self) -> ReadingAlong:
        """A subscriber that reads along from the beginning."""
        return ReadingAlong(self.bootstrap_servers, f"{self.name}.memberships")

    def letters(self, count: int) -> list[Message]:
        """The dead letters, as soon as there are so many."""
        topic = f"{self.name}.dead-letters"
        until(lambda: sum(ends_of(self.bootstrap_servers, topic).values()) >= count, f"there are {count} dead letters")
        return read_all(self.bootstrap_servers, topic)

    def is_read(self) -> bool:
        """Whether the status file says that everything has been read, and time has come beyond now less 3 seconds."""
        status = self.job.status()
        time_ms = min(status.get("shard_ms", {"": 0}).values(), default=0)
        return not sum(status.get("lag", {"": 1}).values()) and time_ms > wall_clock_ms() - 3_000


def reason_of(letter: Message) -> str:
    """The reason of a dead letter."""
    return headers_of(letter)["opportune-reason"].decode()


def patched(directory: Path, code: str) -> dict[str, str]:
    """An environment whose Pythons run ``code`` at their start."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": f"{directory}:{ROOT}"}


@contextlib.contextmanager
def small_job(
    directory: Path,
    bootstrap_servers: str,
    name: str,
    *,
    topics: tuple[str, ...] = (),
    more: str = "",
    environment: Mapping[str, str] | None = None,
    partitions: int = 3,
    skew: str = "50 ms",
) -> Iterator[SmallJob]:
    """A ``SmallJob`` whose project is written and whose job is not started; it is ended with the block."""
    write_project(directory, name, topics=topics, partitions=partitions, lateness="10 minutes", skew=skew, more=more)
    with running_job(directory, bootstrap_servers, environment) as job:
        yield SmallJob(job, bootstrap_servers, name)
