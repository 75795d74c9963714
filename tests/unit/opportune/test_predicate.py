"""Predicates: generated expressions, functions and the reference evaluator say the same of every value."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from opportune.audiences.predicate import NUMBERS, Elements, flat, function, inline, kind, seen, walk
from opportune.audiences.schema import Comparison, Predicate
from tests.model.projects import ANYTHING, INSTANTS
from tests.oracle.builders import DAY_0, predicate
from tests.oracle.predicates import holds, reach

NUMERIC = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([10**30, -(10**30), Decimal("1E+999999999"), Decimal("-0.0"), Decimal("1.50"), Decimal("0.1")]),
    st.decimals(-3, 3, allow_nan=False, places=1),
)
SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    NUMERIC,
    st.sampled_from(["", "a", "ab", "b", "1", "true", "é", "2023-11-14T22:13:20.001Z", "2023-11-14"]),
    st.text(max_size=3),
)
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2)
    ),
    max_leaves=6,
)
PREDICATE = st.one_of(ANYTHING, INSTANTS)


def exact(value: Any) -> Any:
    """A value as the reference evaluator reads it: every number a decimal."""
    if isinstance(value, list):
        return [exact(one) for one in value]
    if isinstance(value, dict):
        return {key: exact(one) for key, one in value.items()}
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


def expression(tested: Predicate) -> Any:
    """The generated expression as a function."""
    names: dict[str, Any] = {
        "p0": function(tested),
        "NUMBERS": NUMBERS,
        "Decimal": Decimal,
        "list_class": list,
        "str_class": str,
    }
    return eval(f"lambda d: {inline(tested, 'd', 'p0')}", names)


@given(PREDICATE, VALUE)
def test_the_three_agree_on_a_value_at_the_end_of_a_path(tested: Predicate, value: Any) -> None:
    expected = holds(tested, list(reach(exact(value), ())))
    assert function(tested)(value) is expected
    assert expression(tested)(value) is expected


@given(PREDICATE, VALUE, st.lists(st.sampled_from(["x", "y"]), min_size=1, max_size=3).map(tuple))
def test_the_three_agree_on_a_value_that_a_path_leads_to(tested: Predicate, value: Any, keys: tuple[str, ...]) -> None:
    expected = holds(tested, list(reach(exact(value), keys)))
    reached = walk(value, keys)
    assert function(tested)(reached) is expected
    assert expression(tested)(reached) is expected


@given(PREDICATE)
def test_nothing_is_nothing_however_it_is_said(tested: Predicate) -> None:
    missing = all(one.op == "exists" and one.operand is False for one in tested.comparisons)
    nothing: list[Any] = [None, UNSET, [], [None, []], Elements()]
    for value in nothing:
        assert function(tested)(value) is missing
        assert expression(tested)(value) is missing


SAME_IN_PYTHON = [
    # (operand, value, equal)
    (1, 1, True),
    (1, Decimal("1.0"), True),
    (1, True, False),
    (1, "1", False),
    (True, True, True),
    (True, 1, False),
    (True, Decimal(1), False),
    (0, False, False),
    ("1", 1, False),
    ("a", "a", True),
    (Decimal("0.1"), Decimal("0.1"), True),
    (Decimal("0.1"), Decimal("0.100000000"), True),
    (10**30, Decimal("1E+30"), True),
]


@pytest.mark.parametrize(("operand", "value", "same"), SAME_IN_PYTHON)
def test_equality_is_within_one_type(operand: Any, value: Any, same: bool) -> None:
    for tested, expected in (
        (predicate(eq=operand), same),
        (predicate(ne=operand), not same),
        (predicate(in_=[operand]), same),
        (predicate(not_in=[operand]), not same),
        (predicate(in_=[operand, "other"]), same),
    ):
        assert function(tested)(value) is expected
        assert expression(tested)(value) is expected
    assert function(predicate(contains=operand))([value]) is same


@pytest.mark.parametrize(
    ("tested", "value", "expected"),
    [
        (predicate(gt=1), True, False),
        (predicate(gt=1), "2", False),
        (predicate(gt="a"), "b", True),
        (predicate(gt="a"), "Z", False),
        (predicate(gt="z"), "é", True),
        (predicate(lte=Decimal("0.3")), Decimal("0.3"), True),
        (predicate(gte=0), Decimal("-0.0"), True),
        (predicate(gt=1, lt=3), [0, 4], False),
        (predicate(gt=1, lt=3), [0, 2], True),
        (predicate(ne=1), [1, 2], False),
        (predicate(ne=1), [2, 3], True),
        (predicate(not_in=[1, 2]), [3, 2], False),
        (predicate(ne=1, gt=1), [2, 1], False),
        (predicate(ne=1), {"x": 1}, True),
        (predicate(exists=True), {"x": 1}, True),
        (predicate(exists=True), {}, True),
        (predicate(exists=True), False, True),
        (predicate(exists=False), [None], True),
        (predicate(exists=False, eq=1), None, False),
        (predicate(contains="b"), "abc", True),
        (predicate(contains="b"), ["abc"], False),
        (predicate(contains="b"), ["a", "b"], True),
        (predicate(contains=1), 1, False),
        (predicate(starts_with="a"), ["b", "ab"], True),
        (predicate(starts_with=""), "", True),
        (predicate(ends_with="c"), "abc", True),
        (predicate(ends_with="c"), 5, False),
        (predicate(matches="b+"), "abbc", True),
        (predicate(matches="^b"), "abbc", False),
        (predicate(matches="b"), 5, False),
        (predicate(True, gte=DAY_0), "2023-11-14T22:13:20Z", True),
        (predicate(True, eq=DAY_0), "2023-11-14T23:13:20.0009+01:00", True),
        (predicate(True, gte=DAY_0), DAY_0 + 5, False),
        (predicate(True, ne=DAY_0), "soon", True),
        (predicate(True, exists=True), "soon", True),
    ],
)
def test_meaning(tested: Predicate, value: Any, expected: bool) -> None:
    assert function(tested)(value) is expected
    assert expression(tested)(value) is expected


def test_a_list_on_the_way_hands_over_elements_and_one_at_the_end_is_a_list() -> None:
    contains = function(predicate(contains="b"))
    assert contains(walk({"x": [{"y": "abc"}]}, ("x", "y"))) is True
    assert contains(walk({"x": {"y": ["abc"]}}, ("x", "y"))) is False
    assert contains(walk({"x": {"y": ["b"]}}, ("x", "y"))) is True
    assert contains(walk({"x": [{"y": ["abc"]}]}, ("x", "y"))) is False
    assert contains(walk({"x": [{"y": ["b"]}, {"y": "ab"}]}, ("x", "y"))) is True
    reached = walk([{"x": [1, [2, None]]}, 5, {"x": 3}, [{"x": 4}]], ("x",))
    assert seen(reached) == [(1, True), (2, True), (3, False), (4, False)]
    assert walk({"x": None}, ("x", "y")) is UNSET
    assert walk(UNSET, ("x",)) is UNSET
    assert walk({"x": None}, ("x",)) is None


def test_columns_come_as_instants_already() -> None:
    tested = predicate(True, gte=DAY_0)
    assert function(tested, parsed=True)(DAY_0) is True
    assert function(tested, parsed=True)(DAY_0 - 1) is False
    assert function(tested, parsed=True)(None) is False


@given(VALUE)
def test_flat_values_have_a_type(value: Any) -> None:
    assert all(kind(leaf) in ("string", "boolean", "number", "object") for leaf in flat(value))


def test_texts_of_definitions_cannot_leave_their_expression() -> None:
    for text in ("'", '"', "\\", "\n", "') or (True", "{}", "\u2028", "é\x00"):
        tested = Predicate((Comparison("eq", text),))
        assert expression(tested)(text) is True
        assert expression(tested)("a") is False
