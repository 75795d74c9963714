from __future__ import annotations

import msgspec
import pytest

from flows import subscriber
from flows.subscriber import Memberships, Subscriber
from opportune.errors import TransientError
from opportune.membership import MembershipChange

A, B = "a" * 32, "b" * 32


def change(profile: str, audience: str, what: str, version: int, **more: object) -> MembershipChange:
    return msgspec.convert(
        {
            "id": f"{profile}/{version}", "audience": audience, "change": what, "profile_id": profile, "identifiers": {},
            "at": "2026-01-01T00:00:00.000Z", "emitted_at": "2026-01-01T00:00:00.000Z", "cause": "event",
            "version": version, "definition_version": "d", **more,
        },
        MembershipChange,
    )  # fmt: skip


def follow(known: Memberships, *changes: MembershipChange) -> None:
    for each in changes:
        known.take(each, known.versions.get(each.profile_id, 0))


def test_what_is_not_above_the_last_version_is_dropped() -> None:
    known = Memberships()
    log = [change(A, "x", "entered", 1), change(A, "y", "entered", 2), change(A, "x", "exited", 3)]
    follow(known, *log, *log[1:], change(B, "x", "entered", 2))
    assert known.members == {"x": {B}, "y": {A}}
    assert (known.changes, known.repeats) == (4, 2)


def test_ids_that_merged_lead_to_the_person() -> None:
    known = Memberships()
    follow(
        known,
        change(A, "x", "entered", 1),
        change(B, "x", "entered", 4, cause="merged", merged_from=[A]),
        change(A, "x", "exited", 5, cause="merged", merged_into=B),
    )
    assert known.members == {"x": {B}}
    assert (known.current(A), known.current(B)) == (B, B)


def test_what_is_known_can_be_kept() -> None:
    known = Memberships(positions={0: 5})
    follow(known, change(A, "x", "entered", 1))
    assert msgspec.json.decode(msgspec.json.encode(known), type=Memberships) == known


def test_a_broker_that_goes_away_at_the_start_is_waited_for_by_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber, "ANSWER_S", 0.3)
    # Nobody listens on port 1.
    with pytest.raises(TransientError, match="cannot read topic memberships"):
        Subscriber({"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0}, "memberships")
