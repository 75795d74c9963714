from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.audiences.projects import audience_problems, loaded, problems


def of(*audiences: tuple[str, str]) -> str:
    return "".join(f"- {{name: {name}, when: {when}}}\n" for name, when in audiences)


def test_an_unknown_audience(tmp_path: Path) -> None:
    (found,) = audience_problems(tmp_path, of(("open_cart", "{trait: x, is: y}"), ("b", "{audience: opencart}")))
    assert found == "2:30 error: there is no audience `opencart`"


def test_an_audience_with_errors_is_not_unknown(tmp_path: Path) -> None:
    found = audience_problems(tmp_path, of(("a", "{trait: x}"), ("b", "{audience: a}")))
    assert [one.split(": ")[1] for one in found] == ["the trait `x` is compared with nothing"]


def test_nothing_is_unknown_where_a_file_could_not_be_read(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"audiences/a.yml": of(("b", "{audience: a}")), "audiences/b.yml": "name: 'a\n"}
    (found,) = problems(tmp_path, files)
    assert found.startswith("audiences/b.yml:")


@pytest.mark.parametrize(
    ("audiences", "ring"),
    [
        ([("a", "{audience: a}")], "a -> a"),
        ([("a", "{audience: b}"), ("b", "{none: [{audience: a}]}")], "a -> b -> a"),
        ([("a", "{audience: b}"), ("b", "[{audience: d}, {audience: c}]"), ("c", "{audience: b}"), ("d", "{trait: x, is: y}")], "b -> c -> b"),
    ],
)  # fmt: skip
def test_a_ring_names_its_path(tmp_path: Path, audiences: list[tuple[str, str]], ring: str) -> None:
    (found,) = audience_problems(tmp_path, of(*audiences))
    assert found.endswith(f"error: audiences in a ring: {ring}")


def test_two_rings_are_two_errors(tmp_path: Path) -> None:
    audiences = of(("a", "{audience: a}"), ("b", "{audience: c}"), ("c", "{audience: b}"), ("d", "{audience: b}"))
    assert len(audience_problems(tmp_path, audiences)) == 2


def test_a_long_chain_is_no_ring(tmp_path: Path) -> None:
    chain = [(f"a{n}", f"{{audience: a{n + 1}}}") for n in range(2_000)]
    assert audience_problems(tmp_path, of(*chain, ("a2000", "{trait: x, is: y}"))) == []


def test_many_ways_to_one_audience_are_walked_once(tmp_path: Path) -> None:
    layers = [(f"a{n}", f"[{{audience: a{n + 1}}}, {{audience: a{n + 1}}}]") for n in range(60)]
    assert audience_problems(tmp_path, of(*layers, ("a60", "{trait: x, is: y}"))) == []


def test_an_undeclared_event_where_events_are_declared(tmp_path: Path) -> None:
    text = of(("a", "{event: Order Complete}"))
    assert audience_problems(tmp_path, text) == ["1:27 warning: events.yml does not declare the event `Order Complete`"]
    assert audience_problems(tmp_path, text, **{"events.yml": ""}) == []


SHOP = """\
Order Completed: {properties: {total: number, cart_id: string, sku: string, cart: {path: basket}}}
Moved: {properties: {lat: number, lng: number}}
Bare: {}
"""


@pytest.mark.parametrize(
    ("when", "misspelt", "hint"),
    [
        ("{event: Order Completed, where: {totl: 3}}", "totl", "did you mean `total`?"),
        ("{event: Order Completed, where: {weight: 3}}", "weight", "declare it in events.yml"),
        ("{event: Order Completed, where: {properties.totl: 3}}", "properties.totl", "did you mean `total`?"),
        ("{event: Order Completed, where: {total.net: 3}}", "total.net", "did you mean `total`?"),
        ("{event: Order Completed, sum: totl, is: 3}", "totl", "did you mean `total`?"),
        ("{event: Order Completed, distinct: skuu, is: 3}", "skuu", "did you mean `sku`?"),
        ("{event: Order Completed, last: xyz, is: a}", "xyz", "declare it in events.yml"),
        (
            "{sequence: [{event: Order Completed}, {event: Bare}], by: cartid, within: 1 day}",
            "cartid",
            "did you mean `cart_id`?",
        ),
        (
            "{sequence: [{event: Order Completed, where: {totl: 3}}, {event: Bare}], within: 1 day}",
            "totl",
            "did you mean `total`?",
        ),
        (
            "{absent: {event: Bare}, after: {event: Order Completed}, for: 1 hour, by: cartid, within: 1 day}",
            "cartid",
            "did you mean `cart_id`?",
        ),
    ],
)
def test_a_property_that_its_event_does_not_declare(tmp_path: Path, when: str, misspelt: str, hint: str) -> None:
    (found,) = loaded(tmp_path, {"events.yml": SHOP, "audiences/a.yml": of(("a", when))})[1]
    assert found.message == f"the event `Order Completed` declares no property `{misspelt}`"
    assert (found.severity, found.hint) == ("warning", hint)


def test_properties_of_traits_and_of_models_are_looked_for_too(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "events.yml": SHOP + "Big: {name: Order, where: {totl: 3}, properties: {total: number}}\n",
        "traits/a.yml": "{name: spent, event: Order Completed, sum: totl}\n",
        "audiences/a.yml": of(("a", "{trait: spent, is: 3}")),
    }
    assert problems(tmp_path, files) == [
        "events.yml:4:28 warning: the event `Big` declares no property `totl`",
        "traits/a.yml:1:44 warning: the event `Order Completed` declares no property `totl`",
    ]


