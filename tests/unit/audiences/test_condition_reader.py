from __future__ import annotations

from pathlib import Path

import pytest

from opportune.audiences.condition_reader import DEPTH_MAX, ONCE
from opportune.audiences.schema import (
    All,
    Any,
    AttributeCondition,
    Comparison,
    Condition,
    EventCondition,
    EventModel,
    Not,
    Predicate,
    Span,
    TraitCondition,
    Where,
    meaning,
)
from opportune.audiences.schema import (
    Path as MessagePath,
)
from tests.unit.audiences.projects import audience_problems, condition

PRICING = EventModel("Pricing Viewed", "track", "Pricing Viewed")
FREE = Predicate((Comparison("eq", "free"),))


def event(name: str, within_ms: int | None = None) -> EventCondition:
    return EventCondition(EventModel(name, "track", name), (), ONCE, within_ms)


def trait(name: str) -> TraitCondition:
    return TraitCondition((name,), FREE)


A, B, C = trait("a"), trait("b"), trait("c")


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("{event: X}", event("X")),
        ("{event: X, within: ever}", event("X")),
        ("{event: X, within: 10 minutes}", event("X", 600_000)),
        ("{event: 404, within: PT1S}", event("404", 1_000)),
        ("{trait: plan, is: free}", trait("plan")),
        ("{trait: address.city, is: free}", TraitCondition(("address", "city"), FREE)),
        ("{attribute: plan, is: free}", AttributeCondition("customers", "plan", FREE)),
        ("{attribute: customers.plan, is: free}", AttributeCondition("customers", "plan", FREE)),
        ("[{trait: a, is: free}, {trait: b, is: free}]", All((A, B))),
        ("{all: [{trait: a, is: free}]}", All((A,))),
        ("{any: [{trait: a, is: free}, {trait: b, is: free}]}", Any((A, B))),
        ("{none: [{trait: a, is: free}]}", Not((A,))),
        ("{any: [{trait: a, is: free}], none: [{trait: b, is: free}]}", All((Any((A,)), Not((B,))))),
        ("{any: [[{trait: a, is: free}, {trait: b, is: free}], {none: [{trait: c, is: free}]}]}", Any((All((A, B)), Not((C,))))),
    ],
)  # fmt: skip
def test_every_kind(tmp_path: Path, when: str, expected: Condition) -> None:
    assert meaning(condition(tmp_path, when)) == expected


def test_where_takes_paths_and_declared_properties(tmp_path: Path) -> None:
    when = "{event: Order Completed, where: {total: '> 3', sku: a, properties.total: 4, context.ip: b, traits.plan: c, cart.id: d, context: e}}"
    found = condition(tmp_path, when)
    assert isinstance(found, EventCondition)
    text = {key: Predicate((Comparison("eq", key),)) for key in "abcde"}
    assert found.where == (
        Where(MessagePath("properties", ("total",)), Predicate((Comparison("gt", 3),))),
        Where(MessagePath("properties", ("products", "sku")), text["a"]),
        Where(MessagePath("properties", ("total",)), Predicate((Comparison("eq", 4),))),
        Where(MessagePath("context", ("ip",)), text["b"]),
        Where(MessagePath("traits", ("plan",)), text["c"]),
        Where(MessagePath("properties", ("cart", "id")), text["d"]),
        Where(MessagePath("properties", ("context",)), text["e"]),
    )


def test_a_declared_timestamp_compares_instants(tmp_path: Path) -> None:
    found = condition(tmp_path, "{event: Order Completed, where: {at: '>= 2024-01-01'}}")
    assert isinstance(found, EventCondition)
    assert found.where[0].predicate == Predicate((Comparison("gte", 1_704_067_200_000),), instants=True)


def test_a_model_hides_the_track_call_of_its_name(tmp_path: Path) -> None:
    found = condition(tmp_path, "{event: Cart Viewed}")
    assert isinstance(found, EventCondition)
    assert found.model == EventModel("Cart Viewed", "page", "Cart")


def test_conditions_know_their_place(tmp_path: Path) -> None:
    found = condition(tmp_path, "[{event: Cart Viewed}, {trait: x, is: y}]")
    assert isinstance(found, All)
    first = found.conditions[0]
    assert isinstance(first, EventCondition)
    assert first.span == Span(str(tmp_path / "audiences/a.yml"), 2, 16)


