"""Random projects for property tests: few names and values, so that definitions and events collide.

Owns: the strategies ``projects`` and ``rows``. Conditions are at most four deep; windows go from one millisecond to ever.
Not here: logs (tests.model.logs), what is compared (tests.model.test_engine_equals_oracle).
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import TypeVar

from hypothesis import strategies as st

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
    Table,
    TraitCondition,
    Where,
)
from opportune.project import Project
from opportune.settings import Clock, Dedupe, Settings
from tests.oracle.builders import DAY_0, project
from tests.oracle.evaluator import Row
from tests.oracle.evaluator import Scalar as Value

T = TypeVar("T")
CUSTOMERS = Table(
    "customers",
    "customers.csv",
    "user_id",
    columns={"plan": "string", "n": "number", "since": "timestamp", "vip": "boolean"},
)
WINDOWS_MS = (1, 2, 3, 5, 10, 50, 60_000, 120_000, None)
SCALARS: tuple[Scalar, ...] = (0, 1, 2, Decimal("1.5"), Decimal("0.1"), "1", "a", "ab", "b", "", True, False)
NUMBERS: tuple[Scalar, ...] = (0, 1, 2, Decimal("1.5"))
TEXTS: tuple[Scalar, ...] = ("a", "b", "ab", "")
PATTERNS = ("a", "^b", "a$", "^(a|b)+$", "[0-9]")
MOMENTS = (DAY_0, DAY_0 + 1, DAY_0 + 2)
PATHS = (
    Path("properties", ("p",)),
    Path("properties", ("q",)),
    Path("properties", ("list",)),
    Path("properties", ("items", "sku")),
    Path("properties", ("o", "x")),
    Path("context", ("c",)),
    Path("traits", ("t",)),
)
MODELS = (
    *[EventModel("A", "track", "A")] * 5,
    EventModel("B", "track", "B"),
    EventModel("C", "track", "C"),
    EventModel("Small", "track", "A", (Where(Path("properties", ("p",)), Predicate((Comparison("lt", 2),))),)),
    EventModel("Home", "page", "home"),
    EventModel("Any page", "page", None),
    EventModel("Screen", "screen", "home"),
    EventModel("Signed in", "identify", None),
    EventModel("Grouped", "group", None),
)
TRAITS = (("plan",), ("plan",), ("n",), ("address", "city"))
TIMES: tuple[tuple[Comparison, ...], ...] = (
    *[(Comparison("gte", 1),)] * 4,
    (Comparison("gte", 2),),
    (Comparison("gte", 3),),
    (Comparison("gt", 1),),
    (Comparison("eq", 1),),
    (Comparison("eq", 2),),
    (Comparison("eq", 0),),
    (Comparison("lt", 1),),
    (Comparison("lt", 3),),
    (Comparison("lte", 1),),
    (Comparison("ne", 1),),
    (Comparison("ne", 0),),
    (Comparison("in", (1, 3)),),
    (Comparison("in", tuple(range(1, 19, 2))),),
    (Comparison("not_in", (0, 2, 4)),),
    (Comparison("not_in", (0, 2)),),
    (Comparison("gte", 1), Comparison("lt", 3)),
    (Comparison("gt", Decimal("1.5")),),
    (Comparison("gte", 0),),
)


def weighted(*strategies: tuple[int, st.SearchStrategy[T]]) -> st.SearchStrategy[T]:
    """One of the strategies, chosen by weight (``st.one_of`` would drop what is there twice)."""
    return st.sampled_from([each for weight, each in strategies for _ in range(weight)]).flatmap(lambda each: each)


def _one(op: Operator, operands: tuple[Scalar, ...]) -> st.SearchStrategy[Comparison]:
    return st.sampled_from([Comparison(op, operand) for operand in operands])


def _among(op: Operator, operands: tuple[Scalar, ...]) -> st.SearchStrategy[Comparison]:
    return st.lists(st.sampled_from(operands), min_size=1, max_size=3).map(lambda some: Comparison(op, tuple(some)))


EXISTS = st.sampled_from([Comparison("exists", True), Comparison("exists", False)])


def comparisons(values: tuple[Scalar, ...], ordered: tuple[Scalar, ...]) -> st.SearchStrategy[Comparison]:
    """One comparison with operands among these."""
    return st.one_of(
        _one("eq", values),
        _one("ne", values),
        _one("gte", ordered),
        _one("gt", ordered),
        _one("lt", ordered),
        _one("lte", ordered),
        _among("in", values),
        _among("not_in", values),
        _one("contains", values),
        _one("starts_with", TEXTS),
        _one("ends_with", TEXTS),
        _one("matches", PATTERNS),
        EXISTS,
    )


def predicates(one: st.SearchStrategy[Comparison], instants: bool = False) -> st.SearchStrategy[Predicate]:
    """One or two comparisons, of different operators."""
    several = st.lists(one, min_size=1, max_size=2, unique_by=lambda comparison: comparison.op)
    return several.map(lambda made: Predicate(tuple(made), instants))


ANYTHING = predicates(comparisons(SCALARS, NUMBERS + TEXTS))
INSTANTS = predicates(
    st.one_of(
        *(_one(op, MOMENTS) for op in ("eq", "ne", "gt", "gte", "lt", "lte")),
        _among("in", MOMENTS),
        _among("not_in", MOMENTS),
        EXISTS,
    ),
    instants=True,
)
WHERES = weighted(
    (3, st.builds(Where, st.sampled_from(PATHS), ANYTHING)),
    (1, st.builds(Where, st.just(Path("properties", ("when",))), INSTANTS)),
)
EVENTS: st.SearchStrategy[Condition] = st.builds(
    EventCondition,
    st.sampled_from(MODELS),
    weighted((4, st.just(())), (3, WHERES.map(lambda one: (one,))), (1, st.tuples(WHERES, WHERES))),
    st.sampled_from(TIMES).map(Predicate),
    st.sampled_from(WINDOWS_MS),
)
TRAIT_VALUES: st.SearchStrategy[Condition] = st.builds(TraitCondition, st.sampled_from(TRAITS), ANYTHING)
ATTRIBUTES: st.SearchStrategy[Condition] = st.one_of(
    st.builds(AttributeCondition, st.just("customers"), st.just("plan"), predicates(comparisons(TEXTS, TEXTS))),
    st.builds(
        AttributeCondition,
        st.just("customers"),
        st.just("n"),
        predicates(
            st.one_of(_one("gte", NUMBERS), _one("lt", NUMBERS), _one("ne", NUMBERS), _among("in", NUMBERS), EXISTS)
        ),
    ),
    st.builds(AttributeCondition, st.just("customers"), st.just("since"), INSTANTS),
    st.builds(
        AttributeCondition,
        st.just("customers"),
        st.just("vip"),
        predicates(st.one_of(_one("eq", (True, False)), EXISTS)),
    ),
)


@cache
def conditions(names: tuple[str, ...], tables: bool, depth: int = 4) -> st.SearchStrategy[Condition]:
    """Conditions that may name audiences of ``names``; ``tables``: attributes may be read."""
    leaves = [(6, EVENTS), (1, TRAIT_VALUES)]
    if tables:
        leaves.append((1, ATTRIBUTES))
    if names:
        leaves.append((2, st.sampled_from(names).map(AudienceCondition)))
    if depth <= 1:
        return weighted(*leaves)
    children = st.lists(st.deferred(lambda: conditions(names, tables, depth - 1)), min_size=1, max_size=3).map(tuple)
    combined: list[tuple[int, st.SearchStrategy[Condition]]] = [
        (1, st.builds(All, children)),
        (1, st.builds(Any, children)),
        (1, st.builds(Not, children)),
    ]
    return weighted(*leaves, *combined)


SETTINGS = st.builds(
    Settings,
    clock=st.sampled_from([Clock(), Clock(), Clock(lateness_ms=50), Clock(lateness_ms=60_000)]),
    dedupe=st.sampled_from([Dedupe(), Dedupe(), Dedupe(period_ms=1), Dedupe(period_ms=10), Dedupe(period_ms=60_000)]),
)


@st.composite
def projects(draw: st.DrawFn, tables: bool = True) -> Project:
    """A project of two to six audiences; later ones may name earlier ones."""
    names = [f"a{number}" for number in range(draw(st.integers(2, 6)))]
    made: dict[str, Condition] = {}
    # Names and nesting go against each other half of the time: the order of names must not matter.
    for name in names if draw(st.booleans()) else reversed(names):
        made[name] = draw(conditions(tuple(made), tables))
    return project(made, draw(SETTINGS), {"customers": CUSTOMERS} if tables else {})


def rows() -> st.SearchStrategy[dict[str, dict[str, Row]]]:
    """Rows of the table ``customers`` for some people, two of whom never send an event."""
    values: dict[str, st.SearchStrategy[Value]] = {
        "plan": st.sampled_from(["a", "b", "ab", None]),
        "n": st.sampled_from([0, 1, 2, Decimal("1.5"), None]),
        "since": st.sampled_from([*MOMENTS, None]),
        "vip": st.sampled_from([True, False, None]),
    }
    keys = st.sampled_from(["u1", "u2", "3", "r1", "r2"])
    row = st.fixed_dictionaries(values)
    return st.dictionaries(keys, row, max_size=4).map(lambda table: {"customers": dict(table)})
