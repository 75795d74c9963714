"""What people write who do not know the language by heart, and what they are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from opportune.audiences.durations import duration_ms
from tests.unit.audiences.projects import loaded

BESIDE = "it belongs beside `event`: in the same mapping, indented as far as `event` is, without a `- ` of its own"


@pytest.mark.parametrize(
    ("audience", "message", "hint"),
    [
        ("when: {event: X, times: '=> 3'}", "`=>` is no comparison", "did you mean `>=`?"),
        ("when: {event: X, times: '=< 3'}", "`=<` is no comparison", "did you mean `<=`?"),
        ("when: {trait: x, is: '<> 3'}", "`<>` is no comparison", "did you mean `!=`?"),
        ("when: {event: X}\nwithin: 1 day", "an audience has no key `within`", BESIDE),
        ("when: {event: X}\ntimes: 3", "an audience has no key `times`", BESIDE),
        ("when: {all: [{event: X}], within: 1 day}", "a combination has no key `within`", BESIDE),
        ("when: [{event: X}, {within: 1 day}]", "`within` is no condition by itself", BESIDE),
        ("when: {not: [{event: X}]}", "there is no condition `not`", "did you mean `none`?"),
        ("when: {or: [{event: X}]}", "there is no condition `or`", "did you mean `any`?"),
        ("when: {event: X, within: 1h30m}", "`within`: `1h30m` is not a duration in one unit", "write `90 minutes`"),
        ("when: {event: X, within: today}", "`within`: `today` is not a duration", "did you mean `day`?"),
        ("when: {event: X, within: this week}", "`within`: `this week` is not a duration", "did you mean `week`?"),
        ("when: {trait: x, equals: free}", "a condition on `trait` has no key `equals`", "did you mean `is`?"),
        ("when: {trait: x, eqals: free}", "a condition on `trait` has no key `eqals`", "did you mean `is`?"),
        ("when: {trait: x, is: {eqals: free}}", "there is no operator `eqals`", "did you mean `eq`?"),
        ("when: {event: X, sum: y}", "the sum of `y` is compared with nothing", 'is: ">= 100"'),
        ("when:\n  event: X\n    within: 1 day", "this line is indented differently from line 3", "one column"),
        ("when:\n   event: X\n # so\n  within: 1 day", "this line is indented differently from line 3", "one column"),
        ("when:\n  - event: X\n   within: 1 day", "this line is indented differently from line 3", "one column"),
        ("when: a: b", "a `:` is not expected here", "quote"),
    ],
)
def test_what_is_said(tmp_path: Path, audience: str, message: str, hint: str) -> None:
    project, found = loaded(tmp_path, {"audiences/a.yml": f"name: a\n{audience}\n"})
    assert project is None
    assert message in [one.message for one in found]
    assert hint in next(one.hint for one in found if one.message == message)


@pytest.mark.parametrize(
    ("text", "same"),
    [("1 hour 30 minutes", "90 minutes"), ("1 day and 2 hours", "26 hours"), ("1.5h, 20s", "5420 seconds")],
)
def test_a_sum_of_durations_is_said_in_one_unit(tmp_path: Path, text: str, same: str) -> None:
    (found,) = loaded(tmp_path, {"audiences/a.yml": f"name: a\nwhen: {{event: X, within: '{text}'}}\n"})[1]
    assert found.hint == f"write `{same}`"
    assert duration_ms(same)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file(tmp_path: Path, text: str) -> None:
    right = "name: a\nwhen: {trait: x, is: y}\n"
    project, found = loaded(tmp_path, {"audiences/a.yml": right, "audiences/b.yml": text, "traits/c.yml": text})
    assert project is not None
    assert {(one.severity, one.message) for one in found} == {
        ("warning", "there is no audience in this file"),
        ("warning", "there is no computed trait in this file"),
    }


def test_a_directory_of_nearly_the_right_name(tmp_path: Path) -> None:
    right = "name: a\nwhen: {trait: x, is: y}\n"
    project, found = loaded(tmp_path, {"audience/a.yml": right, "stories/s.yml": "not: read\n"})
    (only,) = found
    assert project is None
    assert (only.severity, only.hint) == ("error", "name it `audiences`")
    assert only.message == "this directory looks like a part of the project, and is not read"
    project, found = loaded(tmp_path, {"audiences/a.yml": right, "story/s.yml": "a: b\n", "state/x.yml": "a: b\n"})
    assert project is not None
    assert [(one.severity, one.hint) for one in found] == [
        ("warning", "name it `audiences`"),
        ("warning", "name it `stories`"),
    ]
