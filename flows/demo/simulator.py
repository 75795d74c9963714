"""The traffic of a shop: visits with think times, carts, people who sign in, and what real traffic has wrong with it.

Owns: who does what and when it reaches the broker. Invariant: the same seed, start, rate and people give the same messages,
however the calls of ``advance`` cut them; no clock is read. A fixed number of visitors is on the site at any time, and each
acts once a think time: that makes the rate.

What is wrong with it, as at any shop: devices whose clock is off, phones that deliver late, messages that are delivered
twice, and garbage. Not here: what a message looks like (flows.demo.messages), sending (flows.demo.traffic).
"""

from __future__ import annotations

import heapq
import random
import uuid

import msgspec

from flows.demo import catalogue
from flows.demo.messages import GARBAGE, Sender, Visitor, garbage, message

THINK_MS = 1_200
THINK_LEAST_MS = 150
PEOPLE = 1_000
MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS

SIGNED_IN_SHARE = 0.45
DUPLICATE_SHARE = 0.015
GARBAGE_SHARE = 0.006
LATE_SHARE = 0.015
TOO_LATE_SHARE = 0.02
SKEWED_SHARE = 0.08
SENDERS: tuple[tuple[Sender, float], ...] = (("browser", 0.7), ("relay", 0.2), ("server", 0.1))


class Record(msgspec.Struct, frozen=True):
    """What reaches the broker.

    Args:
        due_ms: when, in milliseconds since the epoch.
        key: of the Kafka record; all of one device or one person go to one partition.
        value: the message.
        kind: what it is meant to be: ``event``; ``late``, after its time; ``duplicate``, a repeat; else the reason for
            which it will be refused.
    """

    due_ms: int
    key: bytes
    value: bytes
    kind: str


class _Visit(msgspec.Struct):
    """A visit that goes on: the step that comes next."""

    visitor: Visitor
    weights: dict[str, float]
    step: str


class Simulator:
    """A shop, seen from its events topic.

    Args:
        seed: what the traffic is a function of, together with the other arguments.
        start_ms: milliseconds since the epoch of the first instant.
        rate: records a second, on average.
        people: how many accounts there are, ``u-0001`` and so on; a warehouse table may know them.
    """

    def __init__(self, seed: int, start_ms: int, rate: float, people: int = PEOPLE) -> None:
        self._dice = random.Random(seed)
        self._people = people
        self._order = 0
        self._due: list[tuple[int, int, _Visit | Record]] = []
        visitors = max(1, round(rate * THINK_MS / 1000 / (1 + DUPLICATE_SHARE + GARBAGE_SHARE)))
        for _ in range(visitors):
            self._push(start_ms + self._dice.randrange(THINK_MS), self._arrive())

    def advance(self, until_ms: int) -> list[Record]:
        """Everything that reaches the broker up to an instant, in order; never again what an earlier call returned.

        Args:
            until_ms: milliseconds since the epoch, inclusive.
        """
        records: list[Record] = []
        while self._due[0][0] <= until_ms:
            now_ms, _, item = heapq.heappop(self._due)
            if isinstance(item, Record):
                records.append(item)
            else:
                self._act(item, now_ms)
        return records

    def _push(self, due_ms: int, item: _Visit | Record) -> None:
        self._order += 1
        heapq.heappush(self._due, (due_ms, self._order, item))

    def _act(self, visit: _Visit, now_ms: int) -> None:
        """Send what the visit does now, and decide what it does next; where it ends somebody else arrives."""
        visitor, step = visit.visitor, _possible(visit)
        if step in ("sign_in", "sign_up"):
            visitor.user_id = self._account()
        self._send(visitor, step, now_ms)
        if self._dice.random() < GARBAGE_SHARE:
            kind = self._dice.choice(GARBAGE)
            self._push(now_ms, Record(now_ms, _key(visitor), garbage(self._dice, kind, now_ms), kind))
        steps = catalogue.WALK[step]
        weights = [weight * visit.weights.get(name, 1.0) for name, weight in steps]
        visit.step = self._dice.choices(steps, weights)[0][0]
        following = self._arrive() if visit.step == catalogue.END else visit
        self._push(now_ms + self._think(), following)

    def _send(self, visitor: Visitor, step: str, now_ms: int) -> None:
        """Deliver a message after the delay of its network, which may be long, and perhaps twice."""
        dice = self._dice
        kind, happened_ms, due_ms = "event", now_ms, now_ms + dice.randrange(5, 120)
        if dice.random() < LATE_SHARE:
            kind, due_ms = "late", due_ms + dice.randrange(2_000, 30_000)
            if dice.random() < TOO_LATE_SHARE:
                kind, happened_ms = "too_late", now_ms - 2 * DAY_MS
        value = msgspec.json.encode(message(dice, visitor, step, happened_ms, due_ms))
        self._push(due_ms, Record(due_ms, _key(visitor), value, kind))
        if kind != "too_late" and dice.random() < DUPLICATE_SHARE:
            again_ms = due_ms + dice.randrange(100, 4_000)
            self._push(again_ms, Record(again_ms, _key(visitor), value, "duplicate"))

    def _arrive(self) -> _Visit:
        """A new visit by somebody, with something in mind."""
        dice = self._dice
        mind = dice.choices(catalogue.INTENTS, [share for share, _ in catalogue.INTENTS])[0][1]
        sender = dice.choices(SENDERS, [share for _, share in SENDERS])[0][0]
        visitor = Visitor(
            anonymous_id=str(uuid.UUID(int=dice.getrandbits(128), version=4)),
            user_id=self._account() if dice.random() < SIGNED_IN_SHARE else None,
            device=dice.choice(catalogue.DEVICES),
            sender=sender,
            skew_ms=self._skew(sender),
            locale=dice.choice(catalogue.LOCALES),
            campaign=dice.choice((None, None, *catalogue.CAMPAIGNS)),
            viewing=dice.choice(catalogue.PRODUCTS),
            cart=[],
            cart_id=f"c-{dice.getrandbits(40):010x}",
        )
        return _Visit(visitor, mind, "pricing" if "pricing" in mind else "home")

    def _account(self) -> str:
        """Somebody's account; a few people come far more often than the others."""
        return f"u-{1 + int(self._people * self._dice.random() ** 2):04d}"

    def _skew(self, sender: Sender) -> int:
        """How far the clock of the sender is off: most are right, a few by seconds to hours, hardly one by 70 years."""
        dice = self._dice
        if dice.random() >= SKEWED_SHARE:
            return 0
        if sender == "server":
            return dice.randrange(1_000, 10 * MINUTE_MS)
        return dice.choice((-1, 1)) * dice.choice((20_000, 5 * MINUTE_MS, 180 * MINUTE_MS, 25_000 * DAY_MS))

    def _think(self) -> int:
        return THINK_LEAST_MS + round(self._dice.expovariate(1 / (THINK_MS - THINK_LEAST_MS)))


def _key(visitor: Visitor) -> bytes:
    return (visitor.user_id or visitor.anonymous_id).encode()


def _possible(visit: _Visit) -> str:
    """The step, or what a person does instead who has nothing in the cart, or who is signed in already."""
    empty = visit.step in ("checkout", "order", "remove") and not visit.visitor.cart
    known = visit.step in ("sign_in", "sign_up") and visit.visitor.user_id is not None
    return "view" if empty or known else visit.step
