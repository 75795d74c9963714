"""Stories as text: instants, rows, and errors with their place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.audiences.diagnostics import Unreadable
from opportune.audiences.loader import load_project
from opportune.audiences.story_file import load_stories
from opportune.audiences.story_instants import FIRST_MS, story_instant
from opportune.event import instant_ms, iso_text
from opportune.story import Story
from tests.unit.audiences.projects import EVENTS, WAREHOUSE, short, write

NOON = instant_ms("2026-03-02T12:00:00Z")
AUDIENCES = "[{name: a, when: {event: Order Completed}}, {name: bees, when: {attribute: plan, is: free}}]\n"


def read(directory: Path, text: str, **files: str) -> tuple[list[Story], list[str]]:
    """The stories of one file, and what is found in it without the file's name."""
    given = {"events.yml": EVENTS, "warehouse.yml": WAREHOUSE, "audiences/a.yml": AUDIENCES, **files}
    project = load_project(write(directory, {**given, "stories/s.yml": text}))
    stories, found = load_stories(project)
    return stories, [short(one, directory).removeprefix("stories/s.yml:") for one in found]


def row(directory: Path, text: str) -> list[str]:
    """What is found in a timeline of one row and a right one."""
    return read(directory, f"story: s\ntimeline:\n- {text}\n- {{at: 23:00, members: {{a: []}}}}\n")[1]


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("12:00", "2026-03-02T12:00:00.000Z"),
        ("23:59:59.999", "2026-03-02T23:59:59.999Z"),
        ("14:00+01:00", "2026-03-02T13:00:00.000Z"),
        ("2026-03-02T11:00:00Z", "2026-03-02T11:00:00.000Z"),
        ("2026-04-01", "2026-04-01T00:00:00.000Z"),
        ("2026-03-02 12:30", "2026-03-02T12:30:00.000Z"),
        ("+5m", "2026-03-02T12:05:00.000Z"),
        ("+1h 30m", "2026-03-02T13:30:00.000Z"),
        ("+1h30m15s", "2026-03-02T13:30:15.000Z"),
        ("+1.5 hours", "2026-03-02T13:30:00.000Z"),
        ("+PT10M", "2026-03-02T12:10:00.000Z"),
        ("+0s", "2026-03-02T12:00:00.000Z"),
        ("-250ms", "2026-03-02T11:59:59.750Z"),
    ],
)
def test_instants(text: str, means: str) -> None:
    assert iso_text(story_instant(text, NOON)) == means


@pytest.mark.parametrize("text", ["11:59", "noon", "+", "+5", "+5 lightyears", "-", "25:00", "2026-13-01", "+5m later", "+99999 years"])  # fmt: skip
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(Unreadable):
        story_instant(text, NOON)


@given(st.text(max_size=20))
def test_any_text_is_an_instant_or_refused(text: str) -> None:
    try:
        found = story_instant(text, FIRST_MS)
    except Unreadable:
        return
    assert text.strip()
    assert isinstance(found, int)