def test_a_position_is_looked_for(tmp_path: Path) -> None:
    near = "{near: {lat: 1, lon: 2}, radius: 1 km, fresh: 1 hour, event: %s}"
    files: dict[str, str | bytes] = {"events.yml": SHOP, "audiences/a.yml": of(("a", near % "Order Completed"))}
    assert [found.split(": ", 1)[1] for found in problems(tmp_path, files)] == [
        "the event `Order Completed` declares no property `lat` or `latitude`",
        "the event `Order Completed` declares no property `lon` or `lng` or `longitude`",
    ]
    assert problems(tmp_path, {"audiences/a.yml": of(("a", near % "Moved"))}) == []


@pytest.mark.parametrize(
    "when",
    [
        "{event: Order Completed, where: {basket: 1, basket.weight: 2, context.page.url: x}}",
        "{event: Order Completed, where: {properties.total: 3}}",
        "{event: Bare, sum: anything, is: 3}",
        "{event: Bare, where: {anything: 3}}",
    ],
)
def test_what_may_well_be_there(tmp_path: Path, when: str) -> None:
    found = problems(tmp_path, {"events.yml": SHOP, "audiences/a.yml": of(("a", when))})
    assert found == []


RETENTION = "name: shop\ntopics: {retention: 7 days}\n"


def test_windows_beyond_the_retention(tmp_path: Path) -> None:
    text = of(
        ("a", "{event: Order Completed, within: 7 days}"),
        ("b", "{event: Order Completed, within: 8 days}"),
        ("c", "[{event: Order Completed}, {event: Order Completed, times: 3}]"),
    )
    found = audience_problems(tmp_path, text, **{"opportune.yml": RETENTION})
    assert found == [
        "2:27 warning: the window of 8 days is longer than the 7 days that the topic keeps",
        "3:28 warning: without `within` all events ever count (and 1 more), "
        "and the topic keeps 7 days: a rebuild would count less",
    ]
    assert audience_problems(tmp_path, text, **{"opportune.yml": "name: a\ntopics: {create: false}\n"}) == []


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ("{event: Order Completed, times: '>= 0'}", "this always holds for the number of events"),
        ("{event: Order Completed, times: {gte: 5, lt: 3}}", "this can never hold for the number of events"),
        ("{attribute: plan, is: {eq: a, ne: a}}", "this can never hold for the column `plan`"),
        ("{trait: x, is: {exists: false, eq: a}}", "this can never hold for the trait `x`"),
        ("{during: {}}", "this always holds"),
        ("{during: {timezone: profile}}", "this always holds"),
        ("{trait: x, is: {gt: true}}", "true and false have no order"),
        ("{all: [{trait: x, is: 1}, {none: [{trait: x, is: 1}]}]}", "this can never hold"),
        ("{any: [{trait: x, is: 1}, {none: [{trait: x, is: 1}]}]}", "this always holds"),
        ('{during: {from: "00:00", to: "24:00"}}', "this always holds"),
        ("[{attribute: plan, is: a}, {attribute: plan, is: b}]", "this can never hold"),
    ],
)
def test_what_can_never_or_always_hold(tmp_path: Path, when: str, says: str) -> None:
    (found,) = audience_problems(tmp_path, f"name: a\nwhen: {when}\n")
    assert f" warning: {says}" in found


@pytest.mark.parametrize(
    "when",
    [
        "[{trait: x, is: a}, {trait: x, is: b}]",  # A list may have both.
        "{all: [{trait: x, is: 1}, {none: [{trait: x, is: true}]}]}",
        "{all: [{trait: x, is: 1}, {none: [{trait: x, is: 1}, {trait: y, is: 1}]}], any: [{trait: z, is: 1}]}",
        "{event: Order Completed, times: 0}",
        "[{attribute: plan, is: [a, b]}, {attribute: plan, is: {ne: b}}]",
    ],
)
def test_what_is_not_doubted(tmp_path: Path, when: str) -> None:
    assert [one for one in audience_problems(tmp_path, f"name: a\nwhen: {when}\n") if "this" in one] == []


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ("{event: Order Completed, sum: total, is: '> 1', within: 8 days}", "the window of 8 days is longer than"),
        ("{event: Order Completed, within: month}", "the window of 31 days is longer than"),
        ("{event: Order Completed, sum: total, is: '> 1'}", "without `within` all events ever count"),
        ("{sequence: [{event: Order Completed}, {event: Order Completed}]}", "without `within` all events ever count"),
        ("{absent: {event: Order Completed}, after: {event: Order Completed}, for: 1 day, within: 9 days}", "the window of 9 days"),
    ],
)  # fmt: skip
def test_windows_of_every_kind_are_looked_at(tmp_path: Path, when: str, says: str) -> None:
    found = audience_problems(tmp_path, of(("a", when)), **{"opportune.yml": RETENTION})
    assert any("warning: " in one and says in one for one in found), found


def test_a_window_that_the_topic_covers_is_no_warning(tmp_path: Path) -> None:
    found = audience_problems(
        tmp_path,
        of(("a", "{event: Order Completed, sum: total, is: '> 1', within: day}")),
        **{"opportune.yml": RETENTION},
    )
    assert found == []
