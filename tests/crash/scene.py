"""What the crash tests share: a project with its topics, its job, events and a subscriber that reads along.

Not here: the broker (tests.conftest), what the parts do (their modules).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from opportune.clock import wall_clock_ms
from tests.crash.judgement import ReadingAlong, Verdict, judge
from tests.crash.project import write_project
from tests.crash.running import RunningJob, running_job, until
from tests.crash.traffic import Traffic

PARTITIONS = 4


class Scene:
    """A job, not started, with its traffic and its reader, not started either.

    Args:
        directory: for the project.
        bootstrap_servers: of the broker.
        name: the project's.
        job: its job.
        topics: the events topics: with append times, and (where ``sent_times``) a second with the instants of sending.
    """

    def __init__(
        self, directory: Path, bootstrap_servers: str, name: str, job: RunningJob, topics: tuple[str, ...]
    ) -> None:
        self.directory = directory
        self.bootstrap_servers = bootstrap_servers
        self.name = name
        self.job = job
        self.topics = topics
        self._traffic: Traffic | None = None
        self._reading: ReadingAlong | None = None

    @property
    def reading(self) -> ReadingAlong:
        """The subscriber that reads along."""
        assert self._reading is not None, "the traffic flows"
        return self._reading

    @property
    def traffic(self) -> Traffic:
        """What sends events."""
        assert self._traffic is not None, "the traffic flows"
        return self._traffic

    def begin(self, seed: int, events_a_second: int = 250) -> None:
        """Lets the events flow and the subscriber read, from the time when the job has made its topics."""
        self._reading = ReadingAlong(self.bootstrap_servers, f"{self.name}.memberships")
        self._traffic = Traffic(self.bootstrap_servers, dict.fromkeys(self.topics, PARTITIONS), seed, events_a_second)
        self._traffic.start()

    def finish(self) -> Verdict:
        """Ends the events, lets the running job read everything and some seconds pass, ends it, and judges."""
        self.traffic.stop()
        # Nothing arrives after this, and time passes it only when everything is read.
        last_ms = wall_clock_ms()
        until(lambda: self.job.log_time_ms() > last_ms + 2_000, "the job has read everything, and time goes on", 60)
        code, seconds = self.job.terminate()
        assert code == 0, self.job.said()[-6_000:]
        assert seconds < 10, f"a stop took {seconds} s"
        self.reading.stop_at_end()
        return judge(
            self.directory, self.bootstrap_servers, self.name, self.topics, self.reading, self.job.log_time_ms()
        )


@contextlib.contextmanager
def scene(
    directory: Path, bootstrap_servers: str, name: str, *, sent_times: bool = True, lateness: str = "6 seconds"
) -> Iterator[Scene]:
    """A ``Scene`` whose events topics are made; what runs at the end of the block is ended."""
    topics = (f"{name}.events", f"{name}.sent") if sent_times else (f"{name}.events",)
    make_topics(bootstrap_servers, dict(zip(topics, ("LogAppendTime", "CreateTime"), strict=False)), PARTITIONS)
    write_project(directory, name, topics=topics, partitions=PARTITIONS, lateness=lateness)
    with running_job(directory, bootstrap_servers) as job:
        made = Scene(directory, bootstrap_servers, name, job, topics)
        try:
            yield made
        finally:
            if made._traffic is not None:
                made._traffic.stop()


def make_topics(bootstrap_servers: str, times: dict[str, str], partitions: int, **config: str) -> AdminClient:
    """Makes topics, each with its kind of record times; returns the client that did."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    settings = {name.replace("_", "."): value for name, value in config.items()}
    new = [
        NewTopic(topic, partitions, 1, config={"message.timestamp.type": kind, **settings})
        for topic, kind in times.items()
    ]
    for future in admin.create_topics(new).values():
        future.result()
    until(lambda: times.keys() <= admin.list_topics(timeout=5).topics.keys(), "the topics are there")
    return admin


def report(text: str) -> None:
    """Says something about a run that passed."""
    sys.stderr.write(f"\n{text}\n")
