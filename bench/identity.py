"""What identities cost: CPU of events of known people, of events that are sent on, of merges, and of hot spots.

Owns: the measurements, in this process, over real stores and the mail of all shards, without a broker: what differs is the
work of the shards. Invariant: what is compared is measured in turns, and the least of the rounds counts.
Not here: the traffic (bench.crowds), bounds of state (tests.unit.flows.test_identity_bounds).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from bench import crowds
from bench.report import Result
from flows.loop import Arrived, Loop
from opportune.audiences.schema import Comparison, EventCondition, EventModel, Predicate
from opportune.identity import profile_id, shard_of
from opportune.project import Project
from state.rocks import RocksStore, shared_memory
from tests.oracle.builders import project

Log: TypeAlias = Callable[[int], Iterator[bytes]]
SHARDS: Final = 4
BATCH: Final = 200
MEMORY: Final = 64 << 20
RESOLVED_BAR: Final = 1.05
FORWARDED_BAR: Final = 0.6
MERGE_BAR_US: Final = 1_000.0
HOT_SPOT_BAR: Final = 2.0


@dataclass(frozen=True)
class Length:
    """How much is measured: events of each log, and rounds."""

    events: int
    rounds: int


SHORT: Final = Length(8_000, 2)
FULL: Final = Length(40_000, 5)


class Cost(NamedTuple):
    """An event: CPU in microseconds, pieces of mail."""

    cpu_us: float
    letters: float


def measure(directory: Path, length: Length) -> Result:
    """Measures all.

    Args:
        directory: takes the states.
        length: how much.
    """
    bench = _Bench(directory, length)
    known, bare = bench.both(crowds.ordinary, crowds.without_devices)
    sent_on, direct = bench.both(forwarded, crowds.without_devices)
    new = bench.one(crowds.newcomers)
    address = bench.one(crowds.ordinary_addresses)
    merges = bench.one(crowds.sign_ins, first=0.75)
    resolved, speed = known.cpu_us / bare.cpu_us, direct.cpu_us / sent_on.cpu_us
    result = Result("Identities: CPU of an event", ("", "us", "mail", "against"), [], [])
    _row(result, "known people", known, f"{resolved:.2f} of no devices (bar {RESOLVED_BAR})")
    _row(result, "sent on to another shard", sent_on, f"{speed:.2f} of the speed of direct ones (bar {FORWARDED_BAR})")
    _row(result, "sign-in that merges", merges, f"bar {MERGE_BAR_US:,.0f} us")
    _row(result, "somebody new", new, "")
    passed = resolved <= RESOLVED_BAR and speed >= FORWARDED_BAR and merges.cpu_us <= MERGE_BAR_US
    for name, log, usual in (
        ("one user, ever new devices", crowds.one_user_ever_new_devices, known),
        ("ever new devices alone", crowds.ever_new_devices_alone, new),
        ("one user, devices with a past", crowds.one_user_devices_with_a_past, known),
        ("one device, ever new people", crowds.one_device_ever_new_people, new),
        ("one device that goes round", crowds.one_device_that_goes_round, new),
        ("addresses of others", crowds.addresses_of_others, address),
    ):
        cost = bench.one(log)
        ratio = cost.cpu_us / usual.cpu_us
        word = "known people" if usual is known else "somebody new" if usual is new else "known addresses"
        _row(result, name, cost, f"{ratio:.2f} of {word} (bar {HOT_SPOT_BAR:.0f})")
        passed = passed and ratio <= HOT_SPOT_BAR
    result.passed = passed
    result.notes.append(f"bars: {'hold' if passed else 'MISSED'}; {length.events:,} events, {length.rounds} rounds")
    return result


def forwarded(count: int) -> Iterator[bytes]:
    """First people who sign in on devices of other shards, then only the devices are seen."""
    pairs = _pairs()
    half = count // 2
    yield from (crowds.track(number, *pairs[number % len(pairs)]) for number in range(half))
    yield from (crowds.track(half + number, None, pairs[number % len(pairs)][1]) for number in range(half))


def _pairs() -> list[tuple[str, str]]:
    """Users with a device whose pointer is on another shard."""
    found = []
    for number in range(crowds.PEOPLE * SHARDS):
        user, device = f"u{number}", f"d{number}"
        homes = {shard_of(profile_id(*one), SHARDS) for one in (("user_id", user), ("anonymous_id", device))}
        if len(homes) == 2:
            found.append((user, device))
    return found[: crowds.PEOPLE]


def _row(result: Result, name: str, cost: Cost, against: str) -> None:
    result.rows.append([name, f"{cost.cpu_us:.1f}", f"{cost.letters:.2f}", against])
    result.figures.append(f"{name} {cost.cpu_us:.1f} us" + (f", {against}" if against else ""))


class _Bench:
    """Runs logs; a state is made anew for each."""

    def __init__(self, directory: Path, length: Length) -> None:
        self._directory = directory
        self._length = length
        self._runs = 0

    def both(self, log: Log, other: Log) -> tuple[Cost, Cost]:
        """Two logs, in turns."""
        runs = [(self._run(log, 0.5), self._run(other, 0.5)) for _ in range(self._length.rounds)]
        return min(one for one, _ in runs), min(one for _, one in runs)

    def one(self, log: Log, first: float = 0.5) -> Cost:
        """One log, of which what comes after a first share is measured."""
        return min(self._run(log, first) for _ in range(self._length.rounds))

    def _run(self, log: Log, first: float) -> Cost:
        self._runs += 1
        memory = shared_memory(MEMORY, MEMORY)
        stores = [RocksStore(self._directory / f"{self._runs}-{shard}", memory) for shard in range(SHARDS)]
        loop = Loop(made(), SHARDS, stores.__getitem__)
        records = [
            Arrived("events", 0, offset, crowds.DAY_0_MS + offset, raw)
            for offset, raw in enumerate(log(self._length.events))
        ]
        split = int(len(records) * first)
        _feed(loop, records[:split])
        letters = sum(map(len, loop.mailbox))
        gc.collect()
        gc.disable()
        began = time.process_time()
        _feed(loop, records[split:])
        spent = time.process_time() - began
        gc.enable()
        for store in stores:
            store.close()
        rest = len(records) - split
        return Cost(spent * 1e6 / rest, (sum(map(len, loop.mailbox)) - letters) / rest)


def _feed(loop: Loop, records: list[Arrived]) -> None:
    for at in range(0, len(records), BATCH):
        loop.feed(records[at : at + BATCH])
        loop.commit()


def made() -> Project:
    """A project with a count in a window and one for ever."""
    model = EventModel("A", "track", "A")
    often = Predicate((Comparison("gte", 3),))
    once = Predicate((Comparison("gte", 1),))
    return project({"often": EventCondition(model, (), often, 600_000), "ever": EventCondition(model, (), once, None)})
