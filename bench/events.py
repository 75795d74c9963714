"""Synthetic traffic: Segment-style track calls of about 340 bytes, the same bytes for the same seed and times.

Owns: who acts (people by Zipf), what happens (names by weight), how a message looks, and where it goes (``partition``).
Invariant: event number i of a traffic is the same, whatever range it is asked for in: randomness is drawn in blocks of
``BLOCK`` events, each with its own seed. A message id begins with the event's number, so that a membership change can be
led back to the event that caused it (``number_of``).
Not here: topics and producing (bench.kafka), what the audiences are (bench.audiences).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from opportune.identity import profile_id, shard_of

BLOCK: Final = 50_000
PRODUCTS: Final = 200
PRICING: Final = "Pricing Viewed"
Numbers = npt.NDArray[np.int64]

SHOP: Final = (
    (PRICING, 20), ("Product Viewed", 20), ("Page Scrolled", 10), ("Product List Viewed", 8), ("Product Searched", 7),
    ("Product Added", 6), ("Article Read", 5), ("Video Played", 4), ("Cart Viewed", 4), ("Product Removed", 3),
    ("Checkout Started", 3), ("Coupon Entered", 2), ("Order Completed", 2), ("Review Read", 1), ("Wishlist Opened", 1),
    ("Signup Clicked", 1), ("Email Opened", 1), ("Support Opened", 1), ("Store Located", 0.5), ("Plan Compared", 0.5),
)  # fmt: skip
"""Names and weights (percent) of a shop's events; a fifth are pricing views."""

_SUFFIX = [b".%03dZ" % i for i in range(1000)]


def person_name(person: int) -> str:
    """The user_id of a person by number."""
    return f"u-{person:07d}"


def number_of(message_id: str) -> int:
    """The number of the event that has this message id."""
    return int(message_id[:8], 16)


@dataclass(frozen=True)
class Events:
    """A run of events in order of their number.

    Args:
        first: the number of the first one.
        values: the messages.
        keys: the user_id of each, the key of its record.
        people: the number of the person of each, less the traffic's first one.
        names: the index into the traffic's names of each.
        prices: ``properties.price`` of each.
        times_ms: the event time of each, milliseconds since the epoch.
    """

    first: int
    values: list[bytes]
    keys: list[bytes]
    people: Numbers
    names: Numbers
    prices: npt.NDArray[np.float64]
    times_ms: Numbers


