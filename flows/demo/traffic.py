"""The process that sends the shop's traffic to a broker, at the pace of the clock.

Owns: the producer and the account of what was sent. Invariant: what it reports as sent has been stored by the broker.
Its first line of input is its orders (JSON, so that no secret is on a command line); what follows is the leash. Each second,
and once more at its end, it replaces its account, a JSON file.
Not here: what is sent (flows.demo.simulator).
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from flows.demo.leash import end_with_parent, ignore_keyboard
from flows.demo.simulator import PEOPLE, Record, Simulator
from opportune.clock import Clock, monotonic_ms, wall_clock_ms

STEP_SECONDS = 0.01
REPORT_MS = 1_000
FLUSH_SECONDS = 1.0


class Orders(msgspec.Struct, frozen=True):
    """What a traffic process is to do.

    Args:
        kafka: properties of the producer.
        topic: where the messages go.
        account: path of the file that the account is written to.
        seed, rate, people: see ``flows.demo.simulator.Simulator``.
    """

    kafka: dict[str, str]
    topic: str
    account: str
    seed: int
    rate: float
    people: int = PEOPLE


class Account(msgspec.Struct):
    """What was sent so far: records by kind, and those that the broker did not take."""

    sent: dict[str, int] = {}
    failed: int = 0

    @property
    def records(self) -> int:
        """All records that the broker has stored."""
        return sum(self.sent.values())


class Traffic:
    """Sends what a simulator says is due.

    Args:
        orders: what to send where.
        clock: milliseconds since the epoch.
    """

    def __init__(self, orders: Orders, clock: Clock) -> None:
        self.account = Account()
        self.stopping = False
        self._topic = orders.topic
        self._clock = clock
        self._simulator = Simulator(orders.seed, clock(), orders.rate, orders.people)
        self._producer = Producer({"linger.ms": "10", "compression.type": "lz4", **orders.kafka})

    def stop(self) -> None:
        """Ask for the end; only a flag, because a signal handler does it."""
        self.stopping = True

    def send_due(self) -> None:
        """Send everything due by now."""
        for record in self._simulator.advance(self._clock()):
            self._produce(record)
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait, for a bounded time, until the broker has what was sent."""
        self._producer.flush(FLUSH_SECONDS)

    def _produce(self, record: Record) -> None:
        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is None:
                self.account.sent[record.kind] = self.account.sent.get(record.kind, 0) + 1
            else:
                self.account.failed += 1

        while True:
            try:
                self._producer.produce(self._topic, record.value, record.key, on_delivery=delivered)
            except BufferError:
                self._producer.poll(STEP_SECONDS)
            else:
                return


def write_account(path: Path, account: Account) -> None:
    """Replace the account at once, so that a reader never sees half of it."""
    beside = path.with_suffix(".part")
    beside.write_bytes(msgspec.json.encode(account))
    beside.replace(path)


def read_account(path: Path) -> Account:
    """The newest account; an empty one before the first."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Account)
    except FileNotFoundError:
        return Account()


def main() -> None:
    """Send until the leash is let go or SIGTERM comes."""
    ignore_keyboard()
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=Orders)
    traffic = Traffic(orders, wall_clock_ms)
    signal.signal(signal.SIGTERM, lambda *_: traffic.stop())
    end_with_parent()
    path = Path(orders.account)
    report_ms = monotonic_ms()
    while not traffic.stopping:
        traffic.send_due()
        if monotonic_ms() >= report_ms:
            report_ms += REPORT_MS
            write_account(path, traffic.account)
        time.sleep(STEP_SECONDS)
    traffic.flush()
    write_account(path, traffic.account)


if __name__ == "__main__":
    main()
