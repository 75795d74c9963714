"""Events of many people, produced while the job lives and dies.

Owns: what is sent: known and anonymous people who come and go, duplicates, late events, clocks ahead of time, garbage.
Invariant: all events of a person go to one partition, by one request at a time, so that the order and the instants of the
log are those of the reference evaluator; two requests never carry the same append time.
Not here: reading the log back (tests.crash.judgement).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from heapq import heappop, heappush
from threading import Event, Thread
from zlib import crc32

from confluent_kafka import KafkaException, Producer

from opportune.clock import monotonic_ms, wall_clock_ms
from tests.oracle.instants import write_instant

TICK_S = 0.02
ALIVE = 250
"""So many people are there at a time."""
NEW_A_SECOND = 10
GARBAGE = (
    b"no json",
    b"[1, 2]",
    b"{}",
    b'{"type": "track", "event": "Viewed"}',
    b'{"type": "track", "event": "Viewed", "userId": "null"}',
    b'{"type": "track", "event": "Viewed", "userId": "g", "timestamp": "yesterday"}',
    b'{"type": "video", "userId": "g"}',
    b"\xff\xfe\x00",
)


class Traffic:
    """Sends events in a thread of its own, from ``start`` to ``stop``.

    Args:
        bootstrap_servers: of the broker.
        topics: the events topics with their numbers of partitions.
        seed: decides what is sent.
        events_a_second: on average.
    """

    def __init__(self, bootstrap_servers: str, topics: dict[str, int], seed: int, events_a_second: int = 250) -> None:
        self._producer = Producer({
            "bootstrap.servers": bootstrap_servers,
            "enable.idempotence": True,
            "message.timeout.ms": 0,
            # With one request at a time what waits meanwhile goes in one batch: no two have the same append time.
            "max.in.flight.requests.per.connection": 1,
            "linger.ms": 5,
            "log_level": 2,
        })  # fmt: skip
        self._topics = sorted(topics.items())
        self._random = random.Random(seed)
        self._rate = events_a_second
        self._later: list[tuple[int, int, str, bytes]] = []
        self._last: dict[str, int] = {}
        self._began_ms = 0
        self._number = 0
        self._stop = Event()
        self._thread = Thread(target=self._run, name="traffic", daemon=True)
        self.sent = 0
        self.failed: BaseException | None = None

    def start(self) -> None:
        """Begins to send."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the sending, when all that was sent is in the log."""
        self._stop.set()
        self._thread.join(60)
        if self.failed is not None:
            raise AssertionError("the traffic failed") from self.failed
        left = self._producer.flush(60)
        assert left == 0, f"{left} events could not be produced"

    def _run(self) -> None:
        try:
            self._began_ms = monotonic_ms()
            while not self._stop.wait(TICK_S):
                self._tick()
        except (KafkaException, BufferError) as error:
            self.failed = error

    def _tick(self) -> None:
        elapsed = monotonic_ms() - self._began_ms
        while self._later and self._later[0][0] <= elapsed:
            _, _, person, value = heappop(self._later)
            self._send(person, value)
        while self.sent < elapsed * self._rate // 1_000:
            person = f"p{elapsed * NEW_A_SECOND // 1_000 + self._random.randrange(ALIVE)}"
            self._send(person, self._event(person, elapsed))
        self._producer.poll(0)

    def _event(self, person: str, elapsed: int) -> bytes:
        lot, choose = self._random.random(), self._random
        if lot < 0.03:
            return choose.choice(GARBAGE)
        self._number += 1
        at = wall_clock_ms()
        if lot < 0.09:
            at -= choose.randrange(8_000)
        elif lot < 0.11:
            at += choose.randrange(60_000)
        message: dict[str, object] = {"messageId": f"m{self._number}", "timestamp": write_instant(at)}
        message |= _identifiers(person)
        message |= choose.choices(_KINDS, _WEIGHTS)[0](choose)
        value = json.dumps(message).encode()
        if choose.random() < 0.06:
            heappush(self._later, (elapsed + choose.randrange(30, 7_000), self._number, person, value))
        return value

    def _send(self, person: str, value: bytes) -> None:
        lot = crc32(person.encode())
        topic, partitions = self._topics[lot % len(self._topics)]
        # A person has at most one event a millisecond, and time does not go back.
        now = max(wall_clock_ms(), self._last.get(person, 0) + 1, self._last.get("", 0))
        self._last[person] = self._last[""] = now
        self._producer.produce(topic, value, person, lot // 7 % partitions, timestamp=now)
        self.sent += 1


def _identifiers(person: str) -> dict[str, object]:
    number = int(person[1:])
    match number % 5:
        case 0:
            return {"anonymousId": f"device-{number}"}
        case 1:
            return {"userId": person, "anonymousId": f"device-of-{number}"}
        case 2:
            return {"userId": number + 1}
        case 3:
            return {"userId": "null", "anonymousId": f" device-{number} "}
    return {"userId": person}


_KINDS: tuple[Callable[[random.Random], dict[str, object]], ...] = (
    lambda choose: {"type": "track", "event": "Counted"},
    lambda choose: {
        "type": "track",
        "event": "Viewed",
        "properties": {"category": choose.choice(("shoes", "boots", "hats")), "price": choose.randrange(9_000) / 100},
    },
    lambda choose: {"type": "track", "event": "Ordered", "properties": {"total": choose.randrange(250)}},
    lambda choose: {"type": "identify", "traits": {"plan": choose.choice(("pro", "free", None))}},
    lambda choose: {"type": "page", "name": choose.choice(("Home", "About"))},
    lambda choose: {"type": "track", "event": "Scrolled", "properties": {"depth": choose.random()}},
)
_WEIGHTS = (35, 35, 10, 8, 7, 5)
