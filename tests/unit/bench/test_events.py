import json

import numpy as np
import pytest

from bench.events import BLOCK, PRICING, Traffic, evenly, number_of, partition, person_name

START = 1_764_000_000_000
SMALL = Traffic(people=5_000)


def test_messages_are_about_340_bytes() -> None:
    events = Traffic().build(0, evenly(START, 20_000, 1_000))
    assert 335 <= np.mean([len(value) for value in events.values]) <= 345


def test_a_message_is_a_track_call_of_its_person_at_its_time() -> None:
    events = SMALL.build(7, evenly(START + 5, 3, 1_000))
    message = json.loads(events.values[2])
    assert message["type"] == "track"
    assert message["userId"] == person_name(int(events.people[2])) == events.keys[2].decode()
    assert message["event"] == SMALL.names[events.names[2]]
    assert message["properties"]["price"] == events.prices[2]
    assert message["timestamp"] == "2025-11-24T16:00:00.007Z"
    assert number_of(message["messageId"]) == 9


def test_an_event_is_the_same_in_whatever_run_it_is_asked_for() -> None:
    times = evenly(START, BLOCK + 200, 1_000)
    whole = SMALL.build(0, times)
    first = BLOCK - 50
    part = SMALL.build(first, times[first : first + 100])
    assert part.values == whole.values[first : first + 100]
    assert Traffic(people=5_000).build(first, times[first : first + 100]).values == part.values


def test_message_ids_are_all_different() -> None:
    events = SMALL.build(0, evenly(START, 10_000, 1_000))
    assert len({json.loads(value)["messageId"] for value in events.values}) == 10_000


def test_a_fifth_are_pricing_views_and_few_people_do_most() -> None:
    events = Traffic().build(0, evenly(START, 100_000, 1_000))
    pricing = np.mean(events.names == Traffic().names.index(PRICING))
    assert pricing == pytest.approx(0.2, abs=0.01)
    busiest = np.sort(np.unique(events.people, return_counts=True)[1])[::-1]
    assert busiest[0] > 10_000
    assert len(busiest) > 15_000


def test_people_can_be_given_and_begin_at_a_number() -> None:
    traffic = Traffic(people=3, first_person=90)
    events = traffic.build(0, evenly(START, 3, 1_000), people=np.array([2, 0, 1]))
    assert events.keys == [b"u-0000092", b"u-0000090", b"u-0000091"]


def test_slots_spread_over_all_partitions() -> None:
    assert {partition(person_name(i).encode(), 12) for i in range(500)} == set(range(12))


def test_everybody_is_introduced_before_they_act_as_their_activity_says() -> None:
    traffic = Traffic(people=5_000, introduced=True)
    times = evenly(START, 12_000, 1_000)
    events = traffic.build(0, times)
    assert sorted(events.people[: traffic.introduction].tolist()) == list(range(5_000))
    assert np.bincount(events.people[5_000:]).max() > 500
    assert traffic.build(4_990, times[4_990:5_010]).values == events.values[4_990:5_010]
