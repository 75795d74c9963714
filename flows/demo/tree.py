"""The processes of the demo: broker, worker, traffic and service, in the order in which they need each other.

Owns: starting them, noticing that one has died, and ending all within a bounded time. Invariant: after ``stop`` none is left.
Not here: one process (flows.demo.child), what they are told (flows.demo.demonstration).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from flows.demo.child import Child
from flows.demo.traffic import Orders
from opportune.clock import Clock

BROKER_SECONDS = 10.0
WORKER_SECONDS = 2.5
TRAFFIC_SECONDS = 1.5
"""How long each may take to end by itself; all but the broker do so at the same time, which leaves a margin below five."""


class Tree:
    """The processes.

    Args:
        directory: where their logs go.
        monotonic: milliseconds, for what is bounded in time.
    """

    def __init__(self, directory: Path, monotonic: Clock) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._children: dict[str, Child] = {}

    def start_broker(self, topics: Mapping[str, int]) -> str:
        """Start the embedded broker with its topics (partitions by name).

        Returns:
            Its bootstrap servers.

        Raises:
            ConfigurationError: it does not start.
        """
        arguments = ["-m", "flows.demo.broker", *(f"{name}={count}" for name, count in topics.items())]
        self._children["broker"] = child = Child("broker", arguments, self._directory, speaks=True)
        return child.first_line(BROKER_SECONDS)

    def start_worker(self, command: Sequence[str]) -> None:
        """Start the job: a module that runs it, and its arguments."""
        self._children["worker"] = Child("worker", ["-m", "flows.demo.leash", *command], self._directory)

    def start_service(self, command: Sequence[str], descriptor: int) -> None:
        """Start the service: a module that runs it, its arguments, and the socket that it listens on."""
        arguments = ["-m", "flows.demo.leash", *command, "--descriptor", str(descriptor)]
        self._children["service"] = Child("service", arguments, self._directory, descriptors=[descriptor])

    def start_traffic(self, orders: Orders) -> None:
        """Start the shop's traffic."""
        encoded = msgspec.json.encode(orders)
        self._children["traffic"] = Child("traffic", ["-m", "flows.demo.traffic"], self._directory, encoded)

    def died(self) -> str | None:
        """A sentence about a process that has ended although nobody asked it to, or None."""
        for name, child in self._children.items():
            code = child.exit_code
            if code is not None:
                return f"the {name} has ended with exit code {code}; the end of {child.log}:\n{child.last_words()}"
        return None

    def last_words(self, name: str) -> str:
        """The end of the log of a process that was started."""
        return self._children[name].last_words()

    def stop_traffic(self) -> None:
        """End the traffic and wait until its account is written."""
        self._end(["traffic"], TRAFFIC_SECONDS)

    def stop(self) -> None:
        """End everything that still runs, the broker last."""
        self._end(["traffic", "service", "worker"], WORKER_SECONDS)
        self._end(["broker"], TRAFFIC_SECONDS / 2)

    def _end(self, names: Sequence[str], seconds: float) -> None:
        """Let processes go together, wait for them together, kill what is left."""
        children = [self._children.pop(name) for name in names if name in self._children]
        deadline_ms = self._monotonic() + round(seconds * 1000)
        for child in children:
            child.let_go()
        for child in children:
            child.ended((deadline_ms - self._monotonic()) / 1000)
        for child in children:
            child.kill()
