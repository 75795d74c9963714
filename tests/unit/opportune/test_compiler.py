"""Compiled projects: work follows what an event touches, and large projects compile."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.audiences.schema import (
    All,
    Any,
    AttributeCondition,
    AudienceCondition,
    Condition,
    EventCondition,
    EventModel,
    Not,
    TraitCondition,
)
from opportune.audiences.steps import counted
from opportune.compiled import Compiled
from opportune.profile import NEVER
from tests.oracle.builders import DAY_0, happened, identify, message, predicate, project, track, where
from tests.unit.opportune.people import Someone


def evaluated(someone: Someone) -> dict[str, int]:
    """How often each audience was evaluated since the last question."""
    counts = someone.compiled.program.evaluated
    found = {name: count for name, count in zip(someone.compiled.names, counts, strict=True) if count}
    counts[:] = [0] * len(counts)
    return found


def test_only_what_a_changed_feature_touches_is_evaluated() -> None:
    free = where("plan", predicate(eq="free"))
    audiences: dict[str, Condition] = {
        "all_a": happened("A"),
        "b": happened("B", within_ms=10),
        "free_a": happened("A", free, within_ms=10),
        "free_or_b": Any((happened("A", free), happened("B"))),
        "nested": Not((AudienceCondition("free_a"),)),
        "row": AttributeCondition("customers", "plan", predicate(eq="free")),
        "trait": TraitCondition(("plan",), predicate(eq="free")),
        "trait_n": TraitCondition(("n",), predicate(eq=1)),
    }
    someone = Someone(Compiled(project(audiences), counting=True))
    someone.take(message("group", 0), DAY_0, DAY_0)
    assert evaluated(someone) == {"nested": 1, "row": 1}
    steps = [
        (track("A", 1, properties={"plan": "paid"}), {"all_a": 1}),
        (track("A", 2, properties={"plan": "free"}), {"all_a": 1, "free_a": 1, "free_or_b": 1, "nested": 1}),
        (track("B", 3), {"b": 1, "free_or_b": 1}),
        (track("Z", 4), {}),
        (identify(5, traits={"n": 1}), {"trait_n": 1}),
        (identify(6, traits={"other": 1}), {}),
        (identify(4, traits={"n": 2}), {}),
        (identify(6, traits={"plan": "free"}), {"trait": 1}),
    ]
    for raw, expected in steps:
        at = DAY_0 + 7
        someone.take(raw, at if b"identify" not in raw else json_at(raw), at)
        assert evaluated(someone) == expected, raw


def json_at(raw: bytes) -> int:
    """The effective time of a message of the builders."""
    return DAY_0 + int(json.loads(raw)["timestamp"][-4:-1])


def test_a_timer_evaluates_what_its_handler_touches_and_no_more() -> None:
    audiences: dict[str, Condition] = {
        "a": happened("A", within_ms=10),
        "b": happened("B", within_ms=20),
        "c": happened("C"),
    }
    someone = Someone(Compiled(project(audiences), counting=True))
    for name in "ABC":
        someone.take(track(name, 0), DAY_0, DAY_0)
    evaluated(someone)
    someone.wait(DAY_0 + 11)
    assert evaluated(someone) == {"a": 1}
    someone.wait(DAY_0 + 1_000)
    assert evaluated(someone) == {"b": 1}
    assert someone.profile.due == NEVER


def test_a_ring_keeps_the_newest_instants_that_are_told_apart() -> None:
    audiences: dict[str, Condition] = {
        "a": happened("A", times=predicate(gte=3), within_ms=100),
        "e": happened("A", times=predicate(gte=2)),
        "any": happened("A", times=predicate(gte=0), within_ms=5),
    }
    someone = Someone(Compiled(project(audiences)))
    for at in (5, 9, 7, 1, 8, 8):
        someone.take(track("A", at), DAY_0 + at, DAY_0 + 10)
    ring, ever = someone.profile.groups[1]
    assert ring == [DAY_0 + 8, DAY_0 + 8, DAY_0 + 9]
    assert ever == 2
    assert someone.members() == {"a", "any", "e"}


@given(
    st.lists(st.integers(0, 12), max_size=6).map(sorted),
    st.integers(12, 20),
    st.integers(1, 10),
    st.sets(st.integers(0, 6)),
)
def test_counted_tells_value_and_next_change(ring: list[int], now: int, within: int, truths: set[int]) -> None:
    def value(instant: int) -> bool:
        return sum(instant - within < at <= instant for at in ring) in truths

    found, due = counted(ring, now, within, truths.__contains__)
    assert found is value(now)
    changes = [instant for instant in range(now + 1, now + 40) if value(instant) != found]
    assert due == (changes[0] if changes else NEVER)


def test_many_steps_are_looked_up_in_a_table() -> None:
    odd = predicate(in_=list(range(1, 60, 2)))
    someone = Someone(
        Compiled(project({"odd": happened("A", times=odd, within_ms=100), "ever": happened("A", times=odd)}))
    )
    for at in range(9):
        someone.take(track("A", at), DAY_0 + at, DAY_0 + at)
        assert someone.members() == ({"odd", "ever"} if at % 2 == 0 else frozenset())
    someone.wait(DAY_0 + 101)
    assert someone.members() == {"ever"}
    someone.wait(DAY_0 + 102)
    assert someone.members() == {"ever", "odd"}


def test_rows_of_one_and_of_two_tables() -> None:
    plan = AttributeCondition("customers", "plan", predicate(eq="free"))
    none = AttributeCondition("customers", "plan", predicate(exists=False))
    score = AttributeCondition("scores", "n", predicate(gte=Decimal("1.5")))
    one = Compiled(project({"plan": plan, "none": none}))
    rows: list[tuple[object, set[str]]] = [
        (None, {"none"}),
        (("free",), {"plan"}),
        ((None,), {"none"}),
        (("paid",), set()),
    ]
    for row, expected in rows:
        someone = Someone(one, row)
        someone.take(message("group", 0), DAY_0, DAY_0)
        assert someone.members() == expected
    two = Compiled(project({"plan": plan, "none": none, "score": score}))
    rows = [
        ((None, None), {"none"}),
        ((("free",), None), {"plan"}),
        ((None, (2,)), {"none", "score"}),
        ((("free",), (1,)), {"plan"}),
    ]
    for row, expected in rows:
        someone = Someone(two, row)
        someone.take(message("group", 0), DAY_0, DAY_0)
        assert someone.members() == expected


def test_pages_are_told_by_name_else_by_type() -> None:
    any_page = EventCondition(EventModel("Page", "page", None), (), predicate(gte=1), None)
    home = EventCondition(EventModel("Home", "page", "home"), (), predicate(gte=1), None)
    compiled = Compiled(project({"any": any_page, "home": home}))
    for raw, expected in (
        (message("page", 0, name="home"), {"any", "home"}),
        (message("page", 0, name="other"), {"any"}),
        (message("page", 0, name=None), {"any"}),
        (message("page", 0, name=5), {"any"}),
        (message("page", 0), {"any"}),
        (message("screen", 0, name="home"), set()),
        (track("home", 0), set()),
    ):
        someone = Someone(compiled)
        someone.take(raw, DAY_0, DAY_0)
        assert someone.members() == expected
    only_home = Someone(Compiled(project({"home": home})))
    assert only_home.take(message("page", 0, name="other"), DAY_0, DAY_0) is False


@pytest.mark.parametrize("names", [1, 200])
def test_a_thousand_audiences_compile_and_an_event_touches_few(names: int) -> None:
    audiences: dict[str, Condition] = {
        f"a{number:04d}": happened(f"E{number % names}", where("p", predicate(eq=number)), within_ms=10)
        for number in range(1_000)
    }
    someone = Someone(Compiled(project(audiences), counting=True))
    someone.take(track(f"E{7 % names}", 0, properties={"p": 7}), DAY_0, DAY_0)
    assert someone.members() == {"a0007"}
    assert evaluated(someone) == {"a0007": 1}


def test_shared_references_are_evaluated_once_and_do_not_blow_up() -> None:
    audiences: dict[str, Condition] = {"d000": happened("A", within_ms=10)}
    for number in range(1, 150):
        audiences[f"d{number:03d}"] = All(
            tuple(AudienceCondition(f"d{other:03d}") for other in range(max(0, number - 3), number))
        )
    compiled = Compiled(project(audiences), counting=True)
    assert len(compiled.program.source) < 150 * 3 * 1_000
    someone = Someone(compiled)
    someone.take(track("A", 0), DAY_0, DAY_0)
    assert set(evaluated(someone).values()) == {1}
    assert len(someone.members()) == 150
    someone.wait(DAY_0 + 11)
    assert someone.members() == frozenset()


def test_a_wide_condition_compiles() -> None:
    leaves = [
        (f"E{number % 10}", where("p", predicate(eq=number)), 10 if number % 2 else None) for number in range(200)
    ]
    wide: dict[str, Condition] = {
        "all": All(tuple(happened(name, test, within_ms=length) for name, test, length in leaves)),
        "any": Any(tuple(happened(name, test, within_ms=length) for name, test, length in leaves)),
    }
    someone = Someone(Compiled(project(wide)))
    for number, (name, _, _) in enumerate(leaves):
        assert someone.members() == ({"any"} if number else frozenset())
        someone.take(track(name, 0, properties={"p": number}), DAY_0, DAY_0)
    assert someone.members() == {"all", "any"}


def test_names_of_definitions_cannot_leave_their_expression() -> None:
    names = ["'", "']; raise SystemExit; ['", "{p}", "a b", "é", "\x7f", "p0", "traits"]
    audiences: dict[str, Condition] = {
        f"t{number}": TraitCondition((name,), predicate(eq="x")) for number, name in enumerate(names)
    }
    audiences |= {
        f"e{number}": happened(name, where(f"context.{name}", predicate(eq=name))) for number, name in enumerate(names)
    }
    someone = Someone(Compiled(project(audiences)))
    someone.take(identify(0, traits=dict.fromkeys(names, "x")), DAY_0, DAY_0)
    for name in names:
        someone.take(track(name, 0, context={name: name}), DAY_0, DAY_0)
    assert someone.members() == set(audiences)
