from __future__ import annotations

import datetime
from collections import Counter
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.demo.catalogue import END, INTENTS, WALK
from flows.demo.messages import GARBAGE
from flows.demo.simulator import DAY_MS, Record, Simulator
from opportune.errors import RejectedEvent
from opportune.event import CALL_TYPES, REASONS, Instants, effective_ms
from opportune.people import People

START_MS = 1_790_000_000_000
MINUTE_MS = 60_000
INSTANTS = Instants()


@pytest.fixture(scope="module")
def minute() -> list[Record]:
    return Simulator(seed=7, start_ms=START_MS, rate=300).advance(START_MS + MINUTE_MS)


def messages(records: list[Record], *kinds: str) -> list[tuple[Record, dict[str, Any]]]:
    return [(record, msgspec.json.decode(record.value)) for record in records if record.kind in kinds]


def named(message: dict[str, Any]) -> Any:
    """A message with its identifiers as fields."""
    return SimpleNamespace(**{name: message.get(name) for name in ("type", "userId", "anonymousId", "previousId")})


def effective(record: Record, message: dict[str, Any]) -> int:
    timestamp, original, sent, received = (
        message.get(name) for name in ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
    )
    at_ms, _ = effective_ms(INSTANTS, timestamp, original, sent, received, record.due_ms)
    assert at_ms is not None
    return at_ms


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 3_000), max_size=6))
def test_the_same_seed_gives_the_same_messages_however_the_calls_cut_them(seed: int, cuts: list[int]) -> None:
    whole = Simulator(seed, START_MS, rate=80).advance(START_MS + 3_000)
    piecewise = Simulator(seed, START_MS, rate=80)
    pieces = [piecewise.advance(START_MS + cut) for cut in [*sorted(cuts), 3_000]]
    assert [record for piece in pieces for record in piece] == whole


def test_another_seed_gives_other_messages(minute: list[Record]) -> None:
    assert Simulator(seed=8, start_ms=START_MS, rate=300).advance(START_MS + MINUTE_MS)[:20] != minute[:20]


@pytest.mark.parametrize("rate", [20, 300, 1_000])
def test_the_rate_is_the_one_that_was_asked_for(rate: int) -> None:
    seconds = 20
    records = Simulator(1, START_MS, rate).advance(START_MS + seconds * 1_000)
    assert len(records) / seconds == pytest.approx(rate, rel=0.15)


def test_records_are_in_order_and_never_early(minute: list[Record]) -> None:
    due = [record.due_ms for record in minute]
    assert due == sorted(due)
    assert all(START_MS <= ms <= START_MS + MINUTE_MS for ms in due)


def test_what_is_meant_to_be_taken_is_an_event_of_somebody_and_not_of_the_future(minute: list[Record]) -> None:
    people = People(shards=12)
    for record, message in messages(minute, "event", "late"):
        assert message["type"] in CALL_TYPES
        person, _ = people.find(named(message))
        assert f"{person.text.partition(':')[0]}:{record.key.decode()}" == person.text
        assert 0 <= record.due_ms - min(effective(record, message), record.due_ms) < MINUTE_MS


def test_late_events_are_seconds_late_and_too_late_ones_days(minute: list[Record]) -> None:
    late = [record.due_ms - effective(record, message) for record, message in messages(minute, "late")]
    assert late
    assert sum(each > 2_000 for each in late) > len(late) * 0.9
    hour = Simulator(seed=3, start_ms=START_MS, rate=300).advance(START_MS + 4 * MINUTE_MS)
    too_late = [record.due_ms - effective(record, message) for record, message in messages(hour, "too_late")]
    assert too_late
    assert min(too_late) > DAY_MS


def test_duplicates_are_repeats_of_the_same_bytes(minute: list[Record]) -> None:
    first: dict[bytes, int] = {}
    for record in minute:
        if record.kind == "duplicate":
            assert first[record.value] < record.due_ms
        else:
            first.setdefault(record.value, record.due_ms)
    assert Counter(record.kind for record in minute)["duplicate"] > 50


def test_message_ids_are_unique_but_for_duplicates(minute: list[Record]) -> None:
    ids = [message["messageId"] for _, message in messages(minute, "event", "late")]
    assert len(set(ids)) == len(ids)


def test_some_clocks_are_wrong_and_some_are_wrong_by_decades(minute: list[Record]) -> None:
    skews = []
    for record, message in messages(minute, "event"):
        if "originalTimestamp" in message:
            own = datetime.datetime.fromisoformat(message["originalTimestamp"])
            skews.append(round(own.timestamp() * 1000) - record.due_ms)
    assert any(skew > 10_000 for skew in skews)
    assert any(skew < -60_000 for skew in skews)
    assert any(skew > 60 * 365 * DAY_MS for skew in skews)


def test_garbage_of_every_kind_is_refused_for_its_reason(minute: list[Record]) -> None:
    kinds = Counter(record.kind for record in minute)
    assert set(GARBAGE) <= set(kinds)
    assert set(GARBAGE) <= set(REASONS)
    for record in minute:
        if record.kind in GARBAGE:
            assert _refusal(record) == record.kind


def _refusal(record: Record) -> str:
    try:
        message = msgspec.json.decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "not_json"
    if not isinstance(message, dict):
        return "bad_shape"
    if message["type"] not in CALL_TYPES:
        return "bad_type"
    try:
        People(shards=12).find(named(message))
        effective(record, message)
    except RejectedEvent as error:
        return error.reason
    return "taken"


def test_visitors_sign_in_with_both_identifiers_and_go_on_with_both(minute: list[Record]) -> None:
    anonymous: set[str] = set()
    known: dict[str, str] = {}
    for _, message in messages(minute, "event"):
        device, account = message["anonymousId"], message["userId"]
        if account is None:
            anonymous.add(device)
        else:
            assert known.setdefault(device, account) == account
    assert len(anonymous & set(known)) > 50
    traits = [m["traits"] for _, m in messages(minute, "event") if m["type"] == "identify"]
    assert traits
    assert all({"email", "name", "locale", "newsletter"} <= set(each) for each in traits)


def test_carts_add_up(minute: list[Record]) -> None:
    orders = [m["properties"] for _, m in messages(minute, "event") if m.get("event") == "Order Completed"]
    assert orders
    for order in orders:
        assert order["products"]
        assert round(order["total"] * 100) == sum(round(line["price"] * 100) for line in order["products"])


def test_somebody_views_prices_three_times_within_seconds(minute: list[Record]) -> None:
    views: Counter[str] = Counter()
    for record, message in messages(minute, "event"):
        if record.due_ms < START_MS + 6_000 and message.get("event") == "Pricing Viewed":
            views[message["userId"] or message["anonymousId"]] += 1
    assert sum(count >= 3 for count in views.values()) >= 3


def test_every_step_of_a_walk_leads_to_one_that_exists() -> None:
    names = {name for steps in WALK.values() for name, _ in steps}
    assert names - {END} == set(WALK)
    assert all(set(weights) <= set(WALK) for _, weights in INTENTS)
    for _, weights in INTENTS:
        for steps in WALK.values():
            assert sum(weight * weights.get(name, 1.0) for name, weight in steps) > 0
