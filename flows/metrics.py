"""Counters of the worker, and the status file that others read.

Owns: what is counted, and ``status.json`` in the state directory: one JSON object, replaced as a whole once a second, so
that a reader never sees half of one. Counters are plain attributes: counting costs an addition.
Not here: who counts (flows.actor, flows.delivery, flows.hub; flows.job gathers it), logs (flows.logs).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import msgspec

from opportune.clock import Clock, wall_clock_ms

log = logging.getLogger(__name__)

STATUS_FILE = "status.json"


class Metrics:
    """Counters since the start of the process. Written by one thread.

    Attributes:
        started_ms: when the process started, wall clock.
        events: records of events read, refused ones included.
        used: events that touched something.
        repeats: records that were applied before, and message ids that were seen before.
        rejected: refused records by reason.
        identities: what happened to identifiers and profiles, by word (flows.identity), and events that were forwarded.
        changes: membership changes made.
        entered: entries by audience.
        exited: exits by audience.
        profiles: profiles made.
        timers: timers fired.
        produced: messages given to Kafka.
        refused_by_broker: messages that Kafka refused for good, and that are dead letters now.
        dropped: messages that Kafka refused as dead letters too.
        entries_dropped: of features' windows, since a person had too many (opportune.features.limits); since the process began.
        entries_coarsened: of those, the ones that went into hops or sketches instead.
        lag: records between what was read and the end, by ``topic/partition``.
        applied: the next offset to apply, by ``topic/partition``.
        shard_ms: log time by shard.
        left_out: inputs that were left out of a shard's time because they could not be confirmed.
        epoch: epochs closed.
    """

    __slots__ = (
        "applied",
        "changes",
        "dropped",
        "entered",
        "entries_coarsened",
        "entries_dropped",
        "epoch",
        "events",
        "exited",
        "identities",
        "lag",
        "left_out",
        "produced",
        "profiles",
        "refused_by_broker",
        "rejected",
        "repeats",
        "shard_ms",
        "started_ms",
        "timers",
        "used",
    )

    def __init__(self, started_ms: int) -> None:
        self.started_ms = started_ms
        self.events = self.used = self.repeats = 0
        self.changes = self.profiles = self.timers = 0
        self.produced = self.refused_by_broker = self.dropped = 0
        self.left_out = self.epoch = self.entries_dropped = self.entries_coarsened = 0
        self.rejected: dict[str, int] = {}
        self.identities: dict[str, int] = {}
        self.entered: dict[str, int] = {}
        self.exited: dict[str, int] = {}
        self.lag: dict[str, int] = {}
        self.applied: dict[str, int] = {}
        self.shard_ms: dict[int, int] = {}

    def reject(self, reason: str) -> None:
        """Counts a refused record."""
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def snapshot(self, now_ms: int) -> dict[str, Any]:
        """All counters, and ``at_ms``, as a value that later counting does not change.

        Args:
            now_ms: wall clock.
        """
        found: dict[str, Any] = {"at_ms": now_ms}
        for name in self.__slots__:
            value = getattr(self, name)
            # dict() of a dict is one step of the interpreter: no lock against the thread that counts.
            found[name] = dict(value) if isinstance(value, dict) else value
        return found


class StatusFile:
    """Writes a snapshot to ``status.json`` every ``interval_ms``, in a thread of its own.

    Args:
        directory: the state directory.
        snapshot: makes the object, given the wall clock in milliseconds; called in the writing thread.
        interval_ms: time between two writes.
        clock: the wall clock.
    """

    def __init__(
        self,
        directory: Path,
        snapshot: Callable[[int], dict[str, Any]],
        interval_ms: int = 1_000,
        clock: Clock = wall_clock_ms,
    ) -> None:
        self._path = directory / STATUS_FILE
        self._beside = directory / (STATUS_FILE + ".new")
        self._snapshot = snapshot
        self._interval_s = interval_ms / 1_000
        self._clock = clock
        self._stop = Event()
        self._thread = Thread(target=self._run, name="status", daemon=True)

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def stop(self) -> None:
        """Writes once more and ends."""
        self._stop.set()
        self._thread.join()
        self.write()

    def write(self) -> None:
        """Writes now. A disk that refuses is told in the log: the status is for people, the state speaks for itself."""
        try:
            self._beside.write_bytes(msgspec.json.encode(self._snapshot(self._clock())) + b"\n")
            self._beside.replace(self._path)
        except OSError as error:
            log.warning("cannot write %s: %s", self._path.name, error)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.write()


def read_status(directory: Path) -> dict[str, Any] | None:
    """The newest status of the worker whose state directory this is; None before its first.

    Raises:
        msgspec.DecodeError: the file is not one of ours.
    """
    try:
        return msgspec.json.decode((directory / STATUS_FILE).read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return None
