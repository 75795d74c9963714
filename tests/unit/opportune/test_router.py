from __future__ import annotations

from typing import Any

import pytest

from opportune.compiled import Compiled
from opportune.identity import profile_id, shard_of
from opportune.router import Router
from opportune.settings import Clock, Settings
from tests.oracle.builders import DAY_0, encode, happened, message, project, track

COMPILED = Compiled(project({"a": happened("A")}, Settings(clock=Clock(lateness_ms=100), event_bytes_max=500)))


class Routed:
    """What came of records: events by shard, refusals by record, and the router."""

    def __init__(self, *records: tuple[bytes | None, int], shards: int = 1, router: Router | None = None) -> None:
        self.router = router or Router(COMPILED, shards)
        self.events: list[list[Any]] = [[] for _ in range(shards)]
        values = [value for value, _ in records]
        arrivals = [DAY_0 + arrival for _, arrival in records]
        deliver = [shard.append for shard in self.events]
        refused = self.router.route(range(len(records)), values, arrivals, deliver)
        self.refused = [(record, refusal.reason) for record, refusal in refused]
        self.at = [event.at - DAY_0 for shard in self.events for event in shard]


def test_an_event_carries_what_its_actor_needs() -> None:
    routed = Routed((track("A", 5), 7), (track("B", 6), 8))
    used, other = routed.events[0]
    assert (used.at, used.arrival, used.origin, used.person.text) == (DAY_0 + 5, DAY_0 + 7, 0, "user_id:ann")
    assert used.handler is COMPILED.tracks["A"]
    assert (other.handler, other.origin) == (None, 1)


@pytest.mark.parametrize("shards", [1, 3, 12])
def test_the_strongest_identifier_decides_the_shard(shards: int) -> None:
    people = [f"u{number}" for number in range(40)]
    routed = Routed(*((track("A", 0, person, anonymousId="d"), 0) for person in people), shards=shards)
    for shard, events in enumerate(routed.events):
        assert [event.person.text.partition(":")[2] for event in events] == [
            person for person in people if shard_of(profile_id("user_id", person), shards) == shard
        ]


def test_each_refusal_has_its_reason_and_the_others_go_on() -> None:
    large = track("A", 0, properties={"x": "x" * 500})
    cases: list[tuple[bytes | None, str | None]] = [
        (track("A", 0), None),
        (None, "not_json"),
        (b"{", "not_json"),
        (b"[]", "bad_shape"),
        (large, "too_large"),
        (message("trakc", 0), "bad_type"),
        (encode({"userId": "ann", "timestamp": "2023-11-14"}), "bad_type"),
        (track("A", 0, None), "no_identifier"),
        (track("A", 0, "null"), "blocked_identifier"),
        (track("A", None, timestamp="soon"), "bad_time"),
        (track("A", None, timestamp="2023-11-14T22:13:20Z", sentAt="soon"), "bad_time"),
        (track("A", -101), "too_late"),
        (track("A", -100), None),
        (track("Z", 0), None),
    ]
    routed = Routed(*((raw, 0) for raw, _ in cases))
    assert sorted(routed.refused) == [(place, reason) for place, (_, reason) in enumerate(cases) if reason]
    assert len(routed.events[0]) == sum(reason is None for _, reason in cases)


def test_nobodys_clock_moves_anybodys_time() -> None:
    routed = Routed(
        (track("A", 9_999), 5),
        (track("A", 3, receivedAt=2), 5),
        (track("A", 3, receivedAt=9_999), 5),
        (track("A", 9_999, receivedAt=99_999), 5),
        (track("A", 4), 5),
        (track("A", None, originalTimestamp=1, sentAt=2, receivedAt=5), 5),
        (track("A"), 5),
        (track("A", None, receivedAt=3), 5),
    )
    assert routed.at == [5, 2, 3, 5, 4, 4, 5, 3]
    assert routed.router.clamped == 3


def test_lateness_is_judged_by_each_records_own_arrival() -> None:
    routed = Routed((track("A", 0), 500), (track("A", 0), 100), (track("A", 450), 500))
    assert routed.refused == [(0, "too_late")]
    assert routed.at == [0, 450]


def test_an_event_of_no_use_stops_here_when_its_person_is_known() -> None:
    first = Routed((track("Z", 0), 0), (track("A", 0), 0))
    assert len(first.events[0]) == 2
    first.events[0][0].person.known = True
    again = Routed((track("Z", 0), 0), (track("A", 0), 0), (track("Z", 0, "bob"), 0), router=first.router)
    assert [event.person.text.partition(":")[2] for event in again.events[0]] == ["ann", "bob"]
    assert again.router.untouched == 1
    assert again.refused == []


def test_a_person_by_number_and_by_text_is_one() -> None:
    routed = Routed((track("A", 0, 5), 0), (track("A", 0, "5"), 0), (track("A", 0, 5.0), 0), (track("A", 0, " 5 "), 0))
    assert {event.person.id for event in routed.events[0]} == {profile_id("user_id", "5")}


def test_an_anonymous_person_is_found_by_the_second_identifier() -> None:
    rows: list[dict[str, object]] = [{"userId": None}, {"userId": ""}, {"userId": "undefined"}, {}]
    raws = [encode({"type": "track", "event": "A", "anonymousId": "d1", **row}) for row in rows]
    routed = Routed(*((raw, 0) for raw in raws))
    assert {event.person.id for event in routed.events[0]} == {profile_id("anonymous_id", "d1")}


def test_nothing_comes_of_nothing() -> None:
    assert Routed().refused == []
