"""Computed traits: what a file of them says, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from opportune.audiences.schema import AggregateCondition, ComputedTrait
from tests.unit.audiences.projects import loaded, problems

ONE = "name: a\nwhen: {trait: spent, is: '>= 3'}\n"


def test_a_computed_trait_hides_the_trait_of_that_name(tmp_path: Path) -> None:
    trait = "name: spent\ndescription: all of it\nevent: Order Completed\nsum: total\nwithin: 30 days\n"
    project, found = loaded(tmp_path, {"audiences/a.yml": ONE, "traits/a.yml": trait})
    assert not found
    assert project is not None
    (computed,) = project.computed
    assert isinstance(computed, ComputedTrait)
    assert (computed.name, computed.description, computed.value.function) == ("spent", "all of it", "sum")
    condition = project.audiences[0].condition
    assert isinstance(condition, AggregateCondition)
    assert condition.value == computed.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{name: a, event: X}", "1:1 error: a computed trait has one of `count`, `sum`"),
        ("{name: a, event: X, count: true, sum: b}", "1:1 error: a computed trait has one of `count`, `sum`"),
        ("{name: a, count: true}", "1:1 error: a computed trait needs `event`"),
        ("{name: a, event: X, count: 3}", "1:28 error: `count` is `true` or `false`, not `3`"),
        ("[{name: a, event: X, count: true}, {name: a, event: Y, count: true}]", "1:43 error: the trait `a` is there twice"),
        ("{name: a.b, event: X, count: true}", "1:8 error: `a.b` cannot be the name of a trait"),
        ("{name: timezone, event: X, last: z, within: day, timezone: profile}", "1:50 error: the trait `timezone` is what"),
        ("[a]", "1:2 error: a computed trait is a mapping"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    found = problems(tmp_path, {"audiences/a.yml": "name: a\nwhen: {trait: x, is: y}\n", "traits/a.yml": text + "\n"})
    assert any(one.startswith(f"traits/a.yml:{expected}") for one in found), found
