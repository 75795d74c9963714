"""The merge of what two profiles keep: that of one profile which had received the events of both."""

from __future__ import annotations

from bisect import insort

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.audiences.merge import merge_feature, merge_group, merge_traits
from opportune.audiences.plan import TRAITS, Feature, Plan
from tests.oracle.builders import happened, predicate, project

INSTANTS = st.lists(st.integers(0, 20), max_size=12)


def folded(feature: Feature, instants: list[int]) -> object:
    """What the generated code keeps of events at these instants, one after the other."""
    if not feature.windowed:
        return min(len(instants), feature.cap)
    kept: list[int] = []
    for at in instants:
        insort(kept, at)
        del kept[: max(len(kept) - feature.cap, 0)]
    return kept


@given(st.booleans(), st.integers(1, 5), INSTANTS, INSTANTS)
def test_states_merge_into_that_of_the_merged_log(windowed: bool, cap: int, one: list[int], other: list[int]) -> None:
    feature = Feature(0, (), windowed, cap)
    merged = merge_feature(feature, folded(feature, one), folded(feature, other))
    assert merged == folded(feature, [*one, *other])
    assert merged == merge_feature(feature, folded(feature, other), folded(feature, one))


TRAIT = st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", 1, None]), st.integers(0, 3))


@given(st.lists(st.tuples(st.sampled_from("xy"), TRAIT), max_size=8), st.integers(0, 8))
def test_traits_merge_by_event_time_then_arrival_whoever_wins(log: list[tuple[str, object]], cut: int) -> None:
    one, other = dict(log[:cut]), dict(log[cut:])
    merged = merge_traits(one, other)
    assert merged == merge_traits(other, one)
    for name, value in merged.items():
        theirs = [each[name] for each in (one, other) if name in each]
        assert value in theirs
        assert all((value[0], value[2]) >= (each[0], each[2]) for each in theirs)  # type: ignore[index]  # of TRAIT


def test_a_group_is_merged_feature_by_feature_and_nothing_is_changed() -> None:
    plan = Plan(
        project({"a": happened("A", times=predicate(gte=2), within_ms=9), "b": happened("A", times=predicate(gte=3))})
    )
    one, other = [[1, 5], 2], [[4], 2]
    assert merge_group(plan, 1, one, other) == [[4, 5], 3]
    assert (one, other) == ([[1, 5], 2], [[4], 2])
    assert merge_group(plan, TRAITS, {"x": (1, "a", 1)}, {"y": (1, "b", 1)}) == {"x": (1, "a", 1), "y": (1, "b", 1)}


@pytest.mark.parametrize("winner", [0, 1])
def test_of_one_event_time_the_later_arrival_holds(winner: int) -> None:
    both = [{"x": (5, "old", 6)}, {"x": (5, "new", 7)}]
    assert merge_traits(both[winner], both[1 - winner])["x"][1] == "new"
