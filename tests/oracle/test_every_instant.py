"""The reference evaluator looks at every instant at which something can change: it finds what a look at each millisecond finds.

On projects with all conditions of the language, over some milliseconds around midnights and changes of clocks.
"""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.model.logs import Sent, sent_of
from tests.model.written import Said, written
from tests.oracle.evaluator import World
from tests.oracle.history import Log, Tables
from tests.oracle.instants import read_instant
from tests.oracle.messages import Refused, read_message
from tests.oracle.reading import read_project

BEFORE_MS = 30
AFTER_MS = 130
MOMENTS = (
    "2023-11-14T22:14:00Z",
    "2024-03-01T00:00:00Z",
    "2024-03-01T15:00:00Z",
    "2024-03-10T05:00:00Z",
    "2024-03-10T07:00:00Z",
    "2024-11-03T06:00:00Z",
    "2018-11-04T03:00:00Z",
)
"""Midnights (UTC, Tokyo, New York, Sao Paulo after a gap) and changes of clocks (New York)."""
ROWS: Tables = {"customers": {"u1": {"plan": "a", "n": 1, "since": None, "vip": True}}}


@st.composite
def sent(draw: st.DrawFn) -> tuple[int, list[bytes]]:
    """Where the clock starts, and messages of some milliseconds, some of them late."""
    start_ms = read_instant(draw(st.sampled_from(MOMENTS)))
    assert start_ms is not None
    at_ms = start_ms - BEFORE_MS
    raws = []
    for step_ms, late_ms, seed in draw(
        st.lists(
            st.tuples(st.sampled_from((0, 0, 1, 1, 2, 3, 5, 10)), st.sampled_from((0, 0, 0, 1, 4)), SEEDS),
            min_size=4,
            max_size=15,
        )
    ):
        message = sent_of(seed)
        if isinstance(message, Sent):
            at_ms += step_ms
            raws.append(Sent(message.body, "timestamp", 0, 0, 0).at(at_ms - late_ms))
    return start_ms, raws


SEEDS = st.integers(0, 2**16 - 1)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)
@given(written(), sent())
def test_no_instant_is_missed(files: dict[str, Said], log: tuple[int, list[bytes]]) -> None:
    start_ms, raws = log
    until_ms = start_ms + AFTER_MS
    kept = Log(read_project(files), ROWS, until_ms)
    for raw in raws:
        try:
            kept.apply(read_message(raw, 1 << 20), None, 0)
        except Refused:
            continue
    expected = sorted(change for person in kept.people for change in _each_millisecond(kept, person, until_ms))
    told = kept.finish(until_ms).changes
    event(f"changes by time: {min(5, sum(each.cause == 'time' for each in told))}")
    assert [(each.at, each.profile, each.audience, each.change) for each in told] == expected


def _each_millisecond(log: Log, profile: bytes, until_ms: int) -> Iterator[tuple[int, str, str, str]]:
    """The changes of a person, found by looking at every millisecond."""
    person = log.people[profile]  # type: ignore[index]  # ids are bytes
    world = World(log.definitions, {})
    world.enforce(person.rows)
    events = list(person.events)
    members: frozenset[str] = frozenset()
    rows_ms = until_ms if log.first_ms is None else log.first_ms
    first_ms = rows_ms if person.founded_ms is None else person.founded_ms
    for now_ms in range(first_ms, until_ms + 1):
        while events and events[0].now_ms <= now_ms:
            world.arrive(events.pop(0))
        after = world.members(now_ms)
        for audience in sorted(after ^ members):
            yield now_ms, profile.hex(), audience, "entered" if audience in after else "exited"
        members = after
