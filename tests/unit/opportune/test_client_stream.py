"""A followed stream: what is an event, where it goes on, and what is no news."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import msgspec
import pytest

from opportune.client_stream import Changes, Event, events_of
from opportune.membership import MembershipChange


def change(version: int, profile: str = "a") -> str:
    found = MembershipChange(
        id=f"{profile}/{version}", audience="x", change="entered", profile_id=profile, identifiers={},
        at="2026-01-01T00:00:00.000Z", emitted_at="2026-01-01T00:00:00.000Z", cause="event", version=version,
        definition_version="d",
    )  # fmt: skip
    return msgspec.json.encode(found).decode()


def lines(text: str) -> list[bytes]:
    return [line.encode() for line in text.splitlines(keepends=True)]


def test_events_are_told_from_comments_and_mere_ids() -> None:
    text = "retry: 1000\n\n: heartbeat\nid: 1\n\nid: 2\nevent: entered\ndata: a\ndata:b\r\n\n\ndata: c\n\nid: 3\n"
    found = [Event("1", "", ""), Event("2", "entered", "a\nb"), Event("2", "", ""), Event("2", "", "c")]
    assert list(events_of(lines(text))) == found


def test_it_comes_again_with_the_last_id_and_drops_what_it_has_seen() -> None:
    asked: list[str] = []
    pauses: list[None] = []

    def connect(place: str) -> Iterator[bytes]:
        asked.append(place)
        if len(asked) == 1:
            yield from lines(f"id: 1\nevent: entered\ndata: {change(1)}\n\nid: 2\n\n")
            raise ConnectionResetError
        if len(asked) == 2:
            yield from lines(f"id: 3\ndata: {change(1)}\n\nid: 4\ndata: {change(5, 'b')}\n\n")
            yield from lines('event: dropped\ndata: {"reason": "slow"}\n\n')
        else:
            yield from lines(f"id: 5\ndata: {change(2)}\n\n")

    changes = Changes(connect, "0", lambda: pauses.append(None))
    assert [one.version for one in islice(changes, 3)] == [1, 5, 2]
    assert (asked, len(pauses), changes.position) == (["0", "2", "4"], 2, "5")


def test_a_refusal_ends_it() -> None:
    def connect(_: str) -> list[bytes]:
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        next(iter(Changes(connect, "", lambda: None)))
