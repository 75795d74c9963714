from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.audiences.bounds import verdict
from opportune.audiences.predicate import function
from opportune.audiences.schema import Comparison, Predicate


@pytest.mark.parametrize(
    ("pairs", "count", "expected"),
    [
        ([("gte", 0)], True, "always"),
        ([("gt", -1)], True, "always"),
        ([("ne", -1)], True, "always"),
        ([("not_in", (-1, -2))], True, "always"),
        ([("gte", 1)], True, None),
        ([("ne", 0)], True, None),
        ([("lt", 0)], True, "never"),
        ([("eq", -1)], True, "never"),
        ([("gt", 3), ("lt", 4)], True, "never"),
        ([("gt", 3), ("lt", 4)], False, None),
        ([("gte", 0)], False, None),
        ([("gte", 5), ("lt", 5)], False, "never"),
        ([("gte", 5), ("lte", 5)], False, None),
        ([("gt", "b"), ("lt", "a")], False, "never"),
        ([("gt", 3), ("lt", "a")], False, "never"),
        ([("eq", 3), ("gt", 3)], False, "never"),
        ([("eq", 1), ("eq", True)], False, "never"),
        ([("in", (1, 2)), ("not_in", (1, 2, 3))], False, "never"),
        ([("in", ("ab", "c")), ("starts_with", "a")], False, None),
        ([("eq", "x"), ("ends_with", "y")], False, "never"),
        ([("exists", False), ("ne", 3)], False, "never"),
        ([("exists", False)], False, None),
        ([("exists", True), ("eq", 3)], False, None),
        ([("contains", "a"), ("contains", "b")], False, None),
    ],
)  # fmt: skip
def test_verdicts(pairs: list[tuple[str, object]], count: bool, expected: str | None) -> None:
    comparisons = [Comparison(op, operand) for op, operand in pairs]  # type: ignore[arg-type] # built from texts
    assert verdict(comparisons, count=count) == expected


SCALARS = st.sampled_from([0, 1, 2, -1, Decimal("1.5"), "a", "b", "ab", "", True, False])
COMPARISONS = st.one_of(
    st.builds(Comparison, st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte", "contains"]), SCALARS),
    st.builds(Comparison, st.sampled_from(["in", "not_in"]), st.lists(SCALARS, min_size=1, max_size=3).map(tuple)),
    st.builds(Comparison, st.sampled_from(["starts_with", "ends_with"]), st.sampled_from(["a", "b", "ab"])),
    st.builds(Comparison, st.just("exists"), st.booleans()),
)


@given(st.lists(COMPARISONS, min_size=1, max_size=4), SCALARS | st.none() | st.lists(SCALARS, max_size=3))
def test_never_is_never(comparisons: list[Comparison], value: object) -> None:
    if verdict(comparisons, count=False) == "never":
        assert not function(Predicate(tuple(comparisons)))(value)


@given(
    st.lists(
        st.builds(Comparison, st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte"]), st.integers(-2, 4)),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 6),
)
def test_verdicts_on_counts_are_true(comparisons: list[Comparison], value: int) -> None:
    said = verdict(comparisons, count=True)
    if said is not None:
        assert function(Predicate(tuple(comparisons)))(value) == (said == "always")


def test_long_lists_cost_their_length() -> None:
    # Compared with each other one by one this would take minutes.
    words = tuple(f"w{number}" for number in range(50_000))
    assert verdict([Comparison("in", words), Comparison("not_in", words[:-1])], count=False) is None
    assert verdict([Comparison("in", words), Comparison("not_in", words)], count=False) == "never"
