from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from flows.changes import ChangeWriter, cause_of, identifiers_of, net
from opportune.compiled import Compiled
from opportune.identity import profile_id, slot_of
from opportune.membership import MembershipChange
from opportune.profile import Change, Profile
from tests.oracle.builders import DAY_0, happened, project

SCHEMA = Path(__file__).resolve().parents[3] / "opportune" / "schemas" / "membership_change.json"
PEOPLE = [Profile(id=profile_id("user_id", name), identifiers=[f"user_id:{name}"]) for name in ("ann", "bob", "cid")]


@given(st.lists(st.tuples(st.sampled_from(PEOPLE), st.integers(0, 2), st.integers(1, 3)), max_size=20))
def test_nothing_flaps_within_an_instant_of_a_person(steps: list[tuple[Profile, int, int]]) -> None:
    # Each person's instants come in order; people in any.
    steps.sort(key=lambda step: step[2])
    inside: set[tuple[bytes, int]] = set()
    changes: list[Change] = []
    for profile, audience, at in steps:
        entered = (profile.id, audience) not in inside
        inside ^= {(profile.id, audience)}
        changes.append((profile, audience, entered, at, None))
    kept = net(changes)
    assert [(one[3], one[0].id, one[1]) for one in kept] == sorted((one[3], one[0].id, one[1]) for one in kept)
    counted = Counter((one[0].id, one[1], one[3]) for one in changes)
    assert {(one[0].id, one[1], one[3]) for one in kept} == {key for key, count in counted.items() if count % 2}
    again: set[tuple[bytes, int]] = set()
    for profile, audience, entered, _, _ in kept:
        assert entered is ((profile.id, audience) not in again), "entered and exited alternate"
        again ^= {(profile.id, audience)}
    assert again == inside


def writer(name: str = "a", partitions: int = 12) -> ChangeWriter:
    return ChangeWriter(
        Compiled(project({name: happened("A"), "b": happened("B")})), "memberships", partitions, lambda: DAY_0 + 7
    )


@given(st.text(max_size=5), st.one_of(st.none(), st.just(""), st.text(max_size=5)), st.booleans())
def test_the_record_is_the_json_of_a_membership_change(value: str, message_id: str | None, entered: bool) -> None:
    made = writer('odd "name"')
    number = made.keys.index(b'/odd "name"')
    profile = Profile(id=profile_id("user_id", value), identifiers=[f"user_id:{value}", "anonymous_id:x:y"], version=5)
    by: Any = SimpleNamespace(messageId=message_id)
    sent = made.message((profile, number, entered, DAY_0 + 3, by), made.emitted_at())
    hexadecimal = profile.id.hex()
    version = (DAY_0 + 3) * 1024
    expected = MembershipChange(
        id=f"{hexadecimal}/{version}",
        audience='odd "name"',
        change="entered" if entered else "exited",
        profile_id=hexadecimal,
        identifiers={"user_id": [value], "anonymous_id": ["x:y"]},
        at="2023-11-14T22:13:20.003Z",
        emitted_at="2023-11-14T22:13:20.007Z",
        cause="event",
        version=version,
        definition_version=Compiled(project({'odd "name"': happened("A"), "b": happened("B")})).plan.definitions[
            number
        ],
        event_id=message_id or None,
    )
    assert sent.value is not None
    assert msgspec.json.decode(sent.value, type=MembershipChange) == expected
    assert sent.value == msgspec.json.encode(expected)
    assert (sent.topic, sent.key) == ("memberships", f'{hexadecimal}/odd "name"'.encode())
    assert profile.version == version


def test_the_record_satisfies_the_schema_that_is_shipped() -> None:
    validator = Draft202012Validator(msgspec.json.decode(SCHEMA.read_bytes()))
    made = writer()
    for by in (None, "attribute", SimpleNamespace(messageId="m"), SimpleNamespace(messageId=None)):
        sent = made.message((PEOPLE[0], 0, True, DAY_0, by), made.emitted_at())
        validator.validate(msgspec.json.decode(sent.value or b""))


def test_versions_follow_time_and_rise_within_an_instant() -> None:
    made, profile = writer(), Profile(id=b"p" * 16)
    versions = []
    for at in (DAY_0, DAY_0, DAY_0 + 1, DAY_0 - 50):
        made.message((profile, 0, True, at, None), b"")
        versions.append(profile.version - DAY_0 * 1024)
    assert versions == [0, 1, 1_024, 1_025]


def test_a_persons_changes_are_in_the_partition_of_their_slot() -> None:
    made = writer(partitions=7)
    for number in range(50):
        profile = Profile(id=profile_id("user_id", f"u{number}"))
        partitions = {made.message((profile, audience, True, DAY_0, None), b"").partition for audience in (0, 1)}
        assert partitions == {slot_of(profile.id) * 7 // 65_536}


def test_causes() -> None:
    assert cause_of(None) == (b"time", b"")
    assert cause_of("attribute") == (b"attribute", b"")
    assert cause_of(SimpleNamespace(messageId="m\n")) == (b"event", b',"event_id":"m\\n"')


def test_identifiers_by_namespace() -> None:
    assert identifiers_of(["user_id:a:b", "anonymous_id:", "user_id:c"]) == {
        "user_id": ["a:b", "c"],
        "anonymous_id": [""],
    }
