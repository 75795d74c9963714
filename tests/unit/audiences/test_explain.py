"""Explanations in words, and that every kind of condition has one."""

from __future__ import annotations

from typing import get_args

import pytest

from opportune.audiences.explain import KINDS, Explainer, PersonState
from opportune.audiences.plan import Plan
from opportune.audiences.schema import (
    All,
    Any,
    AttributeCondition,
    AudienceCondition,
    Condition,
    Not,
    Predicate,
    TraitCondition,
)
from opportune.audiences.sentences import predicate as words
from opportune.audiences.sentences import sentence
from opportune.event import iso_text
from tests.oracle.builders import DAY_0, happened, predicate, project, where

HOUR = 3_600_000


def state(**more: object) -> PersonState:
    given = {"groups": {}, "traits": {}, "rows": {}, **more}
    return PersonState("00" * 16, ["user_id:ann"], DAY_0, set(), **given)  # type: ignore[arg-type]  # as each test has it


def test_every_kind_of_condition_is_explained() -> None:
    assert set(get_args(Condition)) == set(KINDS)


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        (happened("Viewed"), "Viewed, at least once ever"),
        (happened("Viewed", times=predicate(eq=0), within_ms=HOUR), "Viewed, never in the last 1 hour"),
        (happened("Viewed", times=predicate(gte=2, lt=10)), "Viewed, at least 2 and fewer than 10 times ever"),
        (happened("Viewed", times=predicate(eq=1)), "Viewed, exactly 1 time ever"),
        (
            happened("Viewed", where("price", predicate(gt=5)), where("context.c", predicate(exists=False))),
            "Viewed where price is greater than 5 and context.c is not there, at least once ever",
        ),
        (TraitCondition(("a", "b"), predicate(ne="x")), "the trait a.b is not x"),
        (AttributeCondition("t", "c", predicate(not_in=["x", "3"])), 'the attribute t.c is none of x, "3"'),
        (AudienceCondition("loyal"), "a member of loyal"),
        (All((happened("A"),)), "all of these"),
        (Any((happened("A"),)), "any of these"),
        (Not((happened("A"),)), "none of these"),
    ],
)
def test_sentences(condition: Condition, says: str) -> None:
    assert sentence(condition) == says


def test_instants_are_read_as_instants() -> None:
    asked = predicate(instants=True, lt=DAY_0)
    assert words(asked) == f"is less than {iso_text(DAY_0)}"


def explained(condition: Condition, now_ms: int, **more: object) -> tuple[bool, str, str, str | None]:
    """Holds, saw, missing and next change of a condition alone."""
    found = Explainer(Plan(project({"a": condition})), state(**more)).explain("a", now_ms).condition
    return found.holds, found.saw, found.missing, found.next_change


THREE = happened("A", times=predicate(gte=3), within_ms=HOUR)
FEW = happened("A", times=predicate(lt=2), within_ms=HOUR)
RING = {1: [[DAY_0, DAY_0 + 1, DAY_0 + 2]]}


@pytest.mark.parametrize(
    ("condition", "after_ms", "holds", "next_ms"),
    [
        (THREE, HOUR - 1, True, HOUR),
        (THREE, HOUR, False, None),
        (Not((THREE,)), HOUR - 1, False, HOUR),
        # All three are kept for the other condition; two of them have to leave.
        (All((FEW, happened("A"))), 10, False, HOUR + 1),
        (Any((THREE, happened("B"))), 10, True, HOUR),
    ],
)
def test_the_next_change_is_exact(condition: Condition, after_ms: int, holds: bool, next_ms: int | None) -> None:
    audiences: dict[str, Condition] = {"a": condition, "z": THREE}
    plan = Plan(project(audiences))
    groups = {
        group.number: [RING[1][0] if f.windowed else 3 for f in group.features.values()]
        for group in plan.groups[1:]
        if group.kind[1] == "A"
    }
    found = Explainer(plan, state(groups=groups)).explain("a", DAY_0 + after_ms)
    assert (found.member, found.next_change) == (holds, None if next_ms is None else iso_text(DAY_0 + next_ms))


def test_what_is_missing_is_said_where_it_decides() -> None:
    assert explained(THREE, DAY_0)[1:3] == ("0", "3 more")
    assert explained(happened("A", times=predicate(eq=0)), DAY_0, groups={1: [1]})[1:3] == (
        "1 or more",
        "it cannot hold any more",
    )
    assert explained(TraitCondition(("t",), predicate(eq="x")), DAY_0)[1:3] == ("nothing", "a value that is x")
    held = explained(TraitCondition(("t",), predicate(eq="x")), DAY_0, traits={"t": (DAY_0, "x")})
    assert held[:3] == (True, f"x, since {iso_text(DAY_0)}", "")
    asked = AttributeCondition("customers", "plan", Predicate(predicate(eq="x").comparisons))
    assert explained(asked, DAY_0)[1] == "nothing: no row in customers"


def test_under_none_what_holds_is_what_must_not() -> None:
    condition = Not((TraitCondition(("t",), predicate(eq="x")), happened("A")))
    tree = Explainer(Plan(project({"a": condition})), state(traits={"t": (DAY_0, "x")})).explain("a", DAY_0).condition
    assert [part.missing for part in tree.parts] == ["it must not hold", ""]
