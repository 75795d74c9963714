from __future__ import annotations

from decimal import Decimal

import pytest

from flows.demo.words import duration, words
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
    Path,
    Predicate,
    TraitCondition,
    Where,
)

ONCE = Predicate((Comparison("gte", 1),))
FREE = AttributeCondition("customers", "plan", Predicate((Comparison("eq", "free"),)))


def event(
    name: str, times: Predicate = ONCE, within_ms: int | None = None, where: tuple[Where, ...] = ()
) -> EventCondition:
    return EventCondition(EventModel(name, "track", name), where, times, within_ms)


TOTAL = Where(Path("properties", ("cart", "total")), Predicate((Comparison("gte", Decimal("99.5")),)))


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (event("Pricing Viewed"), "Pricing Viewed"),
        (
            All((event("Pricing Viewed", Predicate((Comparison("gte", 3),)), 600_000), FREE)),
            ">= 3 x Pricing Viewed in 10 minutes and plan = free",
        ),
        (event("Order Completed", where=(TOTAL,)), "Order Completed (cart.total >= 99.5)"),
        (All((event("A"), Not((event("B"), event("C"))))), "A and (not B nor C)"),
        (All((FREE, Any((event("A"), AudienceCondition("b"))))), "plan = free and (A or in b)"),
        (TraitCondition(("a", "b"), Predicate((Comparison("in", ("fr", "de")),))), "a.b one of fr, de"),
        (TraitCondition(("a",), Predicate((Comparison("exists", False),))), "a is not set"),
        (TraitCondition(("a",), Predicate((Comparison("eq", True),))), "a = true"),
        (
            TraitCondition(("a",), Predicate((Comparison("starts_with", "x"), Comparison("ne", "xy")))),
            "a starts with x and != xy",
        ),
        (All((event("A"), All((event("B"), FREE)))), "A and B and plan = free"),
        (
            AttributeCondition(
                "customers", "since", Predicate((Comparison("lt", 1_640_995_200_000), Comparison("ne", 1_500)), True)
            ),
            "since < 2022-01-01 and != 1970-01-01T00:00:01.500Z",
        ),
    ],
)
def test_a_condition_reads_as_a_sentence(condition: Condition, text: str) -> None:
    assert words(condition) == text


@pytest.mark.parametrize(
    ("length_ms", "text"),
    [
        (1, "1 millisecond"),
        (1_500, "1500 milliseconds"),
        (20_000, "20 seconds"),
        (60_000, "1 minute"),
        (86_400_000, "1 day"),
    ],
)
def test_a_duration_is_told_in_the_greatest_unit_that_divides_it(length_ms: int, text: str) -> None:
    assert duration(length_ms) == text
