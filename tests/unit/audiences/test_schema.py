from __future__ import annotations

from decimal import Decimal

import pytest

from opportune.audiences.schema import Comparison, Predicate, Scalar


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [(1, True, False), (0, False, False), ((1, "a"), (True, "a"), False), (1, 1, True), (1, Decimal("1.0"), True), (1, "1", False), (True, True, True)],
)  # fmt: skip
def test_comparisons_are_equal_where_they_mean_the_same(
    left: Scalar | tuple[Scalar, ...], right: Scalar | tuple[Scalar, ...], same: bool
) -> None:
    one, other = Predicate((Comparison("in", left),)), Predicate((Comparison("in", right),))
    assert (one == other) == same
    assert (len({one, other}) == 1) == same
