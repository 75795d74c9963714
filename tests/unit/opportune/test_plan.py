"""The plan: distinct features once, what touches what, and fingerprints."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.audiences.plan import ATTRIBUTES, TRAITS, Plan, paths_of
from opportune.audiences.schema import (
    All,
    Any,
    AttributeCondition,
    AudienceCondition,
    Comparison,
    Condition,
    EventCondition,
    EventModel,
    Not,
    Operator,
    Path,
    Predicate,
    Scalar,
    Span,
    TraitCondition,
)
from opportune.audiences.steps import steps
from tests.model.projects import TIMES
from tests.oracle.builders import happened, predicate, project, where
from tests.oracle.predicates import Reached, holds

COUNTS: tuple[Scalar, ...] = (0, 1, 2, 3, 5, -1, Decimal("1.5"), Decimal("-0.5"), Decimal("2.0"))
ORDERED: list[Operator] = ["eq", "ne", "gt", "gte", "lt", "lte"]
COMPARED = st.one_of(
    st.sampled_from(TIMES).map(Predicate),
    st.dictionaries(st.sampled_from(ORDERED), st.sampled_from(COUNTS), min_size=1, max_size=3).map(
        lambda made: Predicate(tuple(Comparison(op, operand) for op, operand in made.items()))
    ),
    st.lists(st.sampled_from(COUNTS), min_size=1, max_size=3).map(lambda some: predicate(in_=some)),
    st.lists(st.sampled_from(COUNTS), min_size=1, max_size=3).map(lambda some: predicate(not_in=some)),
)


@given(COMPARED)
def test_steps_are_the_predicate_over_all_counts(times: Predicate) -> None:
    found = steps(times)
    assert found.starts[0] == 0
    assert all(before < after for before, after in zip(found.starts, found.starts[1:], strict=False))
    assert all(before != after for before, after in zip(found.truths, found.truths[1:], strict=False))
    for count in range(20):
        expected = holds(times, [Reached(Decimal(count), element=False)])
        assert found.holds(count) is expected
        if count >= found.cap:
            assert found.holds(count) is found.truths[-1]


@pytest.mark.parametrize(
    ("times", "cap"),
    [
        (predicate(gte=1), 1),
        (predicate(gte=3), 3),
        (predicate(gt=3), 4),
        (predicate(gt=Decimal("2.5")), 3),
        (predicate(eq=3), 4),
        (predicate(lte=0), 1),
        (predicate(gte=0), 0),
        (predicate(ne=Decimal("1.5")), 0),
        (predicate(lt=0), 0),
    ],
)
def test_no_more_is_kept_than_the_predicate_tells_apart(times: Predicate, cap: int) -> None:
    assert steps(times).cap == cap


def test_each_distinct_feature_is_there_once() -> None:
    free, paid = where("plan", predicate(eq="free")), where("plan", predicate(eq="paid"))
    plan = Plan(
        project(
            {
                "a": happened("A", free, times=predicate(gte=3), within_ms=10),
                "b": happened("A", free, times=predicate(gte=2), within_ms=99),
                "c": happened("A", free),
                "d": happened("A", paid, within_ms=10),
                "e": Not((happened("A", free, paid, within_ms=10), happened("A", paid, free, within_ms=20))),
                "f": happened("B"),
            }
        )
    )
    groups = {group.kind: [(f.windowed, f.cap, len(f.where)) for f in group.features.values()] for group in plan.groups}
    assert groups == {
        ("traits", None): [],
        ("track", "A"): [(True, 3, 1), (False, 1, 1), (True, 1, 1), (True, 1, 2)],
        ("track", "B"): [(False, 1, 0)],
    }
    assert paths_of(plan) == {Path("properties", ("plan",))}


def test_true_and_one_are_two_features() -> None:
    plan = Plan(
        project({"a": happened("A", where("x", predicate(eq=1))), "b": happened("A", where("x", predicate(eq=True)))})
    )
    assert len(plan.groups[1].features) == 2


def test_a_model_adds_its_part_and_shares_the_feature_of_who_says_the_same() -> None:
    big = where("total", predicate(gte=100))
    model = EventModel("Big order", "track", "Order", (big,))
    plan = Plan(
        project(
            {
                "a": EventCondition(model, (), predicate(gte=1), 10),
                "b": happened("Order", big, within_ms=10),
            }
        )
    )
    assert [len(group.features) for group in plan.groups] == [0, 1]


def touched(plan: Plan) -> dict[tuple[str, str | None], list[str]]:
    return {one.kind: [plan.audiences[number].name for number in one.audiences] for one in plan.handlers}


def test_a_handler_touches_what_its_events_can_change_and_those_that_refer_to_it() -> None:
    any_page = EventCondition(EventModel("Page", "page", None), (), predicate(gte=1), 10)
    home = EventCondition(EventModel("Home", "page", "home"), (), predicate(gte=1), 10)
    audiences: dict[str, Condition] = {
        "a": AudienceCondition("z"),
        "b": happened("B"),
        "m": All((AudienceCondition("a"), Not((AudienceCondition("b"),)))),
        "page": any_page,
        "home": home,
        "plan": TraitCondition(("plan",), predicate(eq="free")),
        "row": All((AttributeCondition("customers", "plan", predicate(eq="free")), happened("B"))),
        "z": happened("A", within_ms=10),
        "always": happened("A", times=predicate(gte=0)),
    }
    plan = Plan(project(audiences))
    found = touched(plan)
    assert found[("track", "A")] == ["z", "a", "always", "m"]
    assert found[("track", "B")] == ["b", "m", "row"]
    assert found[("page", None)] == ["page"]
    assert found[("page", "home")] == ["home", "page"]
    assert found[("identify", None)] == ["plan"]
    assert found[("attributes", None)] == ["row"]
    assert plan.handlers[ATTRIBUTES].kind == ("attributes", None)
    by_kind = {handler.kind: handler for handler in plan.handlers}
    numbers = {group.kind: group.number for group in plan.groups}
    assert by_kind["track", "B"].groups == (numbers["track", "B"],)
    assert by_kind["page", "home"].groups == (numbers["page", "home"], numbers["page", None])
    assert by_kind["track", "B"].reads == (numbers["track", "B"],)
    assert by_kind["identify", None].reads == (TRAITS,)


def test_referenced_audiences_come_first_whatever_their_names() -> None:
    names = [f"n{number}" for number in range(9)]
    shared: dict[str, Condition] = {
        name: Any(tuple(AudienceCondition(other) for other in names[at + 1 :])) for at, name in enumerate(names[:-1])
    }
    shared[names[-1]] = happened("A")
    plan = Plan(project(shared))
    place = {number: at for at, number in enumerate(plan.order)}
    assert sorted(place) == list(range(9))
    for number in range(9):
        assert all(place[child] < place[number] for child in plan.references(number))
    assert len(list(plan.leaves(plan.numbers["n0"]))) == 1


def test_a_fingerprint_changes_with_meaning_and_not_with_places_in_files() -> None:
    span = Span("a.yml", 3, 5)
    model = EventModel("A", "track", "A")
    base = Plan(project({"a": EventCondition(model, (), predicate(gte=1), 10)}))
    moved = Plan(project({"a": EventCondition(model, (), predicate(gte=1), 10, span)}))
    assert base.fingerprint == moved.fingerprint
    assert base.definitions == moved.definitions
    others = [
        Plan(project({"b": EventCondition(model, (), predicate(gte=1), 10)})),
        Plan(project({"a": EventCondition(model, (), predicate(gte=2), 10)})),
        Plan(project({"a": EventCondition(model, (), predicate(gte=1), 11)})),
        Plan(project({"a": EventCondition(model, (), predicate(gte=1), None)})),
        Plan(project({"a": Not((EventCondition(model, (), predicate(gte=1), 10),))})),
        Plan(project({"a": happened("A", where("x", predicate(eq=1)), within_ms=10)})),
        Plan(project({"a": happened("A", where("x", predicate(eq=True)), within_ms=10)})),
    ]
    assert len({base.fingerprint, *(plan.fingerprint for plan in others)}) == len(others) + 1


def test_the_definition_of_an_audience_is_its_own() -> None:
    one = Plan(project({"a": happened("A"), "b": AudienceCondition("a")}))
    two = Plan(project({"a": happened("B"), "b": AudienceCondition("a")}))
    assert one.definitions[0] != two.definitions[0]
    assert one.definitions[1] == two.definitions[1]