@dataclass(frozen=True)
class Traffic:
    """What people do.

    Args:
        weights: names of events and how often they come, relative to each other.
        people: how many there are.
        zipf: exponent of their activity; 0 is everybody alike.
        seed: of everything random.
        first_person: the number of the first of them, so that two traffics need not share people.
        introduced: whether everybody acts once, in random order, before they act as their activity says: events 0 to
            ``introduction - 1``. Without it a short run is mostly of people whom nobody has seen before.
    """

    weights: Sequence[tuple[str, float]] = SHOP
    people: int = 200_000
    zipf: float = 1.1
    seed: int = 1
    first_person: int = 0
    introduced: bool = False

    @property
    def introduction(self) -> int:
        """How many events introduce people."""
        return self.people if self.introduced else 0

    @cached_property
    def names(self) -> list[str]:
        """The names of the events; ``Events.names`` are indices into it."""
        return [name for name, _ in self.weights]

    @cached_property
    def prices(self) -> npt.NDArray[np.float64]:
        """The price of each product, 1 to 100, two decimals."""
        return np.round(np.random.default_rng([self.seed, 2]).uniform(1, 100, PRODUCTS), 2)

    @cached_property
    def _activity(self) -> npt.NDArray[np.float64]:
        weight = 1.0 / np.arange(1, self.people + 1) ** self.zipf
        return np.asarray(np.cumsum(weight) / weight.sum())

    @cached_property
    def _people(self) -> Numbers:
        return np.random.default_rng([self.seed, 1]).permutation(self.people)

    @cached_property
    def _introduction(self) -> Numbers:
        return np.random.default_rng([self.seed, 5]).permutation(self.introduction)

    @cached_property
    def _shares(self) -> npt.NDArray[np.float64]:
        weight = np.array([weight for _, weight in self.weights], np.float64)
        return np.asarray(np.cumsum(weight) / weight.sum())

    @cached_property
    def _heads(self) -> list[bytes]:
        return [b'{"type":"track","event":"%b","messageId":"' % name.encode() for name in self.names]

    @cached_property
    def _tails(self) -> list[list[bytes]]:
        return [[_tail(name, p, price) for p, price in enumerate(self.prices.tolist())] for name in self.names]

    @cached_property
    def _ids(self) -> list[tuple[bytes, bytes]]:
        """For each person: the key, and the piece of the message that names the person."""
        anonymous = np.random.default_rng([self.seed, 3]).bytes(8 * self.people).hex()
        out = []
        for i in range(self.people):
            key = person_name(self.first_person + i).encode()
            out.append(
                (
                    key,
                    b'","userId":"%b","anonymousId":"%b","timestamp":"'
                    % (key, anonymous[16 * i : 16 * i + 16].encode()),
                )
            )
        return out

    def build(self, first: int, times_ms: Numbers, people: Numbers | None = None) -> Events:
        """The events ``first`` to ``first + len(times_ms) - 1``.

        Args:
            first: number of the first event.
            times_ms: the time of each.
            people: who acts in each, counted from the traffic's first person, instead of whom the activity says.
        """
        drawn = [self._block(block) for block in range(first // BLOCK, (first + len(times_ms) - 1) // BLOCK + 1)]
        skip = first % BLOCK
        part = slice(skip, skip + len(times_ms))
        who, names, products = (np.concatenate([d[k] for d in drawn])[part] for k in range(3))
        salt = "".join(d[3] for d in drawn)[24 * skip : 24 * (skip + len(times_ms))]
        if people is not None:
            who = people
        keys, values = self._write(first, times_ms, who, names, products, salt)
        return Events(first, values, keys, who, names, self.prices[products], times_ms)

    def _block(self, block: int) -> tuple[Numbers, Numbers, Numbers, str]:
        # A paced producer asks for a few events at a time, hundreds of times a block.
        if block not in self._drawn:
            self._drawn.clear()
            self._drawn[block] = self._draw(block)
        return self._drawn[block]

    @cached_property
    def _drawn(self) -> dict[int, tuple[Numbers, Numbers, Numbers, str]]:
        return {}

    def _draw(self, block: int) -> tuple[Numbers, Numbers, Numbers, str]:
        random = np.random.default_rng([self.seed, 4, block])
        who = self._people[np.minimum(np.searchsorted(self._activity, random.random(BLOCK)), self.people - 1)]
        introduced = self._introduction[block * BLOCK : (block + 1) * BLOCK]
        who[: len(introduced)] = introduced
        names = np.minimum(np.searchsorted(self._shares, random.random(BLOCK), side="right"), len(self.names) - 1)
        return who, names, random.integers(0, PRODUCTS, BLOCK), random.bytes(12 * BLOCK).hex()

    def _write(
        self, first: int, times_ms: Numbers, who: Numbers, names: Numbers, products: Numbers, salt: str
    ) -> tuple[list[bytes], list[bytes]]:
        seconds = {
            s: datetime.fromtimestamp(s, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
            for s in set((times_ms // 1000).tolist())
        }
        heads, tails, ids, suffix, random = self._heads, self._tails, self._ids, _SUFFIX, salt.encode()
        keys, values = [], []
        rows = zip(who.tolist(), names.tolist(), products.tolist(), times_ms.tolist(), strict=True)
        for i, (person, name, product, t) in enumerate(rows):
            key, piece = ids[person]
            keys.append(key)
            number = b"%08x" % (first + i)
            second = seconds[t // 1000]
            values.append(
                b"".join(
                    (
                        heads[name],
                        number,
                        random[24 * i : 24 * i + 24],
                        piece,
                        second,
                        suffix[t % 1000],
                        tails[name][product],
                    )
                )
            )
        return keys, values


def _tail(name: str, product: int, price: float) -> bytes:
    path = "/pricing" if name == PRICING else f"/{name.lower().replace(' ', '-')[:8]}/{product}"
    return (
        f'","context":{{"library":{{"name":"analytics.js","version":"4.1.0"}},"page":{{"path":"{path}"}}}},'
        f'"properties":{{"path":"{path}","sku":"p{product}","price":{price}}}}}'
    ).encode()


def evenly(first_ms: int, count: int, events_a_second: float) -> Numbers:
    """Times of ``count`` events from ``first_ms`` on, at an even rate, never going back."""
    return first_ms + (np.arange(count) * (1000.0 / events_a_second)).astype(np.int64)


def partition(key: bytes, partitions: int) -> int:
    """The partition of a topic that follows the slots of its people, as the topics do that Opportune itself fills."""
    return shard_of(profile_id("user_id", key.decode()), partitions)
