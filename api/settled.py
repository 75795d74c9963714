"""Waiting until events that Kafka has are in the state: reading one's own writes.

Owns: the place of events in their topic, as text and as numbers, and the question whether all that came of them is where it
belongs. The text, which the collector sends with what it took::

    e TOPIC_ID . PARTITION - OFFSET [. PARTITION - OFFSET]*      TOPIC_ID: 32 hexadecimal digits; OFFSET: of the last one

Every shard reads all partitions, so first all of them are to have applied these. An event of somebody whose profile is elsewhere
went on from there by mail, and so did what its identifiers mean: so then, and again for each hop, all mail that was sent is to be
taken. Invariant: what is settled stays so, as long as the shards go on.
Not here: how a reader catches up (api.shards), who answers with the text (api.collector).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from functools import partial

from opportune.clock import monotonic_ms
from opportune.errors import ReadRefused
from state.keys import META_APPLIED, META_CHANNELS, META_SEQUENCES
from state.positions import Channels, Positions, Sequences
from state.store import Reading

PLACE = re.compile(r"e([0-9a-f]{32})((?:\.[0-9]{1,10}-[0-9]{1,19})+)")
HOPS = 4
"""So many times an event is followed: usually it is sent on not once, and after a merge once."""
PAUSE_S = 0.01
KEPT = 1_024

Event = tuple[bytes, int]
"""Topic id and partition."""


def place_text(topic_id: bytes, offsets: Mapping[int, int]) -> str:
    """The text of a place: by partition, the offset of the last event."""
    return "e" + topic_id.hex() + "".join(f".{partition}-{offset}" for partition, offset in sorted(offsets.items()))


def read_place(text: str) -> dict[Event, int] | None:
    """The offsets of a place, by topic id and partition; None where the text is none."""
    found = PLACE.fullmatch(text)
    if found is None:
        return None
    topic_id, offsets = bytes.fromhex(found[1]), dict[Event, int]()
    for one in found[2][1:].split("."):
        partition, _, offset = one.partition("-")
        at = topic_id, int(partition)
        offsets[at] = max(int(offset), offsets.get(at, -1))
    return offsets


class Settled:
    """Waits for events.

    Args:
        shards: how many there are.
        read: a shard's reader as of now. Raises ``ReadRefused``.
    """

    def __init__(self, shards: int, read: Callable[[int], Reading]) -> None:
        self._shards = shards
        self._read = read
        self._known: dict[frozenset[tuple[Event, int]], None] = {}

    def forget(self) -> None:
        """A shard was opened again: it may be another state, which has not come so far."""
        self._known.clear()

    async def wait(self, events: Mapping[Event, int], wait_ms: int) -> None:
        """Waits until the events are in the state.

        Args:
            events: by topic id and partition, the offset of the last one.
            wait_ms: for so long at most.

        Raises:
            ReadRefused: they are not.
        """
        asked = frozenset(events.items())
        if asked in self._known:
            return
        until = monotonic_ms() + wait_ms
        for shard in range(self._shards):
            await self._until(partial(self._applied, shard, events), until)
        for _ in range(HOPS):
            sent = [self._sent(shard) for shard in range(self._shards)]
            under_way = [shard for shard in range(self._shards) if not self._taken(shard, sent)]
            if not under_way:
                break
            for shard in under_way:
                await self._until(partial(self._taken, shard, sent), until)
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[asked] = None

    async def _until(self, holds: Callable[[], bool], until: int) -> None:
        while not holds():
            if monotonic_ms() >= until:
                raise ReadRefused("the job has not applied the events of the position yet")
            await asyncio.sleep(PAUSE_S)

    def _applied(self, shard: int, events: Mapping[Event, int]) -> bool:
        positions = Positions(self._read(shard).get("meta", META_APPLIED) or b"")
        for (topic_id, partition), offset in events.items():
            at = positions.get(topic_id, partition)
            if at is None or at[0] <= offset:
                return False
        return True

    def _sent(self, shard: int) -> dict[int, int]:
        return dict(Sequences(self._read(shard).get("meta", META_SEQUENCES) or b""))

    def _taken(self, shard: int, sent: list[dict[int, int]]) -> bool:
        channels = Channels(self._read(shard).get("meta", META_CHANNELS) or b"")
        return all(channels.get(sender)[1] >= to.get(shard, 0) for sender, to in enumerate(sent))
