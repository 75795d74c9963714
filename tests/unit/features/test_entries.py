"""Windows at their boundaries, and how many entries are kept."""

from __future__ import annotations

from typing import Any

import pytest

from opportune.audiences.schema import AggregateValue, EventModel, Path, Window
from opportune.features.aggregates import Aggregate
from opportune.features.sessions import Sessions
from opportune.profile import NEVER

MODEL = EventModel("A", "track", "A")


def aggregate(function: str, window: Window) -> Aggregate:
    path = None if function == "count" else Path("properties", ("x",))
    return Aggregate(AggregateValue(MODEL, (), function, path, instants=False, window=window), 1000, 100)


def test_a_window_is_half_open() -> None:
    kind = aggregate("sum", Window("duration", 10))
    cell: list[Any] = []
    kind.put(cell, 5, 100, 100, None)
    kind.put(cell, 7, 104, 104, None)
    assert kind.look(cell, 109, None) == (12, 110)
    assert kind.look(cell, 110, None) == (7, 114)
    assert kind.look(cell, 114, None) == (0, NEVER)


def test_a_session_ends_a_gap_after_its_newest_event() -> None:
    kind, sessions = aggregate("count", Window("session")), Sessions(100, 1000)
    around: list[list[int]] = []
    cell: list[Any] = []
    for t in (1000, 1099, 1200):
        sessions.put(around, t, t)
        kind.put(cell, None, t, t, around)
    assert around == [[1000, 1099], [1200, 1200]]
    assert kind.look(cell, 1299, around) == (1, 1300)
    assert kind.look(cell, 1300, around) == (0, NEVER)
    sessions.put(around, 1150, 1201)
    assert around == [[1000, 1200]]
    assert kind.look(cell, 1299, around) == (3, 1300)


@pytest.mark.parametrize("value", [2**63, -(2**64), 10**40])
def test_numbers_beyond_64_bits_are_exact(value: int) -> None:
    for window in (Window(), Window("duration", 10)):
        kind = aggregate("sum", window)
        cell: list[Any] = []
        for each in (value, 1, value):
            kind.put(cell, each, 5, 5, None)
        assert kind.look(cell, 5, None)[0] == 2 * value + 1
