from __future__ import annotations

import msgspec
import pytest

from opportune.identity import profile_id, shard_of, slot_of
from opportune.membership import next_version
from opportune.profile import NEVER, Change, Profile, advance, fire

decode = msgspec.msgpack.Decoder(Profile).decode


class Alarm:
    """An evaluation that is due at given instants, one after the other."""

    def __init__(self, number: int, *instants: int) -> None:
        self.number = number
        self.instants = list(instants)
        self.calls: list[int] = []

    def __call__(self, profile: Profile, now: int, out: list[Change], by: object, /) -> int:
        self.calls.append(now)
        out.append((profile, self.number, True, now, by))
        return next((instant for instant in self.instants if instant > now), NEVER)


def person(**dues: int) -> Profile:
    profile = Profile(dues={int(name[1:]): due for name, due in dues.items()})
    profile.due = min(profile.dues.values(), default=NEVER)
    return profile


def test_everything_due_before_an_instant_is_fired_in_order() -> None:
    alarms = [Alarm(0, 5, 9, 20), Alarm(1, 7)]
    profile, out = person(h0=5, h1=7), list[Change]()
    advance(profile, 20, out, alarms)
    assert [(number, now) for _, number, _, now, _ in out] == [(0, 5), (1, 7), (0, 9)]
    assert (profile.dues, profile.due, profile.now) == ({0: 20}, 20, 9)
    advance(profile, 21, out, alarms)
    assert (profile.dues, profile.due, profile.now) == ({}, NEVER, 20)


def test_what_is_due_at_one_instant_is_fired_together() -> None:
    alarms = [Alarm(0, 5), Alarm(1, 5), Alarm(2, 6)]
    profile, out = person(h0=5, h1=5, h2=6), list[Change]()
    fire(profile, 5, out, alarms, "attribute")
    assert [(number, by) for _, number, _, _, by in out] == [(0, "attribute"), (1, "attribute")]
    assert profile.due == 6


def test_now_never_goes_back() -> None:
    profile = person(h0=5)
    profile.now = 9
    fire(profile, 5, [], [Alarm(0)], None)
    assert profile.now == 9


def test_a_head_is_stored_without_what_belongs_to_the_work() -> None:
    profile = person(h3=50)
    profile.version, profile.now, profile.timer, profile.members = 7, 40, 45, {2, 9}
    profile.identifiers = ["user_id:ann"]
    again = decode(msgspec.msgpack.encode(profile))
    assert again == profile
    assert (again.id, again.row, again.groups, again.dirty) == (None, None, None, None)


@pytest.mark.parametrize(
    ("namespace", "value", "incarnation", "digits"),
    [
        ("user_id", "ann", 0, "52c8ce2e5957a3f325e348ee3ae41f51"),
        ("anonymous_id", "d-1", 0, "2637cdfce6c638c8bcc126809ad7b08c"),
        ("user_id", "ann", 1, "52c8057573d8bde01fd4bfe5aad4ca4a"),
    ],
)
def test_an_id_is_for_ever(namespace: str, value: str, incarnation: int, digits: str) -> None:
    assert profile_id(namespace, value, incarnation).hex() == digits


def test_ids_of_incarnations_differ_and_keep_the_slot() -> None:
    ids = [profile_id("user_id", "ann", incarnation) for incarnation in range(5)]
    assert len(set(ids)) == 5
    assert len({slot_of(one) for one in ids}) == 1


def test_namespace_and_value_cannot_be_confused() -> None:
    assert profile_id("a", "bc") != profile_id("ab", "c")
    assert len({profile_id("user_id", "x"), profile_id("anonymous_id", "x")}) == 2
    assert len(profile_id("user_id", "\ud800")) == 16


@pytest.mark.parametrize("shards", [1, 3, 12, 1_024])
def test_shards_own_ranges_of_slots(shards: int) -> None:
    owners = [shard_of(slot.to_bytes(2, "big") + bytes(14), shards) for slot in range(0, 65_536, 7)]
    assert owners == sorted(owners)
    assert set(owners) == set(range(shards))


def test_versions() -> None:
    assert next_version(0, 5) == 5 * 1024
    assert next_version(5 * 1024, 5) == 5 * 1024 + 1
    assert next_version(9 * 1024, 5) == 9 * 1024 + 1
