"""What a feature keeps of a person has a limit, also where two people become one, and what goes is counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.audiences.schema import (
    AbsentCondition,
    AggregateValue,
    EventModel,
    Path,
    SequenceCondition,
    Span,
    Step,
    Window,
)
from opportune.features import limits
from opportune.features.absences import Absence
from opportune.features.aggregates import Aggregate
from opportune.features.limits import Limits
from opportune.features.sequences import Sequence

MODEL = EventModel("A", "track", "A")
CART = Step(MODEL, (), by=Path("properties", ("cart",)))
LONG = Window("duration", 1_000_000)
PLACE = Span("a.yml", 1, 1)
MOST = 100
SMALL = Limits(entries=MOST)


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    """A count that begins at 0."""
    before = limits.dropped[0]
    limits.dropped[0] = 0
    yield
    limits.dropped[0] = before


def test_a_sequence_keeps_the_newest_values_of_by() -> None:
    feature = Sequence(SequenceCondition((CART, CART), LONG, None, 0, PLACE), 0, 0, SMALL)
    one: list[Any] = []
    for number in range(MOST + 50):
        feature.put(one, 3, (f"cart {number}",) * 2, number, number, None)
        assert len(one[0]) <= MOST
    gone = limits.dropped[0]
    assert 50 <= gone < 50 + MOST // 8 + 1
    assert list(one[0]) == [f"scart {number}" for number in range(gone, MOST + 50)]
    assert one[2] == gone - 1
    assert feature.approximate(one)
    feature.put(one, 3, (f"cart {MOST}",) * 2, 1_000, 1_000, None)
    assert feature.look(one, 1_000, None)[0]


def test_merged_sequences_and_absences_keep_the_newest_values_of_by() -> None:
    sequence = Sequence(SequenceCondition((CART, CART), LONG, None, 0, PLACE), 0, 0, SMALL)
    absence = Absence(AbsentCondition(CART, CART, 10, LONG, PLACE), 0, 0, SMALL)
    for feature in (sequence, absence):
        one: list[Any] = []
        other: list[Any] = []
        for number in range(MOST):
            feature.put(one, 3, (f"a{number}",) * 2, number, number, None)
            feature.put(other, 3, (f"b{number}",) * 2, number + 60, number + 60, None)
        limits.dropped[0] = 0
        both = feature.merge(one, other)
        assert len(both[0]) == MOST * 7 // 8
        assert limits.dropped[0] == 2 * MOST - len(both[0])
        assert feature.merge(other, one) == both
        assert feature.approximate(both)
        assert {f"sb{number}" for number in range(60, MOST)} <= set(both[0])


def test_values_of_by_that_the_window_has_left_merge_with_others() -> None:
    feature = Sequence(SequenceCondition((CART, CART), Window("duration", 10), None, 0, PLACE), 0, 0, SMALL)
    one: list[Any] = []
    other: list[Any] = []
    feature.put(one, 3, ("a", "a"), 0, 100, None)
    feature.put(other, 3, ("b", "b"), 95, 100, None)
    feature.put(other, 3, ("b", "b"), 96, 100, None)
    assert feature.look(feature.merge(one, other), 100, None) == (True, 105)


def test_a_sequence_keeps_a_bounded_number_of_entries_of_all_values_of_by() -> None:
    feature = Sequence(SequenceCondition((CART, CART), LONG, None, 0, PLACE), 0, 0, SMALL)
    cell: list[Any] = []
    for number in range(30 * MOST):
        feature.put(cell, 1, (f"cart {number % 30}", None), number, number, None)
        assert sum(len(rows[0]) for rows in cell[0].values()) <= cell[1] <= MOST
    assert limits.dropped[0] >= 29 * MOST
    cell = feature.merge(cell, cell)
    feature.put(cell, 1, ("cart 0", None), 10_000_000, 10_000_000, None)
    for number in range(64):
        feature.put(cell, 1, (f"new {number}", None), 10_000_000, 10_000_000, None)
    assert not feature.approximate(cell), "what was let go is out of the window by now"


def test_an_absence_is_exact_again_when_what_was_let_go_is_out_of_the_window() -> None:
    feature = Absence(AbsentCondition(CART, CART, 10, LONG, PLACE), 0, 0, SMALL)
    cell: list[Any] = []
    for number in range(MOST + 1):
        feature.put(cell, 3, (number, number), number, number, None)
    assert feature.approximate(cell)
    for number in range(64):
        feature.put(cell, 3, (f"new {number}", f"new {number}"), 10_000_000, 10_000_000, None)
    assert not feature.approximate(cell)


@pytest.mark.parametrize("kind", ["by", "distinct"])
def test_long_values_take_little(kind: str) -> None:
    cell: list[Any] = []
    if kind == "by":
        Absence(AbsentCondition(CART, CART, 10, LONG, PLACE), 0, 0).put(cell, 3, ("x" * 100_000,) * 2, 0, 0, None)
    else:
        value = AggregateValue(MODEL, (), "distinct", CART.by, instants=False, window=LONG)
        feature = Aggregate(value, 0, 0)
        for each in ("x" * 100_000, "x" * 100_000, "x" * 99_999, 10**300):
            feature.put(cell, each, 0, 0, None)
        assert feature.look(cell, 0, None)[0] == 3
    assert len(repr(cell)) < 300


@given(
    rows=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 7)), min_size=33, max_size=80),
    span=st.none() | st.integers(1, 200),
    gap=st.integers(0, 20),
)
def test_many_entries_are_searched_as_few_are(rows: list[tuple[int, int]], span: int | None, gap: int) -> None:
    feature = Sequence(SequenceCondition((CART, CART, CART), LONG, span, gap, PLACE), 0, 0)
    times, masks = map(list, zip(*sorted(rows), strict=True))
    one_by_one = [
        times[first] for first in range(len(times)) if masks[first] & 1 and feature._follows(times, masks, first)
    ]
    assert feature._latest([times, masks], 0) == max(one_by_one, default=None)
