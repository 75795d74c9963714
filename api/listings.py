"""The whole state at one moment, held while somebody reads through it.

Owns: frozen readers of all shards, made together and kept until they have not been used for a while, so that a list of members
can be read in pieces and is still of one position for each shard; cursors; and the counts of members.
Invariants: a listing never moves; a cursor is good at the process that gave it, for as long as its listing is held, and is
refused afterwards instead of going on with another state. Opening and reading happens beside the event loop.
Not here: formats (api.member_formats), the walk (state.members), one person (api.shards).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec

from api.problems import Problem
from api.shards import Shards
from opportune.clock import monotonic_ms
from opportune.errors import ReadRefused, StateError
from opportune.identity import shard_of
from state.members import Corrected, Slice, count, slices
from state.people import People
from state.rocks import RocksStore, frozen
from state.status import read_shard_times

HELD_MAX = 8
HELD_MS = 60_000
"""A listing that nobody reads is let go after so long."""
OPEN_TRIES = 3
COUNT_AGE_MS = 5_000
COUNT_SHARE = 20
"""Counting takes at most a twentieth of the time."""


class Listing:
    """All shards as they were at one moment.

    Args:
        stores: of the shards, in order.
        times: their log times.
        people: their people.

    Attributes:
        id: names it in cursors.
        readers: how many read it now.
        used_ms: when it was last used, monotonic.
    """

    def __init__(self, stores: list[RocksStore], times: list[int], people: list[People]) -> None:
        self.id = secrets.token_urlsafe(9)
        self.times = times
        self.readers = 0
        self.used_ms = monotonic_ms()
        self.writes = [store.sequence for store in stores]
        self._stores = stores
        self._people = people
        self._corrected: dict[int, dict[int, dict[bytes, int | None]]] = {}

    def slices(self, audience: int, after: bytes, rows: int, *, identifiers: bool) -> Iterator[Slice]:
        """The members of an audience, in order of profile id, behind ``after``. Raises ``ReadRefused``, ``StateError``."""
        first = shard_of(after, len(self._stores)) if after else 0
        for shard in range(first, len(self._stores)):
            begin = after if shard == first else b""
            corrected = self._of(shard, audience)
            yield from slices(self._stores[shard], audience, corrected, begin, rows, identifiers=identifiers)

    def count(self, audience: int) -> int | None:
        """How many members an audience has; None where it is warming. Raises ``ReadRefused``, ``StateError``."""
        for shard, people in enumerate(self._people):
            if not people.is_known(audience, people.warming(max(self.times[shard] - 1, 0))):
                return None
        return sum(count(store, audience, self._of(shard, audience)) for shard, store in enumerate(self._stores))

    def close(self) -> None:
        """Lets it go."""
        for store in self._stores:
            store.close()
        self._stores = []

    def check(self, audience: int) -> None:
        """Raises ``ReadRefused`` where nobody can say who is in an audience."""
        for shard, people in enumerate(self._people):
            if not people.is_known(audience, people.warming(max(self.times[shard] - 1, 0))):
                raise ReadRefused("the audience is warming: what it looks at has not been seen for long enough yet")
            self._of(shard, audience)

    def _of(self, shard: int, audience: int) -> Corrected:
        known = self._corrected.get(shard)
        if known is None:
            known = self._people[shard].corrected(self._stores[shard], self.times[shard])
            self._corrected[shard] = known
        return known.get(audience, {})


class Counts(msgspec.Struct, frozen=True):
    """How many members each audience had, by number, and when: the least of the shards' log times."""

    members: list[int | None]
    as_of_ms: int


class Listings:
    """Makes listings and keeps them.

    Args:
        shards: of the project.
        directory: of its state.
    """

    def __init__(self, shards: Shards, directory: Path) -> None:
        self._shards = shards
        self._directory = directory
        self._held: dict[str, Listing] = {}
        self._counting = asyncio.Lock()
        self._counts: Counts | None = None
        self._counted_ms = 0
        self._count_took_ms = 0

    def close(self) -> None:
        """Lets all of them go."""
        for listing in self._held.values():
            listing.close()
        self._held.clear()

    async def open(self) -> Listing:
        """The state as it is now, to be given back by ``release``. Raises ``ReadRefused``, ``StateError``, ``Problem`` (503)."""
        self._sweep()
        if len(self._held) >= HELD_MAX:
            idle = [one for one in self._held.values() if not one.readers]
            if not idle:
                raise Problem(503, "too_many_listings", "as many lists are being read as this service reads at once", 5)
            self._let_go(min(idle, key=lambda one: one.used_ms))
        times, stores = await asyncio.to_thread(self._frozen)
        try:
            people = [self._shards.people_of(shard, store) for shard, store in enumerate(stores)]
        except BaseException:
            for store in stores:
                store.close()
            raise
        listing = Listing(stores, times, people)
        listing.readers = 1
        self._held[listing.id] = listing
        return listing

    def again(self, name: str) -> Listing:
        """A listing that is held. Raises ``Problem`` (410)."""
        self._sweep()
        listing = self._held.get(name)
        if listing is None:
            raise Problem(410, "cursor_gone", "the state that this cursor reads is no longer held: begin again")
        listing.readers += 1
        return listing

    def release(self, listing: Listing, *, keep: bool = True) -> None:
        """Gives a listing back; ``keep``: it may be gone on with."""
        listing.readers -= 1
        listing.used_ms = monotonic_ms()
        if not keep and not listing.readers:
            self._let_go(listing)
        elif keep:
            asyncio.get_running_loop().call_later(HELD_MS / 1000 + 1, self._sweep)

    async def counts(self) -> Counts:
        """How many members the audiences have, as of a few seconds ago at most, more where counting is slow. Raises as ``open``."""
        async with self._counting:
            wait_ms = max(COUNT_AGE_MS, COUNT_SHARE * self._count_took_ms)
            if self._counts is not None and monotonic_ms() - self._counted_ms < wait_ms:
                return self._counts
            listing = await self.open()
            try:
                began = monotonic_ms()
                numbers = range(len(self._shards.compiled.plan.audiences))
                members = await asyncio.to_thread(lambda: [listing.count(number) for number in numbers])
            finally:
                self.release(listing, keep=False)
            self._counted_ms = monotonic_ms()
            self._count_took_ms = self._counted_ms - began
            self._counts = Counts(members, max(min(listing.times) - 1, 0))
            return self._counts

    def _frozen(self) -> tuple[list[int], list[RocksStore]]:
        # First the times, then the state: what a time says is in the state already.
        times = read_shard_times(self._directory)
        stores: list[RocksStore] = []
        try:
            # One by one, so that those that are open are known where the next cannot be opened.
            stores.extend(_frozen(self._directory / "shards" / f"{n:04d}") for n in range(self._shards.count))
        except BaseException:
            for store in stores:
                store.close()
            raise
        return [times.get(shard, 0) for shard in range(self._shards.count)], stores

    def _sweep(self) -> None:
        now = monotonic_ms()
        for listing in list(self._held.values()):
            if not listing.readers and now - listing.used_ms > HELD_MS:
                self._let_go(listing)

    def _let_go(self, listing: Listing) -> None:
        del self._held[listing.id]
        listing.close()


def _frozen(directory: Path) -> RocksStore:
    """Opens a shard; again where its writer removed a file meanwhile that it no longer needs."""
    for _ in range(OPEN_TRIES - 1):
        try:
            return frozen(directory)
        except StateError:
            continue
    return frozen(directory)
