"""Events at a steady rate from a process of their own, and when each was handed to Kafka.

Owns: the pacing (events that are due are built and produced every ``TICK_S``) and the list of produce times, by event
number. Event time and record time are the time of producing.
Not here: when the changes that they cause arrive (bench.arrivals).
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from bench.events import Numbers, Traffic
from bench.kafka import BenchError, Filler

TICK_S: Final = 0.002
LINGER_MS: Final = 1.0
READY_SECONDS_MAX: Final = 60.0


class Pacer:
    """A paced producer. Use as returned by ``paced``."""

    def __init__(self, process: multiprocessing.process.BaseProcess, file: Path, seconds: float) -> None:
        self._process, self._file, self._seconds = process, file, seconds

    def running(self) -> bool:
        """Whether it still produces."""
        return self._process.is_alive()

    def times_ns(self) -> Numbers:
        """When each event was handed to Kafka, by number less the first, nanoseconds since the epoch; waits for the end.

        Raises:
            BenchError: it did not end, or with an error.
        """
        self._process.join(self._seconds + READY_SECONDS_MAX)
        if self._process.exitcode != 0:
            raise BenchError(f"the paced producer ended with {self._process.exitcode}: does the broker still run?")
        return np.asarray(np.load(self._file))


@contextmanager
def paced(
    bootstrap: str, topic: str, traffic: Traffic, *, rate: float, seconds: float, file: Path, start: int = 0
) -> Iterator[Pacer]:
    """Produces a traffic at a steady rate while the block runs; leaves no process behind.

    Args:
        bootstrap: address of the broker.
        topic: where to.
        traffic: the events.
        rate: events a second.
        seconds: for how long.
        file: for the produce times.
        start: number of the first event.
    """
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_produce, args=(bootstrap, topic, traffic, rate, seconds, file, start, ready))
    process.start()
    try:
        if not ready.wait(READY_SECONDS_MAX):
            raise BenchError("the paced producer did not get ready: is the broker reachable?")
        yield Pacer(process, file, seconds)
    finally:
        if process.is_alive():
            process.kill()
        process.join()


def _produce(
    bootstrap: str, topic: str, traffic: Traffic, rate: float, seconds: float, file: Path, start: int, ready: object
) -> None:
    filler = Filler(bootstrap, topic, linger_ms=LINGER_MS)
    total = int(rate * seconds)
    times = np.zeros(total, np.int64)
    traffic.build(start, np.zeros(1, np.int64))
    ready.set()  # type: ignore[attr-defined]  # multiprocessing's Event is a factory, not a class
    begun, sent = time.monotonic(), 0
    while sent < total:
        due = min(total, int((time.monotonic() - begun) * rate))
        if due > sent:
            now = time.time_ns()
            times[sent:due] = now
            filler.put(traffic.build(start + sent, np.full(due - sent, now // 1_000_000, np.int64)))
            sent = due
        time.sleep(TICK_S)
    filler.finish()
    np.save(file, times)
