"""Nobody grows without bound: what hostile and unusual senders leave in the state, and the work that they make.

Work is counted, not timed: calls of functions, pieces of mail, bytes written. Not here: times (bench.identity).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from bench.crowds import (
    addresses_of_others,
    ever_new_devices_alone,
    newcomers,
    one_device_ever_new_people,
    one_device_that_goes_round,
    one_user_devices_with_a_past,
    one_user_ever_new_devices,
    ordinary,
    ordinary_addresses,
    track,
)
from flows.identity.absorbed import ABSORBED_MAX
from flows.loop import Arrived, Loop
from opportune.identity import profile_id
from opportune.profile import Profile
from state.keys import PROFILE_BYTES
from state.memory import MemoryStore
from state.store import Batch
from tests.oracle.builders import DAY_0, happened, predicate, project

MANY = 10_000
SHARDS = 4
PROFILE_MAX = 64 << 10
AUDIENCES = {"often": happened("A", times=predicate(gte=3), within_ms=600_000), "ever": happened("B")}


class CountingStore(MemoryStore):
    """Counts the bytes that are written."""

    written = 0

    def write(self, batch: Batch) -> None:
        changes: Any = batch
        self.written += sum(len(key) + len(value or b"") for _, key, value, _ in changes.changes)
        super().write(batch)


@dataclass
class Seen:
    """What a log has left, and the work of the second half of it, an event."""

    loop: Loop
    calls: float
    letters: float
    written: float

    def sizes(self) -> Counter[bytes]:
        """Bytes by profile: all its keys, with those of its timers and memberships."""
        sizes: Counter[bytes] = Counter()
        for actor in self.loop.actors:
            for key, value in actor.store.scan("profiles"):
                sizes[key[:PROFILE_BYTES]] += len(key) + len(value)
            for family in ("timers", "members"):
                for key, value in actor.store.scan(family):
                    sizes[key[-PROFILE_BYTES:]] += len(key) + len(value)
        return sizes

    def counts(self) -> Counter[str]:
        """What all shards have counted."""
        return sum((Counter(actor.counts) for actor in self.loop.actors), Counter())


def run(log: Callable[[int], Iterator[bytes]], count: int = MANY, batch: int = 50) -> Seen:
    """A log through all shards, so many events at a time."""
    stores = [CountingStore() for _ in range(SHARDS)]
    loop = Loop(project(AUDIENCES), SHARDS, stores.__getitem__)
    records = [Arrived("events", 0, offset, DAY_0 + offset, raw) for offset, raw in enumerate(log(count))]
    half = count // 2
    feed(loop, records[:half], batch)
    letters, written = sum(map(len, loop.mailbox)), sum(store.written for store in stores)
    calls = 0

    def called(_frame: Any, what: str, _argument: Any) -> None:
        nonlocal calls
        calls += what in {"call", "c_call"}

    sys.setprofile(called)
    try:
        feed(loop, records[half:], batch)
    finally:
        sys.setprofile(None)
    rest = count - half
    return Seen(
        loop,
        calls / rest,
        (sum(map(len, loop.mailbox)) - letters) / rest,
        (sum(store.written for store in stores) - written) / rest,
    )


def feed(loop: Loop, records: list[Arrived], batch: int) -> None:
    for at in range(0, len(records), batch):
        loop.feed(records[at : at + batch])
        loop.commit()


@pytest.fixture(scope="module")
def usual() -> Seen:
    return run(ordinary)


@pytest.fixture(scope="module")
def new() -> Seen:
    return run(newcomers)


def test_a_user_who_refuses_to_be_one_device(usual: Seen) -> None:
    seen = run(one_user_ever_new_devices)
    bot = profile_id("user_id", "bot")
    assert max(seen.sizes().values()) == seen.sizes()[bot] < PROFILE_MAX
    assert seen.counts()["refused"] > MANY - 101
    assert seen.letters == 0
    assert seen.calls < 2 * usual.calls


def test_a_device_that_is_ever_new(new: Seen) -> None:
    seen = run(ever_new_devices_alone)
    assert max(seen.sizes().values()) < 1_024
    assert seen.letters == 0
    assert seen.calls < new.calls


def test_one_person_with_ten_thousand_devices(usual: Seen) -> None:
    seen = run(one_user_devices_with_a_past, 2 * MANY)
    assert max(seen.sizes().values()) < PROFILE_MAX
    assert seen.counts()["merged"] == 100
    assert seen.calls < 2 * usual.calls
    assert seen.letters < 0.1


def test_one_device_with_ten_thousand_people(new: Seen) -> None:
    seen = run(one_device_ever_new_people)
    sizes = seen.sizes()
    assert max(sizes.values()) < 2_048
    # As many profiles as with devices of their own: so what they make is compared with.
    assert seen.calls < 2 * new.calls
    assert seen.letters <= 3
    last = seen.loop.actors[profile_id("user_id", f"u{MANY - 1}")[0] * SHARDS >> 8]
    assert "anonymous_id:d" in last.graph.profile(profile_id("user_id", f"u{MANY - 1}")).identifiers


def test_one_device_that_goes_round_ever(new: Seen) -> None:
    seen = run(one_device_that_goes_round)
    assert max(seen.sizes().values()) < PROFILE_MAX
    assert seen.calls < 2 * new.calls
    assert seen.letters <= 3


def test_the_addresses_of_ten_thousand_others() -> None:
    usual = run(ordinary_addresses)
    seen = run(addresses_of_others, 2 * MANY)
    asker = profile_id("user_id", "z")
    assert seen.sizes()[asker] < PROFILE_MAX
    assert seen.counts()["conflict"] < MANY / 20
    assert seen.calls < 2 * usual.calls


def test_identifiers_of_the_greatest_length_stay_within_bounds() -> None:
    """1,000 devices are allowed, and each is as long as may be: the texts together decide."""
    long = [f"{number:05d}" + "y" * 250 for number in range(2_000)]
    seen = run(lambda count: (track(number, "u", long[number]) for number in range(count)), 2_000)
    person = seen.loop.actors[profile_id("user_id", "u")[0] * SHARDS >> 8].graph.profile(profile_id("user_id", "u"))
    assert len(person.identifiers) > 50
    assert seen.sizes()[profile_id("user_id", "u")] < PROFILE_MAX


@pytest.mark.parametrize("size", [255, 256, 257, 4_000])
def test_what_is_longer_than_an_identifier_is_none(size: int) -> None:
    loop = Loop(project(AUDIENCES), SHARDS)
    loop.feed([Arrived("events", 0, 0, DAY_0, track(0, "u", "é" * (size // 2) + "z" * (size % 2)))])
    loop.feed([Arrived("events", 0, 1, DAY_0, track(1, "é" * (size // 2) + "z" * (size % 2), None))])
    person = loop.actors[profile_id("user_id", "u")[0] * SHARDS >> 8].graph.profile(profile_id("user_id", "u"))
    assert len(person.identifiers) == (2 if size <= 256 else 1)
    reasons = [dict(letter.headers)["opportune-reason"] for letter in loop.letters]
    assert reasons == ([] if size <= 256 else [b"identifier_too_long"])


def test_what_is_kept_of_merged_profiles_is_bounded() -> None:
    """A device comes with a past, is taken over, comes with another past: what has merged is ever more."""

    def log(count: int) -> Iterator[bytes]:
        for number in range(0, count - 3, 4):
            yield track(number, None, f"d{number}")
            yield track(number + 1, "u", f"d{number}")
            yield track(number + 2, f"other{number}", f"d{number}")
            yield track(number + 3, "u", None)

    seen = run(log, 2_000, batch=1)
    heads: list[Profile] = [
        actor.graph.profile(profile_id("user_id", "u"))
        for actor in seen.loop.actors
        if actor.store.get("profiles", profile_id("user_id", "u"))
    ]
    assert seen.counts()["merged"] == 500
    assert [len(head.absorbed) for head in heads] == [ABSORBED_MAX]
    assert seen.sizes()[profile_id("user_id", "u")] < PROFILE_MAX
