"""The readers of the stream, and what each of them gets.

Owns: recent changes in the order in which this process read them, with the place behind each; and the readers, by what they
want. Readers who want the same share their chunks, made once, so that a change costs what those cost whom it concerns.
Invariants: nobody waits for a reader: who falls behind by more than ``bytes_max`` is dropped with a reason, and may come
again with the last id that they got; a reader gets every change behind their place once, in order, or is told that it is
no longer here. One thread: that of the event loop.
Not here: Kafka and repeats (api.changes.source), HTTP (api.changes.routes).
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence

import msgspec

from api.changes.entry import Entry, Filter, dropped, heartbeat, identified, names_of
from api.changes.position import Position, position_text
from opportune.clock import Clock

MINUTE_MS = 60_000
MINUTES_KEPT = 60
REPLAYED_AT_ONCE = 500


class HubSettings(msgspec.Struct, frozen=True):
    """Bounds.

    Args:
        readers_max: connections at once.
        bytes_max: how far a reader may be behind.
        history_max: changes that are kept for readers who come again.
        history_bytes_max: and their bytes.
        heartbeat_s: a quiet reader hears something so often.
        send_s: a connection that takes nothing for so long is closed.
        wait_s: a place that this process has not read to yet is waited for so long.
    """

    readers_max: int = 2_000
    bytes_max: int = 2 << 20
    history_max: int = 50_000
    history_bytes_max: int = 64 << 20
    heartbeat_s: float = 15.0
    send_s: float = 20.0
    wait_s: float = 2.0


class Gone(Exception):
    """The changes behind a place are no longer here."""


class _Group:
    """What the readers of one filter get, newest last."""

    def __init__(self, wanted: Filter) -> None:
        self.wanted = wanted
        self.chunks: deque[bytes] = deque()
        self.first = 0
        self.size = 0
        self.pending: list[bytes] = []
        self.readers: set[Reader] = set()

    @property
    def end(self) -> int:
        return self.first + len(self.chunks)

    def publish(self, bytes_max: int) -> None:
        """Makes what is pending a chunk, and lets go what is too old."""
        chunk = b"".join(self.pending)
        self.pending.clear()
        self.chunks.append(chunk)
        self.size += len(chunk)
        while self.size > bytes_max and len(self.chunks) > 1:
            self.size -= len(self.chunks.popleft())
            self.first += 1
        for reader in self.readers:
            reader.wake()

    def trim(self) -> None:
        """Lets go what every reader has."""
        least = min((reader.at for reader in self.readers), default=self.end)
        while self.first < least:
            self.size -= len(self.chunks.popleft())
            self.first += 1


class Reader:
    """One connection. ``next`` gives it what to send."""

    def __init__(self, hub: Hub, group: _Group, since: Position | None, allowed: Callable[[], bool]) -> None:
        self.at = group.end
        self.allowed = allowed
        self._hub = hub
        self._group = group
        self._since = since
        self._replay = hub.first if since is not None else None
        self._future: asyncio.Future[None] | None = None
        self._reason = ""
        self._beat = True

    def wake(self) -> None:
        """There is something to send."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def drop(self, reason: str) -> None:
        """The reader hears no more than the reason."""
        self._reason = self._reason or reason
        self.wake()

    def beat(self) -> None:
        """The reader hears that all is well."""
        self._beat = True
        self.wake()

    async def next(self) -> tuple[bytes, bool]:
        """What to send, waited for; and whether it is the last."""
        while True:
            # Who has to be replayed to is not behind until then.
            if self._replay is None and self.at < self._group.first:
                self._reason = self._reason or "slow"
            if self._reason:
                return dropped(self._reason, REASONS[self._reason]), True
            chunk = self._replayed() if self._replay is not None else self._live()
            if chunk:
                self._beat = False
                return chunk, False
            if self._replay is not None:
                continue
            if self._beat:
                self._beat = False
                return heartbeat(self._hub.position.text()), False
            self._future = asyncio.get_running_loop().create_future()
            await self._future

    def _live(self) -> bytes:
        group = self._group
        if self.at == group.end:
            return b""
        chunk = group.chunks[self.at - group.first]
        self.at += 1
        group.trim()
        return chunk

    def _replayed(self) -> bytes:
        """The next changes of the past; at its end the reader goes on with the present."""
        assert self._replay is not None, "the reader is in the past"
        assert self._since is not None, "a reader in the past came with a place"
        if self._replay < self._hub.first:
            self._reason = "slow"
            return b""
        entries = self._hub.entries_from(self._replay, REPLAYED_AT_ONCE)
        if not entries:
            self._replay, self.at = None, self._group.end
            return b""
        self._replay += len(entries)
        offsets, wants = self._since.offsets, self._group.wanted.wants
        return b"".join(
            identified(self._since.not_before(entry.offsets).text(), entry.event)
            for entry in entries
            if entry.offset >= offsets[entry.partition] and wants(entry.change)
        )


