"""With more events than are kept as they are, a value is within the stated error of the exact one; merged states too.

The stated error is the reference here: for some beginning of the window, less than a hop earlier, the value is what a plain
look at all events gives. Limits are squeezed to 8, so that a few dozen events meet everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from opportune.audiences.schema import AggregateValue, EventModel, Path, Window
from opportune.features import sketches
from opportune.features.aggregates import FUNCTIONS, Aggregate
from opportune.features.calendar import bounds
from opportune.features.hops import QUARTER_MS
from opportune.features.limits import FULL, ROWS_MAX, Limits, shared
from opportune.features.sessions import Sessions

MODEL = EventModel("A", "track", "A")
SMALL = Limits(entries=8, hops=8, quarters=3_200, sketches=8)
NOW = 1_700_000_000_000
WINDOW = 500
GAP = 40
LATENESS = 10_000
VALUES = st.integers(-3, 3) | st.sampled_from([Decimal("0.1"), 10**30, -(10**30)])
Seen = list[tuple[int, Any]]
FEWER = settings(max_examples={"dev": 60, "ci": 250}.get(settings.get_current_profile_name(), 5_000))
"""Each of these is run for every aggregate."""


def made(function: str, window: Window, limits: Limits = SMALL) -> Aggregate:
    path = None if function == "count" else Path("properties", ("x",))
    value = AggregateValue(MODEL, (), function, path, instants=False, window=window)
    return Aggregate(value, LATENESS, GAP, limits)


def plain(function: str, seen: Seen) -> Any:
    """The value of events in order of time, of one instant in order of arrival."""
    values = [value for _, value in sorted(seen, key=lambda one: one[0])]
    if function == "count":
        return len(values)
    if function == "sum":
        return exactly(values)
    if function == "distinct":
        return len(set(values))
    if not values:
        return UNSET
    if function == "avg":
        return exactly(values) / len(values)
    if function in ("first", "last"):
        return values[0 if function == "first" else -1]
    return min(values) if function == "min" else max(values)


def exactly(values: list[Any]) -> Fraction:
    """The sum, which is not rounded: all ``VALUES`` are whole tenths."""
    return Fraction(sum(int(value * 10) for value in values), 10)


def close(found: Any, value: Any) -> bool:
    """Whether two values are the same, an average to the forty places that the engine has."""
    if found is UNSET or value is UNSET:
        return found is value
    return abs(Fraction(found) - Fraction(value)) <= Fraction(1, 10**40)


def possible(kind: Aggregate, seen: Seen, now: int) -> list[Any]:
    """The exact values of all windows that begin less than a hop earlier."""
    return [plain(kind.function, [one for one in seen if one[0] > start]) for start in starts(kind, seen, now)]


def starts(kind: Aggregate, seen: Seen, now: int) -> list[int]:
    """Where a window may begin: less than a hop before it should."""
    ms = kind.hops.ms if kind.hops is not None else 1
    exact = now - WINDOW
    return sorted({exact, *(t for t, _ in seen if exact - ms < t < exact), exact - ms + 1})


def possible_together(kind: Aggregate, sides: tuple[Seen, Seen], now: int) -> Iterator[Any]:
    """The same of two states that were merged: each has its own hops, so its window may begin elsewhere."""
    for first in starts(kind, sides[0], now):
        for second in starts(kind, sides[1], now):
            late = [one for side, start in zip(sides, (first, second), strict=True) for one in side if one[0] > start]
            yield plain(kind.function, late)


@pytest.mark.parametrize("function", ["count", *FUNCTIONS])
@FEWER
@given(
    steps=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 300), VALUES, st.integers(0, 1)), max_size=60),
)
def test_durations(function: str, steps: list[tuple[int, int, Any, int]]) -> None:
    """Each step is (time that passes, how late the event is, its value, whose it is)."""
    kind = made(function, Window("duration", WINDOW))
    whole: list[Any] = []
    sides: tuple[list[Any], list[Any]] = ([], [])
    now = NOW
    seen: Seen = []
    whose: tuple[Seen, Seen] = ([], [])
    for passes, late, value, side in steps:
        now += passes
        # Instants differ, so that the order of the merged log is known.
        t = max(now - late, NOW)
        if any(t == at for at, _ in seen):
            continue
        seen.append((t, value))
        whose[side].append((t, value))
        kind.put(whole, value, t, now, None)
        kind.put(sides[side], value, t, now, None)
        found, until = kind.look(whole, now, None)
        assert any(close(found, each) for each in possible(kind, seen, now))
        if len(whole) <= kind.width:
            assert close(found, possible(kind, seen, now)[-1])
        assert len(whole[0]) <= SMALL.entries
        assert kind.look(whole, until - 1, None)[0] == found
    merged = kind.merge(*(msgspec.msgpack.decode(msgspec.msgpack.encode(side)) for side in sides))
    assert kind.look(kind.merge(*sides[::-1]), now, None) == kind.look(merged, now, None)
    for later in (now, now + 100, now + WINDOW):
        assert any(close(kind.look(merged, later, None)[0], each) for each in possible_together(kind, whose, later))


@pytest.mark.parametrize("function", ["count", *(each for each in FUNCTIONS if each != "distinct")])
@FEWER
@given(
    steps=st.lists(st.tuples(st.integers(0, 6 * 3_600_000), st.integers(0, 9_000), VALUES), max_size=40),
    zone=st.sampled_from(["UTC", "Asia/Kolkata", "America/Sao_Paulo", "Asia/Kathmandu"]),
)
def test_days_stay_exact(function: str, steps: list[tuple[int, int, Any]], zone: str) -> None:
    kind = made(function, Window("day", 0, zone))
    assert kind.hops is None or (kind.hops.exact and kind.hops.ms == QUARTER_MS)
    cell: list[Any] = []
    now, seen = NOW, []
    for passes, late, value in steps:
        now += passes
        seen.append((now - late, value))
        kind.put(cell, value, now - late, now, zone)
        start = bounds("day", now, zone)[0]
        assert close(kind.look(cell, now, zone)[0], plain(function, [one for one in seen if one[0] >= start]))
        assert len(cell[0]) <= SMALL.entries


@pytest.mark.parametrize("function", ["count", *FUNCTIONS])
@FEWER
@given(steps=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 200), VALUES), max_size=60))
def test_sessions_stay_exact(function: str, steps: list[tuple[int, int, Any]]) -> None:
    kind, sessions = made(function, Window("session")), Sessions(GAP, LATENESS)
    cell: list[Any] = []
    around: list[list[int]] = []
    now, seen = NOW, []
    for passes, late, value in steps:
        now += passes
        t = now - late
        seen.append((t, value))
        sessions.put(around, t, now)
        kind.put(cell, value, t, now, around)
        start, last = around[-1]
        inside = [one for one in seen if one[0] >= start] if now < last + GAP else []
        # A few values do not fill a sketch.
        assert close(kind.look(cell, now, around)[0], plain(function, inside))
        assert len(cell[0]) <= SMALL.entries


@pytest.mark.parametrize("window", [Window(), Window("duration", WINDOW)], ids=lambda window: window.kind)
@pytest.mark.parametrize("number", [1_000, 20_000, 40_000])
def test_many_different_values_are_estimated(window: Window, number: int) -> None:
    kind = made("distinct", window, Limits(entries=500))
    cell: list[Any] = []
    for each in range(number):
        kind.put(
            cell, f"value {each % (number // 2)}", NOW + each * WINDOW // number, NOW + each * WINDOW // number, None
        )
    found = kind.look(cell, NOW + WINDOW - 1, None)[0]
    assert found == pytest.approx(number // 2, rel=4 * sketches.ERROR)
    assert kind.approximate(cell) == (number > 1_000)
    assert len(msgspec.msgpack.encode(cell)) < 500 * 30 + 34 * 2_200


@given(st.lists(st.integers(0, 100_000), max_size=50), st.integers(0, 3), st.randoms(use_true_random=False))
def test_an_estimate_depends_on_the_values_alone(seeds: list[int], parts: int, random: Any) -> None:
    values = [f"s{seed} {each}" for seed in seeds for each in range(200)]
    expected = sketches.estimate([sketches.sketch_of(values)])
    random.shuffle(values)
    dealt = [sketches.sketch_of(values[part :: parts + 1]) for part in range(parts)]
    assert sketches.estimate(dealt, values[parts :: parts + 1]) == expected
    if parts > 1:
        assert sketches.estimate([sketches.joined(*dealt[:2]), *dealt[2:]], values[parts :: parts + 1]) == expected


@pytest.mark.parametrize("features", [1, 10, 30, 31, 100, 1_000, 20_000])
def test_features_share_what_a_profile_keeps(features: int) -> None:
    limits = shared(features)
    assert features * (limits.entries + max(limits.hops, limits.quarters)) <= max(ROWS_MAX, features * 18)
    assert limits.entries >= 1
    assert (limits == FULL) == (features <= 30)
