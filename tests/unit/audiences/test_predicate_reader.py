from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from opportune.audiences.schema import Comparison, EventCondition, Predicate
from tests.unit.audiences.projects import audience_problems, condition, predicate


def comparisons(*pairs: tuple[str, object]) -> Predicate:
    return Predicate(tuple(Comparison(op, operand) for op, operand in pairs))  # type: ignore[arg-type] # built from texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("free", [("eq", "free")]),
        ("3", [("eq", 3)]),
        ("0.10", [("eq", Decimal("0.1"))]),
        ("true", [("eq", True)]),
        ("no", [("eq", "no")]),
        ("18:00", [("eq", "18:00")]),
        ("2024-01-01", [("eq", "2024-01-01")]),
        ('"3"', [("eq", "3")]),
        ("[a, 3, true, '> 3']", [("in", ("a", 3, True, "> 3"))]),
        ('">= 3"', [("gte", 3)]),
        ('"<=3.50"', [("lte", Decimal("3.5"))]),
        ('"> abc def "', [("gt", "abc def")]),
        ('"< 2"', [("lt", 2)]),
        ('"!= free"', [("ne", "free")]),
        ('"== true"', [("eq", True)]),
        ('"= x"', [("eq", "x")]),
        ('"== null"', [("eq", "null")]),
        ('{eq: ">= 3"}', [("eq", ">= 3")]),
        ("{gte: 100, lt: 500}", [("gte", 100), ("lt", 500)]),
        ("{in: [a, b], not_in: [c], ne: d}", [("in", ("a", "b")), ("not_in", ("c",)), ("ne", "d")]),
        ('{starts_with: a, ends_with: b, contains: c, matches: "^a.*b$"}',
         [("starts_with", "a"), ("ends_with", "b"), ("contains", "c"), ("matches", "^a.*b$")]),
        ("{contains: 5}", [("contains", 5)]),
        ("{exists: true}", [("exists", True)]),
        ("{exists: false}", [("exists", False)]),
    ],
)  # fmt: skip
def test_every_form(tmp_path: Path, text: str, expected: list[tuple[str, object]]) -> None:
    found = predicate(tmp_path, text)
    assert found == comparisons(*expected)
    assert [type(one.operand) for one in found.comparisons] == [type(operand) for _, operand in expected]


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("null", 22, "compared with nothing"),
        ("", 18, "compared with nothing"),
        ("{}", 22, "an empty mapping"),
        ("[]", 22, "an empty list"),
        ("[a, null]", 26, "an entry of the list is empty"),
        ("[[a]]", 23, "holds single values"),
        ('">="', 22, "nothing to compare with"),
        ("{eq: null}", 27, "nothing to compare with"),
        ("{eq: [a]}", 27, "single value, not a list"),
        ("{in: a}", 27, "takes a list"),
        ("{in: []}", 27, "an empty list"),
        ("{exists: maybe}", 31, "`true` or `false`"),
        ("{starts_with: 33}", 36, "takes a text"),
        ('{matches: "("}', 32, "not an RE2 expression"),
        ('{matches: "(?=a)"}', 32, "not an RE2 expression"),
        ("{greater_than: 3}", 23, "no operator"),
        ("{eq: .inf}", 27, "not a number"),
        ("{gt: {attribute: budget}}", 39, "no table has a column `budget`"),
        ("{gt: {trait: [y]}}", 35, "a single value, not a list"),
        ("{in: {trait: y}}", 27, "takes a list, not a mapping"),
        ("{in: [{trait: y}]}", 28, "holds single values"),
        ("{contains: {trait: y}}", 33, "single value, not a mapping"),
        ("{gt: {foo: budget}}", 27, "single value, not a mapping"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, column: int, says: str) -> None:
    (found,) = audience_problems(tmp_path, f"name: a\nwhen: {{trait: x, is: {text}}}\n")
    assert found.startswith(f"2:{column} error: "), found
    assert says in found


@pytest.mark.parametrize(
    ("text", "hint"),
    [("{mathces: a}", "matches"), ("{'>=': 3}", "gte"), ("{regex: a}", "matches"), ("{equals: a}", "eq")],
)
def test_the_operator_that_was_meant(tmp_path: Path, text: str, hint: str) -> None:
    from opportune.audiences.loader import load
    from tests.unit.audiences.projects import write

    _, (found,) = load(write(tmp_path, {"audiences/a.yml": f"name: a\nwhen: {{trait: x, is: {text}}}\n"}))
    assert f"`{hint}`" in found.hint


