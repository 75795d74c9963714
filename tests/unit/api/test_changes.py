"""The hub of the stream: who gets what, from where, and who is sent away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.changes.entry import Entry, Filter, event_of
from api.changes.hub import Gone, Hub, HubSettings, Reader
from api.changes.position import Position, read_position
from api.changes.repeats import Repeats
from opportune.membership import MembershipChange

TOPIC = "0123abcd"
NOW_MS = 1_767_225_600_000
PARTITIONS = 2


def change(profile: int = 1, audience: str = "a", kind: str = "entered", version: int = 1) -> MembershipChange:
    return MembershipChange(
        id=f"{profile:032x}/{version}",
        audience=audience,
        change="entered" if kind == "entered" else "exited",
        profile_id=f"{profile:032x}",
        identifiers={"user_id": [f"u{profile}"], "email": [f"u{profile}@example.com"]},
        at="2026-01-01T00:00:00.000Z",
        emitted_at="2026-01-01T00:00:00.000Z",
        cause="event",
        version=version,
        definition_version="d",
    )


class Feeding:
    """A hub, and the offsets of what it was given."""

    def __init__(self, settings: HubSettings | None = None, begin: int = 0) -> None:
        self.hub = Hub(settings or HubSettings(), lambda: NOW_MS)
        self.offsets = [begin] * PARTITIONS
        self.hub.begin(TOPIC, self.offsets, NOW_MS - 1000)

    def give(self, changes: Iterable[MembershipChange], partition: int = 0) -> None:
        entries = []
        for one in changes:
            event = event_of(one, msgspec.json.encode(one))
            entries.append(Entry(partition, self.offsets[partition], NOW_MS, one, event))
            self.offsets[partition] += 1
        self.hub.take(entries, tuple(self.offsets), loaded=True)


async def heard(reader: Reader) -> list[dict[str, str]]:
    """Everything that a reader can have now: events, each with its fields."""
    events: list[dict[str, str]] = []
    while True:
        waiting = asyncio.ensure_future(reader.next())
        await asyncio.sleep(0)
        if not waiting.done():
            waiting.cancel()
            return events
        chunk, last = waiting.result()
        for block in chunk.decode().split("\n\n")[:-1]:
            lines = [line for line in block.splitlines() if not line.startswith(":")]
            events.append(dict(line.split(": ", 1) for line in lines))
        if last:
            return events


def versions(events: list[dict[str, str]]) -> list[int]:
    return [msgspec.json.decode(one["data"])["version"] for one in events if "data" in one]


def test_readers_get_what_they_asked_for_and_the_same_want_shares_chunks() -> None:
    async def story() -> None:
        feed = Feeding()
        wants = {
            "all": Filter(),
            "audience": Filter(audiences=frozenset({"a", "c"})),
            "exits": Filter(kinds=frozenset({"exited"})),
            "person": Filter(profile="email:u2@example.com"),
            "id": Filter(profile=f"{2:032x}", audiences=frozenset({"b"})),
        }
        readers = {name: feed.hub.open(wanted, None) for name, wanted in wants.items()}
        twin = feed.hub.open(Filter(), None)
        feed.give([change(1, "a", version=1), change(2, "b", version=2)])
        feed.give([change(2, "c", "exited", 3)], partition=1)
        found = {name: versions(await heard(reader)) for name, reader in readers.items()}
        assert found == {"all": [1, 2, 3], "audience": [1, 3], "exits": [3], "person": [2, 3], "id": [2]}
        assert versions(await heard(twin)) == [1, 2, 3]
        for reader in (*readers.values(), twin):
            feed.hub.close(reader)
        assert (feed.hub.readers, feed.hub._groups, feed.hub._by_profile) == (0, {}, {})

    asyncio.run(story())


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from("ab")), max_size=40), st.data())
def test_who_comes_again_misses_nothing_and_gets_nothing_twice(
    told: list[tuple[int, str]], data: st.DataObject
) -> None:
    async def story() -> None:
        feed = Feeding(begin=5)
        wanted = data.draw(st.sampled_from([Filter(), Filter(audiences=frozenset("a"))]))
        reader, got, last = feed.hub.open(wanted, None), [], ""
        for number, (partition, audience) in enumerate(told):
            feed.give([change(number, audience, version=number)], partition)
            if data.draw(st.booleans()):
                events = await heard(reader)
                got += versions(events)
                last = events[-1]["id"] if events else last
                if last and data.draw(st.booleans()):
                    # What is in the hub and not yet read is given again by the place.
                    feed.hub.close(reader)
                    position = read_position(last)
                    assert position is not None
                    assert await feed.hub.reach(position)
                    reader = feed.hub.open(wanted, position)
        got += versions(await heard(reader))
        assert got == [number for number, (_, audience) in enumerate(told) if wanted.wants(change(audience=audience))]

    asyncio.run(story())


def test_a_place_that_is_no_longer_here_is_refused() -> None:
    async def story() -> None:
        feed = Feeding(HubSettings(history_max=3, wait_s=0), begin=10)
        feed.give([change(number, version=number) for number in range(5)])
        assert feed.hub.open(Filter(), Position(TOPIC, (12, 10))) is not None
        for position in (Position(TOPIC, (11, 10)), Position("ffffffff", (15, 10)), Position(TOPIC, (15,))):
            assert await feed.hub.reach(position)
            with pytest.raises(Gone):
                feed.hub.open(Filter(), position)
        assert not await feed.hub.reach(Position(TOPIC, (16, 10)))

    asyncio.run(story())


def test_a_slow_reader_is_sent_away_with_the_reason_and_can_come_again() -> None:
    async def story() -> None:
        feed = Feeding(HubSettings(bytes_max=2_000))
        slow, quick = feed.hub.open(Filter(), None), feed.hub.open(Filter(), None)
        (_,) = await heard(slow)
        seen, last = [], ""
        for number in range(50):
            feed.give([change(number, version=number)])
            seen += versions(await heard(quick))
            if number == 0:
                last = (await heard(slow))[-1]["id"]
        assert seen == list(range(50))
        (told,) = await heard(slow)
        assert (told["event"], msgspec.json.decode(told["data"])["reason"]) == ("dropped", "slow")
        feed.hub.close(slow)
        assert feed.hub.dropped == {"slow": 1}
        again = read_position(last)
        assert versions(await heard(feed.hub.open(Filter(), again))) == list(range(1, 50))

    asyncio.run(story())


def test_a_heartbeat_moves_the_place_of_those_whom_nothing_concerns() -> None:
    async def story() -> None:
        feed = Feeding()
        held = [True]
        reader = feed.hub.open(Filter(profile="user_id:nobody"), None, lambda: held[0])
        assert await heard(reader) == [{"id": f"{TOPIC}.0.0"}]
        feed.give([change()], 1)
        assert await heard(reader) == []
        feed.hub.beat()
        assert await heard(reader) == [{"id": f"{TOPIC}.0.1"}]
        held[0] = False
        feed.hub.beat()
        (told,) = await heard(reader)
        assert msgspec.json.decode(told["data"])["reason"] == "key"

    asyncio.run(story())


def test_the_last_hour_is_counted_by_audience_and_kind() -> None:
    feed = Feeding()
    feed.give([change(1), change(2), change(1, kind="exited"), change(3, "b")])
    since, counted = feed.hub.last_hour()
    assert since == NOW_MS - 1000
    assert counted == {("a", "entered"): 2, ("a", "exited"): 1, ("b", "entered"): 1}


def test_repeats_are_dropped_by_key_in_the_past_and_by_profile_after_it() -> None:
    repeats = Repeats(remembered_max=2)
    past = [change(1, "a", version=1), change(1, "b", version=2), change(1, "a", version=1), change(1, "c", version=1)]
    assert [repeats.is_news(one) for one in past] == [True, True, False, True]
    repeats.loaded()
    now = [change(1, "c", version=2), change(1, "c", version=3), change(2, version=1), change(3, version=1)]
    assert [repeats.is_news(one) for one in now] == [False, True, True, True]
    # Of two generations of two, the profile of the first is still remembered.
    assert not repeats.is_news(change(1, version=3))
    assert repeats.dropped == 3


@given(st.text() | st.from_regex(r"[0-9a-f]{8}(\.[0-9]{1,4}){1,3}", fullmatch=True))
def test_any_text_is_a_place_or_none(text: str) -> None:
    found = read_position(text)
    assert found is None or read_position(found.text()) == found
