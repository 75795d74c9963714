"""Decoders: the fast one and the tolerant one give the same event, and any bytes give an event or a refusal."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from opportune.audiences.schema import Condition, EventCondition, EventModel, TraitCondition
from opportune.compiled import Compiled
from opportune.decode import FIELDS, EventType, decode_any, decode_traits, encode_traits
from opportune.errors import RejectedEvent
from tests.oracle.builders import encode, happened, predicate, project, where
from tests.oracle.messages import Refused, read_message

HOME = EventCondition(EventModel("Home", "page", "home"), (), predicate(gte=1), None)
PLANS: dict[str, dict[str, Condition]] = {
    "nothing": {"a": happened("A")},
    "all": {
        "a": happened(
            "A", where("p", predicate(eq=1)), where("o.x", predicate(eq=1)), where("traits.t", predicate(eq=1))
        ),
        "b": happened("A", where("context.c", predicate(eq=1)), where("context.traits.plan", predicate(eq=1))),
        "c": TraitCondition(("plan",), predicate(eq="a")),
        "d": TraitCondition(("o", "x"), predicate(eq="a")),
        "e": HOME,
    },
    "traits": {"c": TraitCondition(("plan",), predicate(eq="a"))},
}
TYPES = {name: Compiled(project(audiences)).event_type for name, audiences in PLANS.items()}
SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([Decimal("1.50"), Decimal("-0.0"), Decimal("1E+30"), Decimal("1E-12"), Decimal("0.12345678949")]),
    st.text(max_size=4),
)
OBJECT_KEYS = st.sampled_from(["p", "o", "x", "c", "traits", "plan", "t", "z"])
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(OBJECT_KEYS, inner, max_size=4)),
    max_leaves=8,
)
OBJECT = st.dictionaries(OBJECT_KEYS, VALUE, max_size=4)
USUAL: dict[str, st.SearchStrategy[Any]] = {
    "type": st.sampled_from(["track", "page", "identify"]),
    "event": st.one_of(st.none(), st.sampled_from(["A", "B"])),
    "name": st.one_of(st.none(), st.just("home")),
    "messageId": st.one_of(st.none(), st.text(max_size=3)),
    "userId": st.one_of(st.none(), st.text(max_size=3), st.integers(0, 5)),
    "anonymousId": st.one_of(st.none(), st.text(max_size=3), st.integers(0, 5)),
    "timestamp": st.one_of(st.none(), st.text(max_size=3)),
    "originalTimestamp": st.none(),
    "sentAt": st.none(),
    "receivedAt": st.none(),
    "properties": st.one_of(st.none(), OBJECT),
    "context": st.one_of(st.none(), OBJECT.map(lambda made: {key: made[key] for key in made if key != "traits"})),
    "traits": st.one_of(st.none(), OBJECT),
    "other": VALUE,
}
MESSAGE = st.fixed_dictionaries({"type": USUAL["type"]}, optional={key: USUAL[key] for key in USUAL if key != "type"})


def spelt(value: Any) -> Any:
    """A decoded event as builtins, in which 1, 1.0 and true are three."""
    if isinstance(value, msgspec.Struct):
        return {name: spelt(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {key: spelt(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [spelt(each) for each in value]
    return value if value is UNSET else repr(value)


def reason_of(raw: bytes) -> str | None:
    """Why the reference evaluator refuses a record, or None."""
    try:
        read_message(raw, 1 << 20)
    except Refused as reason:
        return str(reason)
    return None


@pytest.mark.parametrize("name", PLANS)
@given(message=MESSAGE)
def test_the_fast_decoder_and_the_tolerant_one_agree(name: str, message: dict[str, Any]) -> None:
    type_ = TYPES[name]
    raw = encode(message)
    assert spelt(type_.decode(raw)) == spelt(type_.tolerant(raw))


@pytest.mark.parametrize("name", PLANS)
@given(message=st.dictionaries(st.sampled_from([*USUAL, "x"]), VALUE, max_size=8))
def test_a_message_of_any_shape_is_an_event_or_refused_as_the_reference_does(
    name: str, message: dict[str, Any]
) -> None:
    type_ = TYPES[name]
    refused: list[tuple[int, RejectedEvent]] = []
    raw = encode(message)
    (event,) = type_.decode_all([raw], refused, 1 << 20)
    assert (event is None) == bool(refused)
    expected = reason_of(raw)
    if expected is None:
        assert event is not None, refused[0][1]
    elif event is None:
        # Of several reasons any may be told. What a decoder lets through is looked at later (opportune.router).
        assert refused[0][1].reason in (expected, "bad_time", "bad_shape")


@given(st.lists(st.one_of(st.binary(max_size=30), st.none(), MESSAGE.map(encode)), max_size=12), st.integers(20, 200))
def test_any_bytes_give_an_event_or_a_refusal_each_in_its_place(values: list[bytes | None], bytes_max: int) -> None:
    type_ = TYPES["all"]
    refused: list[tuple[int, RejectedEvent]] = []
    events = type_.decode_all(values, refused, bytes_max)
    assert len(events) == len(values)
    places = [place for place, _ in refused]
    assert sorted(places) == [place for place, event in enumerate(events) if event is None]
    for place, refusal in refused:
        assert (refusal.reason == "too_large") == (len(values[place] or b"") > bytes_max)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "not_json"),
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"{} {}", "not_json"),
        (b"\xef\xbb\xbf{}", "not_json"),
        (b'{"type":"track","userId":"\xff"}', "not_json"),
        (b'{"type":"track","userId":"\\ud800"}', "not_json"),
        (b'{"type":"track","userId":NaN}', "not_json"),
        (b"null", "bad_shape"),
        (b"[]", "bad_shape"),
        (b"17", "bad_shape"),
        (b'{"type":5}', "bad_type"),
        (b'{"type":"track","userId":true}', "bad_shape"),
        (b'{"type":"track","userId":{}}', "bad_shape"),
        (b'{"type":"track","anonymousId":["a"]}', "bad_shape"),
        (b'{"type":"track","messageId":false}', "bad_shape"),
        (b'{"type":"track","timestamp":1700000000000}', "bad_time"),
        (b'{"type":"track","sentAt":{}}', "bad_time"),
        (b'{"type":"track","properties":{"p":' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "bad_shape"),
        (b'{"type":"track","properties":{"p":' + b"1" * 5_000 + b"}}", "bad_shape"),
        (b'{"type":"track","properties":{"p":1e99999999999999999999}}', "bad_shape"),
        (b'{"type":"track","messageId":1e999999999}', "bad_shape"),
        (b'{"type":"track","userId":' + b"1" * 5_000 + b"}", "bad_shape"),
    ],
)
def test_reasons(raw: bytes | None, reason: str) -> None:
    began = time.monotonic()
    refused: list[tuple[int, RejectedEvent]] = []
    assert TYPES["all"].decode_all([raw], refused, 1 << 20) == [None]
    assert [(place, refusal.reason) for place, refusal in refused] == [(0, reason)]
    assert time.monotonic() - began < 5


def read(type_: EventType, raw: bytes) -> Any:
    refused: list[tuple[int, RejectedEvent]] = []
    (event,) = type_.decode_all([raw], refused, 1 << 20)
    assert not refused
    return event


def test_only_what_conditions_use_is_read() -> None:
    plain = TYPES["nothing"].type.__struct_fields__
    assert [field for field in plain if field not in {name for name, _, _ in FIELDS}] == [
        "traits",
        "context",
        "person",
        "at",
        "arrival",
        "origin",
        "handler",
        "also",
    ]
    event = read(TYPES["all"], b'{"type":"track","properties":{"p":1,"q":[1,{"r":2}],"o":{"x":1,"y":2}}}')
    assert spelt(event.properties) == {"p0": {"x": "1", "y": "2"}, "p1": "1"}


def test_the_senders_cannot_set_what_is_ours() -> None:
    event = read(
        TYPES["all"], encode({"type": "track", "person": "x", "at": 5, "origin": 1, "handler": {}, "arrival": 2})
    )
    assert (event.person, event.at, event.origin, event.handler, event.arrival) == (None,) * 5


def test_numbers_are_exact_and_have_nine_places() -> None:
    event = read(
        TYPES["all"],
        b'{"type":"track","properties":{"p":0.1,"o":[1.0,1e2,12345678901234567890123,0.00000000051,-0.0]}}',
    )
    found = event.properties
    assert repr(found.p1) == "Decimal('0.1')"
    assert found.p0 == [1, 100, 12345678901234567890123, Decimal("1E-9"), 0]
    assert not any(isinstance(one, float) for one in found.p0)


def test_ids_that_are_numbers_are_texts_and_empty_ones_are_none() -> None:
    type_ = TYPES["all"]
    assert read(type_, b'{"type":"track","messageId":7}').messageId == "7"
    assert read(type_, b'{"type":"track","messageId":7.0}').messageId == "7"
    assert read(type_, b'{"type":"track","messageId":""}').messageId == ""
    assert read(type_, b'{"type":"track","event":5,"name":[]}').event is None


@given(VALUE)
def test_traits_are_stored_as_they_came(value: Any) -> None:
    read_value = decode_any(encode(value))
    assert spelt(decode_traits(encode_traits({"x": (5, read_value, 6)}))["x"]) == spelt((5, read_value, 6))