@pytest.mark.parametrize(
    ("subject", "text", "says"),
    [
        ("attribute: plan", "3", "is a text, not the number `3`"),
        ("attribute: plan", '"> 3"', "is a text, not the number `3`"),
        ("attribute: mrr", "free", "is a number, not the text `free`"),
        ("attribute: mrr", '"10"', "is a number, not the text `10`"),
        ("attribute: mrr", "{starts_with: a}", "`starts_with` does not go with"),
        ("attribute: mrr", "{contains: 1}", "`contains` does not go with"),
        ("attribute: mrr", "[1, a]", "not the text `a`"),
        ("attribute: vip", "yes", "is true or false, not the text `yes`"),
        ("attribute: vip", "{gt: true}", "have no order"),
        ("attribute: since", "5", "is an instant, not the number"),
        ("attribute: since", "soon", "is not an instant"),
        ("attribute: since", "2024-13-01", "is not an instant"),
        ("attribute: since", "{matches: '2024'}", "`matches` does not go with"),
    ],
)
def test_a_clash_with_a_declared_type_is_an_error(tmp_path: Path, subject: str, text: str, says: str) -> None:
    (found,) = audience_problems(tmp_path, f"name: a\nwhen: {{{subject}, is: {text}}}\n")
    assert " error: " in found
    assert says in found


def test_a_clash_with_the_type_of_a_file_is_a_warning(tmp_path: Path) -> None:
    tables = "tables:\n  customers: {source: customers.parquet, key: user_id}\n"
    from tests.unit.audiences.projects import problems

    files: dict[str, str | bytes] = {
        "warehouse.yml": tables,
        "audiences/a.yml": "name: a\nwhen: {attribute: plan, is: 3}\n",
    }
    (found,) = problems(tmp_path, files, lambda table, directory: {"user_id": "string", "plan": "string"})
    assert "2:29 warning: " in found


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2024-01-01", 1_704_067_200_000),
        ('"2024-01-01T10:00:00.1239+02:00"', 1_704_096_000_123),
        ("2024-01-01T00:00:00Z", 1_704_067_200_000),
        ("1969-12-31T23:59:59.9999Z", -1),
    ],
)
def test_instants_are_milliseconds(tmp_path: Path, text: str, ms: int) -> None:
    assert predicate(tmp_path, text, "attribute: since") == Predicate((Comparison("eq", ms),), instants=True)
    listed = predicate(tmp_path, f"[{text}]", "attribute: since")
    assert listed == Predicate((Comparison("in", (ms,)),), instants=True)
    assert predicate(tmp_path, "{exists: true}", "attribute: since").instants


def times(directory: Path, text: str) -> Predicate:
    found = condition(directory, f"{{event: X, times: {text}}}")
    assert isinstance(found, EventCondition)
    return found.times


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", [("eq", 3)]),
        ("0", [("eq", 0)]),
        ('">= 3"', [("gte", 3)]),
        ('">= 3.0"', [("gte", 3)]),
        ("[1, 2]", [("in", (1, 2))]),
        ("{gte: 3, lt: 10}", [("gte", 3), ("lt", 10)]),
    ],
)
def test_times(tmp_path: Path, text: str, expected: list[tuple[str, object]]) -> None:
    assert times(tmp_path, text) == comparisons(*expected)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("often", "is a number, not the text"),
        ("'3'", "is a number, not the text"),
        ('">= 3 times"', "is a number, not the text"),
        ("true", "is a number, not the value"),
        ("2.5", "whole numbers"),
        ("{exists: true}", "always exists"),
        ("{contains: 3}", "does not go with a number of events"),
        ("{gt: {attribute: mrr}}", "only `is`"),
        ("null", "nothing"),
    ],
)
def test_times_that_are_refused(tmp_path: Path, text: str, says: str) -> None:
    found = audience_problems(tmp_path, f"name: a\nwhen: {{event: Order Completed, times: {text}}}\n")
    assert says in found[-1]
    assert found[-1].startswith("2:")


def test_two_bounds_in_one_text_are_doubted(tmp_path: Path) -> None:
    (found,) = audience_problems(tmp_path, 'name: a\nwhen: {trait: x, is: ">= 3, < 5"}\n')
    assert "warning: `3, < 5` is compared as one text" in found


def test_a_block_of_text_is_no_comparison(tmp_path: Path) -> None:
    (found,) = audience_problems(tmp_path, "name: a\nwhen:\n  event: Order Completed\n  times: >3\n  within: 1 day\n")
    assert "4:10 error: `>` begins a block of text" in found