REASONS = {
    "slow": "you read slower than changes come: connect again with the last id, and read faster or ask for less",
    "stuck": "the connection takes nothing: connect again with the last id",
    "stopping": "the service is stopping: connect again with the last id",
    "restarted": "the topic is being read anew: connect again with the last id",
    "key": "the key is no longer in force: connect again with one that is",
}


class Hub:
    """All readers, and the recent past.

    Args:
        settings: bounds.
        clock: wall clock, milliseconds.

    Attributes:
        first: the number of the oldest change that is here.
        dropped: readers sent away, by reason.
    """

    def __init__(self, settings: HubSettings, clock: Clock) -> None:
        self.settings = settings
        self.first = 0
        self.dropped: Counter[str] = Counter()
        self._clock = clock
        self._topic = ""
        self._offsets: list[int] = []
        self._lowest: list[int] = []
        self._since_ms = 0
        self._loaded = False
        self._history: deque[Entry] = deque()
        self._size = 0
        self._groups: dict[Filter, _Group] = {}
        self._everything: set[_Group] = set()
        self._by_audience: dict[str, set[_Group]] = {}
        self._by_profile: dict[str, set[_Group]] = {}
        self._minutes: dict[int, Counter[tuple[str, str]]] = {}
        self._moved: list[asyncio.Future[None]] = []

    @property
    def ready(self) -> bool:
        """Whether the past has been read."""
        return self._loaded

    @property
    def readers(self) -> int:
        """How many there are."""
        return sum(len(group.readers) for group in self._groups.values())

    def begin(self, topic: str, offsets: Sequence[int], since_ms: int) -> None:
        """The topic is read from these offsets on; what was known is forgotten."""
        self.drop_all("restarted")
        self.first += len(self._history)
        self._history.clear()
        self._minutes.clear()
        self._size, self._loaded = 0, False
        self._topic, self._offsets, self._lowest = topic, list(offsets), list(offsets)
        self._since_ms = since_ms

    def take(self, entries: Sequence[Entry], offsets: Sequence[int], *, loaded: bool) -> None:
        """Takes changes, in order.

        Args:
            entries: the news.
            offsets: where the source reads next; behind all of the entries.
            loaded: whether the past has been read.
        """
        touched: set[_Group] = set()
        for entry in entries:
            self._offsets[entry.partition] = entry.offset + 1
            kept = msgspec.structs.replace(entry, offsets=tuple(self._offsets))
            self._keep(kept)
            groups = self._concerned(kept)
            if groups:
                event = identified(position_text(self._topic, kept.offsets), kept.event)
                for group in groups:
                    group.pending.append(event)
                touched.update(groups)
        self._offsets[:] = offsets
        self._loaded = loaded
        for group in touched:
            group.publish(self.settings.bytes_max)
        moved, self._moved = self._moved, []
        for future in moved:
            if not future.done():
                future.set_result(None)

    async def reach(self, position: Position) -> bool:
        """Waits until this process has read to a place, within a bound; whether it has."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.settings.wait_s
        while not self._is_behind(position):
            if (left := until - loop.time()) <= 0:
                return False
            future: asyncio.Future[None] = loop.create_future()
            self._moved.append(future)
            await asyncio.wait([future], timeout=left)
        return True

    def open(self, wanted: Filter, since: Position | None, allowed: Callable[[], bool] = lambda: True) -> Reader:
        """A new reader.

        Args:
            wanted: what they want.
            since: the place behind the last change that they have, reached (``reach``); None: from now on.
            allowed: whether they still may; asked at every heartbeat.

        Raises:
            Gone: the changes behind the place are not here.
        """
        if since is not None:
            known = since.topic == self._topic and len(since.offsets) == len(self._lowest)
            if not known or any(at < low for at, low in zip(since.offsets, self._lowest, strict=True)):
                raise Gone
        group = self._groups.get(wanted)
        if group is None:
            group = self._groups[wanted] = _Group(wanted)
            for groups in self._places(wanted):
                groups.add(group)
        reader = Reader(self, group, since, allowed)
        group.readers.add(reader)
        return reader

    def close(self, reader: Reader) -> None:
        """The reader has gone."""
        group = reader._group
        if reader._reason:
            self.dropped[reader._reason] += 1
        group.readers.discard(reader)
        if group.readers:
            group.trim()
        elif self._groups.get(group.wanted) is group:
            del self._groups[group.wanted]
            for groups in self._places(group.wanted):
                groups.discard(group)
            if not self._by_profile.get(group.wanted.profile, group):
                del self._by_profile[group.wanted.profile]

    def drop_all(self, reason: str) -> None:
        """Sends every reader away."""
        for group in self._groups.values():
            for reader in group.readers:
                reader.drop(reason)

    def beat(self) -> None:
        """Lets every reader hear something, and sends those away who may no longer read."""
        for group in list(self._groups.values()):
            for reader in list(group.readers):
                reader.beat() if reader.allowed() else reader.drop("key")

    @property
    def position(self) -> Position:
        """Everything before it has been told to whom it concerns."""
        return Position(self._topic, tuple(self._offsets))

    def entries_from(self, number: int, count: int) -> list[Entry]:
        """Changes from a number on."""
        start = number - self.first
        return [self._history[at] for at in range(start, min(start + count, len(self._history)))]

    def last_hour(self) -> tuple[int, Counter[tuple[str, str]]]:
        """Since when (milliseconds), and the changes since then by audience and kind."""
        begin = (self._clock() // MINUTE_MS - MINUTES_KEPT + 1) * MINUTE_MS
        total: Counter[tuple[str, str]] = Counter()
        for minute, counted in self._minutes.items():
            if minute * MINUTE_MS >= begin:
                total.update(counted)
        return max(begin, self._since_ms), total

    def _is_behind(self, position: Position) -> bool:
        if position.topic != self._topic or len(position.offsets) != len(self._offsets):
            return True  # another topic: ``open`` says so
        return all(at <= here for at, here in zip(position.offsets, self._offsets, strict=True))

    def _keep(self, entry: Entry) -> None:
        minute = entry.at_ms // MINUTE_MS
        counted = self._minutes.get(minute)
        if counted is None:
            counted = self._minutes[minute] = Counter()
            for old in [each for each in self._minutes if each <= minute - MINUTES_KEPT]:
                del self._minutes[old]
        counted[entry.change.audience, entry.change.change] += 1
        self._history.append(entry)
        self._size += len(entry.event)
        settings = self.settings
        while len(self._history) > settings.history_max or self._size > settings.history_bytes_max:
            gone = self._history.popleft()
            self.first += 1
            self._size -= len(gone.event)
            self._lowest[gone.partition] = gone.offset + 1

    def _concerned(self, entry: Entry) -> list[_Group]:
        change = entry.change
        found = [*self._everything, *self._by_audience.get(change.audience, ())]
        if self._by_profile:
            for name in names_of(change):
                found.extend(self._by_profile.get(name, ()))
        return [group for group in found if group.wanted.wants(change)]

    def _places(self, wanted: Filter) -> list[set[_Group]]:
        """Where a group is found by what concerns it; in one place for each change."""
        if wanted.profile:
            return [self._by_profile.setdefault(wanted.profile, set())]
        if wanted.audiences:
            return [self._by_audience.setdefault(name, set()) for name in wanted.audiences]
        return [self._everything]