@pytest.mark.parametrize(
    ("when", "place", "says"),
    [
        ("free", "2:7", "a mapping or a list, not `free`"),
        ("", "2:1", "a mapping or a list, not empty"),
        ("[]", "2:7", "an empty list"),
        ("{all: []}", "2:13", "an empty list under `all`"),
        ("{any: []}", "2:13", "an empty list under `any`"),
        ("{none: []}", "2:14", "an empty list under `none`"),
        ("{all: {event: X}}", "2:13", "takes a list"),
        ("{}", "2:7", "no condition"),
        ("{evnt: X}", "2:8", "there is no condition `evnt`"),
        ("{wibble: X}", "2:7", "no condition"),
        ("{event: X, trait: y}", "2:7", "in one mapping"),
        ("{event: X, all: [{event: Y}]}", "2:7", "stands beside"),
        ("{all: [{trait: x, is: y}], alll: [{event: Y}]}", "2:34", "no key `alll`"),
        ("{event: [X]}", "2:15", "single value"),
        ("{event: ''}", "2:15", "is empty"),
        ("{event: Order Completed, wher: {a: b}}", "2:32", "no key `wher`"),
        ("{event: Order Completed, where: {}}", "2:39", "an empty `where`"),
        ("{event: Order Completed, where: x}", "2:39", "is a mapping"),
        ("{event: Order Completed, where: {a..b: x}}", "2:40", "a key is empty"),
        ("{event: Order Completed, within: 10}", "2:40", "has no unit"),
        ("{event: Order Completed, within: sesion}", "2:40", "`sesion` is not a duration"),
        ("{event: Order Completed, within: 1 day, timezone: UTC}", "2:47", "does not depend on a zone"),
        ("{event: Order Completed, within: month, timezone: Europe/Pariss}", "2:57", "no time zone"),
        ("{event: Order Completed, sum: total}", "2:7", "compared with nothing"),
        ("{event: Order Completed, sum: total, is: 3, times: 2}", "2:51", "`times` is for counts"),
        ("{event: Order Completed, sum: total, avg: total, is: 3}", "2:44", "in one condition"),
        ("{event: Order Completed, is: 3}", "2:32", "goes with an aggregate"),
        ("{event: Order Completed, sum: a..b, is: 3}", "2:37", "a key is empty"),
        ("{event: Order Completed, min: total, is: {gt: {attribute: plna}}}", "2:65", "no table has a column"),
        ("{sequence: [{event: X}]}", "2:18", "2 to 16 events"),
        ("{sequence: [{event: X}, {event: Y}], by: a}", "2:48", "`by` needs a `within`"),
        ("{sequence: [{event: X}, {evnt: Y}]}", "2:32", "no key `evnt`"),
        ("{sequence: [{event: X}, {event: Y}], span: soon}", "2:50", "`span`"),
        ("{absent: {event: X}, for: 1 day}", "2:8", "`absent` needs `after`"),
        ("{absent: {event: X}, after: {event: Y}, for: 1 day, within: 1 day}", "2:59", "is not longer than `for`"),
        ("{absent: {event: X}, after: {event: Y}, for: 1 day, by: a}", "2:63", "`by` needs a `within`"),
        ("{near: {lat: 1, lon: 2}}", "2:8", "`near` needs"),
        ("{near: {lat: 91, lon: 2}, radius: 1 m, fresh: 1 m, event: X}", "2:20", "degrees from -90 to 90"),
        ("{near: {lat: 1, lon: 2}, radius: 0 m, fresh: 1 m, event: X}", "2:40", "a distance over 0"),
        ("{near: {lat: 1, lon: 2}, radius: 9 m, leave: 8 m, fresh: 1 m, event: X}", "2:45", "less than `radius`"),
        ("{during: {days: [monday]}}", "2:24", "no day `monday`"),
        ('{during: {from: "9:00"}}', "2:23", "a time of the day"),
        ('{during: {from: "24:30"}}', "2:23", "a time of the day"),
        ('{during: {from: "09:00", to: "09:00"}}', "2:32", "are equal"),
        ("{trait: x}", "2:7", "compared with nothing"),
        ("{trait: .x, is: a}", "2:15", "a key is empty"),
        ("{trait: x, is: a, within: 1 day}", "2:25", "no key `within`"),
        ("{attribute: plna, is: free}", "2:19", "no table has a column `plna`"),
        ("{attribute: customers.plna, is: free}", "2:19", "the table `customers` has no column `plna`"),
        ("{audience: x, is: y}", "2:21", "no key `is`"),
    ],
)
def test_what_is_refused(tmp_path: Path, when: str, place: str, says: str) -> None:
    found = audience_problems(tmp_path, f"name: a\nwhen: {when}\n")
    assert any(one.startswith(f"{place} error: ") and says in one for one in found), found


def test_depth_is_bounded(tmp_path: Path) -> None:
    def nested(depth: int) -> str:
        return "{any: [" * (depth - 1) + "{trait: x, is: y}" + "]}" * (depth - 1)

    assert audience_problems(tmp_path, f"name: a\nwhen: {nested(DEPTH_MAX)}\n") == []
    (found,) = audience_problems(tmp_path, f"name: a\nwhen: {nested(DEPTH_MAX + 1)}\n")
    assert "nest deeper than 32" in found


def test_all_errors_of_a_condition_are_told(tmp_path: Path) -> None:
    when = "[{event: Order Completed, within: 5 mins, times: often}, {trait: x, is: {foo: 1}}, {attribute: nope, is: {eq: null}}]"
    found = audience_problems(tmp_path, f"name: a\nwhen: {when}\n")
    assert len([one for one in found if " error: " in one]) == 5, found
