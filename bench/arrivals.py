"""Membership changes as they arrive at a consumer, each with the instant at which it did.

Owns: a thread that reads a memberships topic from its end on and keeps the raw records, and what is made of them
afterwards: decoding costs nothing while the clock runs.
Not here: what is measured of them (bench.latency, bench.storm).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np

from bench.events import Numbers, number_of
from bench.kafka import BenchError, ends, reader

TOPIC_SECONDS_MAX: Final = 60.0


class Change(msgspec.Struct):
    """What the measurements need of a membership change."""

    audience: str
    change: str
    at: str
    cause: str
    identifiers: dict[str, list[str]] = {}
    event_id: str | None = None


@dataclass
class Arrivals:
    """Reads a topic in a thread from when the block begins until it ends.

    Args:
        bootstrap: address of the broker.
        topic: of membership changes, or of events.
    """

    bootstrap: str
    topic: str
    raw: list[bytes] = field(default_factory=list)
    at_ns: list[int] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Arrivals:
        until = time.monotonic() + TOPIC_SECONDS_MAX
        while not ends(self.bootstrap, self.topic):
            if time.monotonic() > until:
                raise BenchError(f"topic {self.topic} was not made within {TOPIC_SECONDS_MAX:.0f} s: see the job's log")
            time.sleep(0.1)
        consumer = reader(self.bootstrap, self.topic, from_end=True)
        consumer.consume(1, 0.5)
        self._thread = threading.Thread(target=self._run, args=(consumer,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()

    def _run(self, consumer: Any) -> None:
        raw, at = self.raw, self.at_ns
        while not self._stop.is_set():
            messages = consumer.consume(2000, 0.001)
            now = time.time_ns()
            for message in messages:
                if message.error() is None and (value := message.value()) is not None:
                    raw.append(value)
                    at.append(now)
        consumer.close()

    def changes(self) -> list[Change]:
        """The records so far as membership changes, in order of arrival."""
        return list(map(msgspec.json.Decoder(Change).decode, self.raw[: len(self.at_ns)]))

    def wait_quiet(self, seconds: float, seconds_max: float) -> None:
        """Waits until nothing has arrived for some seconds."""
        until, count, since = time.monotonic() + seconds_max, -1, time.monotonic()
        while time.monotonic() < until and time.monotonic() - since < seconds:
            if len(self.at_ns) != count:
                count, since = len(self.at_ns), time.monotonic()
            time.sleep(0.05)


def latencies_ms(changes: list[Change], at_ns: list[int], produced_ns: Numbers, start: int = 0) -> tuple[Numbers, Any]:
    """From producing an event to the arrival of a change that it caused.

    Args:
        changes: as they arrived.
        at_ns: when each did.
        produced_ns: when each event was handed to Kafka, by number less ``start``.
        start: number of the first of them; changes by earlier and later events are left out.

    Returns:
        The index into ``produced_ns`` of the event behind each change, and the milliseconds it took.
    """
    numbers, arrived = [], []
    for change, at in zip(changes, at_ns, strict=False):
        if change.cause == "event" and change.event_id is not None:
            number = number_of(change.event_id) - start
            if 0 <= number < len(produced_ns):
                numbers.append(number)
                arrived.append(at)
    which = np.array(numbers, np.int64)
    return which, (np.array(arrived, np.int64) - produced_ns[which]) / 1e6


def instant_ms(text: str) -> int:
    """Milliseconds since the epoch of an instant as membership changes write it."""
    return int(np.datetime64(text.rstrip("Z"), "ms").astype(np.int64))
