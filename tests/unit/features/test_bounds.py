"""What a feature keeps of a person has a limit, also where two people become one, and what goes is counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
from opportune.features import absences, aggregates, entries
from opportune.features.absences import Absence
from opportune.features.aggregates import Aggregate
from opportune.features.sequences import Sequence

MODEL = EventModel("A", "track", "A")
CART = Step(MODEL, (), by=Path("properties", ("cart",)))
LONG = Window("duration", 1_000_000)
PLACE = Span("a.yml", 1, 1)
MOST = 100


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A small limit, and a count that begins at 0."""
    for module in (absences, aggregates, entries):
        monkeypatch.setattr(module, "ENTRIES_MAX", MOST)
    before = entries.dropped[0]
    entries.dropped[0] = 0
    yield
    entries.dropped[0] = before


@pytest.mark.parametrize("window", [LONG, Window("ever")], ids=["duration", "ever"])
def test_distinct(window: Window) -> None:
    feature = Aggregate(AggregateValue(MODEL, (), "distinct", CART.by, instants=False, window=window), 0, 0)
    one: list[object] = []
    other: list[object] = []
    for number in range(MOST):
        feature.put(one, number, number, number, None)
        feature.put(other, number + MOST // 2, number, number, None)
    assert entries.dropped[0] == 0
    assert feature.look(one, MOST, None)[0] == MOST
    both = feature.merge(one, other)
    assert len(both[0]) == MOST
    assert entries.dropped[0] > 0
    assert feature.merge(other, one) == both


def test_a_sequence_keeps_the_newest_values_of_by() -> None:
    feature = Sequence(SequenceCondition((CART, CART), LONG, None, 0, PLACE), 0, 0)
    one: list[object] = []
    for number in range(MOST + 50):
        feature.put(one, 3, (f"cart {number}",) * 2, number, number, None)
    assert entries.dropped[0] == 50
    assert list(one[0]) == [f"scart {number}" for number in range(50, MOST + 50)]  # type: ignore[call-overload]  # a state is a list of anything
    feature.put(one, 3, (f"cart {MOST}",) * 2, 1_000, 1_000, None)
    assert feature.look(one, 1_000, None)[0]


def test_merged_sequences_and_absences_keep_the_newest_values_of_by() -> None:
    sequence = Sequence(SequenceCondition((CART, CART), LONG, None, 0, PLACE), 0, 0)
    absence = Absence(AbsentCondition(CART, CART, 10, LONG, PLACE), 0, 0)
    for feature in (sequence, absence):
        one: list[object] = []
        other: list[object] = []
        for number in range(MOST):
            feature.put(one, 3, (f"a{number}",) * 2, number, number, None)
            feature.put(other, 3, (f"b{number}",) * 2, number + 60, number + 60, None)
        entries.dropped[0] = 0
        both = feature.merge(one, other)
        assert len(both[0]) == MOST
        assert entries.dropped[0] == MOST
        assert feature.merge(other, one) == both
        assert {f"sb{number}" for number in range(40, MOST)} <= set(both[0])


def test_values_of_by_that_the_window_has_left_merge_with_others() -> None:
    feature = Sequence(SequenceCondition((CART, CART), Window("duration", 10), None, 0, PLACE), 0, 0)
    one: list[object] = []
    other: list[object] = []
    feature.put(one, 3, ("a", "a"), 0, 100, None)
    feature.put(other, 3, ("b", "b"), 95, 100, None)
    feature.put(other, 3, ("b", "b"), 96, 100, None)
    assert feature.look(feature.merge(one, other), 100, None) == (True, 105)