def test_a_story_becomes_rows(tmp_path: Path) -> None:
    (story,), found = read(
        tmp_path,
        """\
story: an order
person: ada
warehouse: {customers: [{user_id: bob, plan: free, mrr: 0.10}]}
timeline:
- {at: 12:00, event: Order Completed, properties: {total: 0.10, lines: [{sku: x}]}, entered: a}
- {at: -5m, person: [ada, "anonymous_id:z"], event: Cart Viewed, message: {messageId: m1}, out: [a, bees]}
- {at: +1h, warehouse: {customers: []}, members: {a: [ada], bees: []}}
""",
    )
    assert found == []
    first, second, third = story.rows
    assert first.message is not None
    assert {**first.message, "timestamp": 0} == {
        "type": "track",
        "event": "Order Completed",
        "userId": "ada",
        "properties": {"total": first.message["properties"]["total"], "lines": [{"sku": "x"}]},
        "timestamp": 0,
    }
    assert str(first.message["properties"]["total"]) == "0.1"
    assert (first.now_ms, first.at_ms, second.now_ms, second.at_ms) == (NOON, NOON, NOON, NOON - 300_000)
    assert second.message is not None
    assert second.message == {
        "type": "page",
        "name": "Cart",
        "userId": "ada",
        "anonymousId": "z",
        "messageId": "m1",
        "timestamp": NOON - 300_000,
    }
    assert [(each.kind, each.audience, each.people) for each in second.expectations] == [
        ("out", "a", ("ada",)),
        ("out", "bees", ("ada",)),
    ]
    assert third.now_ms == NOON + 3_600_000
    assert third.tables == {"customers": ()}
    assert third.message is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{at: 12:00, evnt: X}", "3:15 error: a row has no key `evnt`"),
        ("{at: later, in: {a: ada}}", "3:8 error: `later` is no instant"),
        ("{event: Order Completed}", "3:3 error: the row does not say who"),
        ("{person: x, event: Order Complete}", "3:22 warning: events.yml does not declare `Order Complete`"),
        ("{person: x, event: Order Completed, page: y}", "3:39 error: a row has one of `event`, `page`"),
        ("{person: x, event: Order Completed, in: bes}", "3:43 error: there is no audience `bes`"),
        ("{person: x, event: Order Completed, in: {a: y}}", "3:47 error: nobody in this story is called `y`"),
        ("{person: x, event: Order Completed, in: {a: []}}", "3:47 error: nobody is named here"),
        ("{person: x, properties: {a: 1}, in: a}", "3:15 error: `properties` of what?"),
        ("{person: x, event: Order Completed, refused: late}", "3:48 error: `late` is no reason to refuse a message"),
        ("{warehouse: {customer: []}}", "3:16 error: there is no table `customer`"),
        ("{warehouse: {customers: {user_id: x}}}", "3:27 error: `customers` is a list of rows, not a mapping"),
        ("{warehouse: {customers: [{plan: free}]}}", "3:28 error: the row has no key `user_id`"),
        ("{warehouse: {customers: [{user_id: u, plann: x}]}}", "3:41 warning: no such column is declared: `plann`"),
        ("{person: x, event: Order Completed, properties: [1]}", "3:51 error: `properties` is a mapping (`key: value`), not a list"),
        ("{person: x, identify: {a: .inf}}", "3:29 error: `.inf` is not a number that anything can be compared with"),
        ('{person: "email:x@y.z", event: Order Completed}', "3:4 error: a message has no field for `email`"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_row_has_its_place(tmp_path: Path, text: str, says: str) -> None:
    assert any(found.startswith(says) for found in row(tmp_path, text)), row(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("story: s\ntimeline: []\n", "2:11 error: `timeline` is a list of rows, not a list"),
        ("story: s\ntimeline: [{person: x, event: Order Completed}]\n", "2:1 error: the story expects nothing"),
        ("story: s\n", "1:1 error: a story needs `timeline`"),
        ("just text\n", "1:1 error: a story is a mapping with `story` and `timeline`, not `just text`"),
        ("story: s\nstart: soon\ntimeline: [{members: {a: []}}]\n", "2:8 error: `soon` is no instant"),
        ("[{story: s, timeline: [{members: {a: []}}]}, {story: s, timeline: [{members: {a: []}}]}]", "1:54 error: the story `s` is there twice"),
        ("story: s\ntimeline:\n- {at: 12:00, members: {a: []}}\n- {at: -5m, members: {a: []}}\n", "4:8 error: time does not go back"),
        ("story: [\n", "2:1 error: this is not YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_story_has_its_place(tmp_path: Path, text: str, says: str) -> None:
    found = read(tmp_path, text)[1]
    assert any(one.startswith(says) for one in found), found


@given(
    st.text(max_size=40), st.sampled_from(["", "story: s\ntimeline:\n- ", "story: s\ntimeline: [{at: ", "- story: "])
)
def test_any_text_gives_stories_or_errors(tmp_path_factory: pytest.TempPathFactory, text: str, before: str) -> None:
    directory = tmp_path_factory.mktemp("any")
    stories, found = read(directory, before + text.encode("utf-8", "replace").decode())
    # A document that is null is none, as an empty one.
    nothing = text.strip() in ("", "~", "null", "Null", "NULL") or text.lstrip().startswith(("#", "---", "..."))
    assert stories or found or nothing
