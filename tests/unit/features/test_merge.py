"""Two states of a feature merge into that of the merged log, whatever the events and however they are dealt out."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.audiences.schema import (
    AbsentCondition,
    AggregateValue,
    EventModel,
    NearCondition,
    Path,
    SequenceCondition,
    Step,
    Window,
)
from opportune.features.absences import Absence
from opportune.features.aggregates import FUNCTIONS, Aggregate
from opportune.features.positions import Position
from opportune.features.sequences import Sequence
from opportune.features.sessions import Sessions

NOW = 1_000_000
LATENESS = 86_400_000
MODEL = EventModel("A", "track", "A")
WINDOWS = (Window(), Window("duration", 500), Window("day", 0, "UTC"))
NUMBERS = st.integers(-3, 3) | st.sampled_from([Decimal("0.1"), Decimal("-2.5"), 10**30, -(10**30), 2**63])
VALUES = NUMBERS | st.sampled_from(["a", "b", "1", True, False, None])
Put = Callable[[list[Any], int, Any], None]


def check_merge(put: Put, merge: Callable[..., list[Any]], look: Callable[..., Any], events: list[Any]) -> None:
    """Each event is (instant, value, side); instants differ, so that the order of the merged log is known."""
    sides: tuple[list[Any], list[Any]] = ([], [])
    whole: list[Any] = []
    for t, value, side in events:
        put(sides[side], t, value)
        put(whole, t, value)
    stored = [msgspec.msgpack.decode(msgspec.msgpack.encode(cell)) for cell in sides]
    for one, other in (stored, stored[::-1]):
        merged = merge(one, other)
        for now in (NOW, NOW + 1, NOW + 250, NOW + 400, NOW + 10_000):
            assert look(merged, now) == look(whole, now)


def dealt(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    event = st.tuples(st.integers(NOW - 600, NOW), values, st.integers(0, 1))
    return st.lists(event, max_size=12, unique_by=lambda one: one[0])


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: window.kind)
@pytest.mark.parametrize("function", ["count", *FUNCTIONS])
@given(events=dealt(VALUES))
def test_aggregates(function: str, window: Window, events: list[Any]) -> None:
    path = None if function == "count" else Path("properties", ("x",))
    kind = Aggregate(AggregateValue(MODEL, (), function, path, instants=False, window=window), LATENESS, 100)
    zone = "UTC" if window.kind == "day" else None
    check_merge(
        lambda cell, t, value: kind.put(cell, value, t, NOW, zone),
        kind.merge,
        lambda cell, now: kind.look(cell, now, zone),
        events,
    )


@pytest.mark.parametrize("by", [None, Path("properties", ("x",))], ids=["once", "by"])
@pytest.mark.parametrize("window", WINDOWS[:2], ids=lambda window: window.kind)
@given(events=dealt(st.tuples(st.integers(1, 3), st.sampled_from(["a", 1, None]))))
def test_sequences(window: Window, by: Path | None, events: list[Any]) -> None:
    condition = SequenceCondition((Step(MODEL, (), by), Step(MODEL, (), by)), window, span_ms=300, gap_ms=50)
    kind = Sequence(condition, LATENESS, 100)
    check_merge(
        lambda cell, t, event: kind.put(cell, event[0], (event[1], event[1]), t, NOW, None),
        kind.merge,
        lambda cell, now: kind.look(cell, now, None),
        events,
    )


@pytest.mark.parametrize("by", [None, Path("properties", ("x",))], ids=["once", "by"])
@given(events=dealt(st.tuples(st.integers(1, 3), st.sampled_from(["a", 1, None]))))
def test_absences(by: Path | None, events: list[Any]) -> None:
    kind = Absence(AbsentCondition(Step(MODEL, (), by), Step(MODEL, (), by), 200, Window("duration", 500)), LATENESS, 1)
    check_merge(
        lambda cell, t, event: kind.put(cell, event[0], (event[1], event[1]), t, NOW, None),
        kind.merge,
        lambda cell, now: kind.look(cell, now, None),
        events,
    )


@given(events=dealt(st.sampled_from([0.0, 0.001, 0.0022, 0.0026, 1, None, "0", True])))
def test_positions(events: list[Any]) -> None:
    # A thousandth of a degree is 111 m: inside, between, and outside.
    kind = Position(NearCondition(MODEL, (), 0.0, 0.0, 200.0, 260.0, 300))

    def put(cell: list[Any], t: int, lon: Any) -> None:
        number = Decimal(str(lon)) if isinstance(lon, float) else lon
        kind.put(cell, (0, None, number, None, None), t)

    check_merge(put, kind.merge, lambda cell, now: kind.look(cell, now, None), events)


@given(events=dealt(st.none()))
def test_sessions(events: list[Any]) -> None:
    kind = Sessions(100, LATENESS)
    check_merge(lambda cell, t, _: kind.put(cell, t, NOW), kind.merge, lambda cell, _: cell, events)
