"""Whom an event names."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from opportune.compiled import Compiled
from opportune.errors import RejectedEvent
from opportune.identifiers import IdentitySettings, Namespace
from opportune.identity import digest_of
from opportune.people import People, is_known
from tests.oracle.builders import encode, project


def event(user: object = None, anonymous: object = None, type_: str = "track", previous: object = None) -> Any:
    return SimpleNamespace(type=type_, userId=user, anonymousId=anonymous, previousId=previous)


def texts(people: People, message: dict[str, object]) -> list[str]:
    """The identifiers of a message, through the decoder."""
    assert people.event_type is not None
    first, others = people.find(people.event_type.decode(encode(message)))
    return [first.text, *(other.text for other in others)]


def people(settings: IdentitySettings | None = None) -> People:
    settings = settings or IdentitySettings()
    return People(4, settings, Compiled(msgspec.structs.replace(project({}), identity=settings)).event_type)


def test_identifiers_come_strongest_first_and_blocked_ones_do_not() -> None:
    cases: list[tuple[object, object, list[str]]] = [
        ("u1", "d1", ["user_id:u1", "anonymous_id:d1"]),
        (" u1\t", None, ["user_id:u1"]),
        (5, "d1", ["user_id:5", "anonymous_id:d1"]),
        (Decimal("5.0"), None, ["user_id:5"]),
        (Decimal("5.5"), None, ["user_id:5.5"]),
        ("", "d1", ["anonymous_id:d1"]),
        (None, "d1", ["anonymous_id:d1"]),
        ("null", "d1", ["anonymous_id:d1"]),
        (0, 7, ["anonymous_id:7"]),
    ]
    finding = People(4)
    for user, anonymous, expected in cases:
        person, others = finding.find(event(user, anonymous))
        assert [person.text, *(other.text for other in others)] == expected
        assert person.id == digest_of(expected[0])
        assert 0 <= person.shard < 4


@pytest.mark.parametrize(
    ("user", "anonymous", "reason"),
    [
        (None, None, "no_identifier"),
        ("", "  ", "no_identifier"),
        ("null", None, "blocked_identifier"),
        ("null", "", "blocked_identifier"),
        (None, "0000-0000", "blocked_identifier"),
    ],
)
def test_nobody_is_refused(user: str | None, anonymous: str | None, reason: str) -> None:
    with pytest.raises(RejectedEvent) as refusal:
        People(1).find(event(user, anonymous))
    assert refusal.value.reason == reason


def test_what_is_remembered_of_people_is_bounded_and_changes_nothing() -> None:
    finding = People(2, remembered_max=3)
    ids = [finding.find(event(f"u{number}"))[0].id for number in range(10)]
    assert len(finding.by_user) <= 3
    assert [finding.find(event(f"u{number}"))[0].id for number in range(10)] == ids


def test_who_was_seen_lately_keeps_what_is_known() -> None:
    finding = People(2, remembered_max=3)
    seen = [finding.find(event(f"u{number}"))[0] for number in range(5)]
    assert finding.find(event("u1"))[0] is seen[1]
    finding.find(event("u6"))
    assert finding.find(event("u1"))[0] is seen[1]
    assert finding.find(event("u0"))[0] is not seen[0]


@pytest.mark.parametrize("raw", ["d1", " d1 ", 7])
@pytest.mark.parametrize("later", [0, 3])
def test_an_identifier_that_changed_hands_is_nobodys_for_whoever_brings_it_next(raw: str | int, later: int) -> None:
    finding = People(2, remembered_max=3)
    person, (device,) = finding.find(event("ann", raw))
    device.owner = person
    for number in range(later):
        finding.find(event("ann", f"other{number}"))
    finding.disown(device.text)
    finding.disown("no such:thing")
    assert finding.find(event("ann", raw))[1][0].owner is None


def test_email_and_phone_come_with_identify_alone_and_are_normalised() -> None:
    traits = {"email": " Ann@Shop.example ", "phone": "+49 30 123456"}
    message: dict[str, object] = {"type": "identify", "userId": "ann", "anonymousId": "d1", "traits": traits}
    expected = ["user_id:ann", "email:ann@shop.example", "phone:+4930123456", "anonymous_id:d1"]
    assert texts(people(), message) == expected
    assert texts(people(), {**message, "traits": None, "context": {"traits": traits}}) == expected
    assert texts(people(), {**message, "type": "track", "event": "A"}) == ["user_id:ann", "anonymous_id:d1"]
    assert texts(people(), {**message, "type": "group"}) == ["user_id:ann", "anonymous_id:d1"]
    odd = {**message, "traits": {"email": {"x": 1}, "phone": "call me"}}
    assert texts(people(), odd) == ["user_id:ann", "anonymous_id:d1"]


def test_an_alias_brings_its_previous_id() -> None:
    alias: dict[str, object] = {"type": "alias", "userId": "ann", "previousId": "d1"}
    assert texts(people(), alias) == ["user_id:ann", "anonymous_id:d1"]
    assert texts(people(), {**alias, "previousId": "ann"}) == ["user_id:ann"]
    assert texts(people(), {**alias, "type": "track", "event": "A"}) == ["user_id:ann"]
    assert texts(people(IdentitySettings(alias_previous="user_id")), alias) == ["user_id:ann", "user_id:d1"]


def test_a_namespace_of_ones_own_is_read_from_any_event() -> None:
    card = Namespace("card", (("properties", "loyalty", "card"),), 2)
    settings = IdentitySettings((card, *IdentitySettings().namespaces))
    message: dict[str, object] = {
        "type": "track",
        "event": "A",
        "userId": "ann",
        "properties": {"loyalty": {"card": 7}},
    }
    finding = people(settings)
    assert texts(finding, message) == ["card:7", "user_id:ann"]
    assert finding.by_user == finding.by_anonymous == {}


def test_an_event_is_known_where_each_identifier_is_known_to_be_the_persons() -> None:
    person, others = People(1).find(event("ann", "d1"))
    assert not is_known(person, others)
    person.known = True
    assert not is_known(person, others)
    others[0].owner = person
    assert is_known(person, others)


@pytest.mark.parametrize(
    ("user", "device", "type_"),
    [("u", "d", "track"), (None, "d", "track"), ("u", None, "page"), (None, "d", "identify"), ("u", "d", "alias")],
)
def test_the_others_of_an_event_are_those_that_are_found(user: str | None, device: str | None, type_: str) -> None:
    finding = people()
    assert finding.event_type is not None
    message = {"type": type_, "event": "A", "userId": user, "anonymousId": device, "previousId": "p"}
    decoded = finding.event_type.decode(encode(message))
    for _ in range(2):
        assert finding.others(decoded) == finding.find(decoded)[1]
