"""identity.yml: what it says, and what is said of what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from opportune.audiences.diagnostics import Report
from opportune.audiences.identity_file import read_identity
from opportune.audiences.yaml_tree import read_text
from opportune.identifiers import Blocked, IdentitySettings


def read(text: str) -> tuple[IdentitySettings, list[str]]:
    """The settings, and the messages of the errors."""
    report = Report()
    settings = read_identity(read_text(text, "identity.yml", report), report)
    return settings, [each.message for each in report.diagnostics()]


def test_nothing_said_is_the_defaults() -> None:
    assert read("") == (IdentitySettings(), [])
    assert read_identity((), Report()) == IdentitySettings()


def test_the_page_tells_the_defaults() -> None:
    page = (Path(__file__).parents[3] / "docs" / "identity.md").read_text()
    assert read(page.split("```yaml\n")[1].split("```")[0]) == (IdentitySettings(), [])


def test_namespaces_of_ones_own() -> None:
    settings, problems = read(
        "namespaces:\n"
        "  card: {path: properties.card, of: track}\n"
        "  user_id: {path: [userId, traits.id], limit: 2}\n"
        "  phone: {path: traits.phone, normalise: phone, region: DE, shared: true}\n"
        "blocked: [Nobody, '/^x+$/']\n"
        "alias_previous: user_id\n"
    )
    assert problems == []
    card, user, phone = settings.namespaces
    assert (card.paths, card.of, card.limit) == ((("properties", "card"),), ("track",), 1)
    assert (user.paths, user.limit, user.of) == ((("userId",), ("traits", "id")), 2, ())
    assert (phone.normalise, phone.region, phone.shared) == ("phone", "DE", True)
    blocked = Blocked(settings.blocked)
    assert [text for text in ("nobody", "NOBODY", "XX", "null", "xy") if blocked(text)] == ["nobody", "NOBODY", "XX"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("namespaces: {}", "an empty `namespaces` knows nobody"),
        ("namespaces: {a-b: {path: userId}}", "`a-b` cannot be a namespace"),
        ("namespaces: {" + "a" * 65 + ": {path: userId}}", f"`{'a' * 57}...` cannot be a namespace"),
        ("namespaces: {a: {limit: 1}}", "the namespace `a` needs `path`"),
        ("namespaces: {a: {path: userID}}", "a message has no identifier `userID` of its own"),
        ("namespaces: {a: {path: user.id}}", "`user.id` is no path to a value"),
        ("namespaces: {a: {path: userId, limit: 0}}", "`limit` is a whole number from 1 to 1000"),
        ("namespaces: {a: {path: userId, limit: many}}", "`limit` is a whole number from 1 to 1000"),
        ("namespaces: {a: {path: userId, shared: 1}}", "`shared` is true or false"),
        ("namespaces: {a: {path: userId, region: de}}", "`de` is not a country"),
        ("blocked: ['/(/']", "`/(/` is no regular expression"),
        ("blocked: [{a: b}]", "a blocked value is a text or a number"),
        ("alias_previous: device", "`alias_previous` is one of"),
        ("priority: [a]", "identity.yml has no key `priority`"),
    ],
)
def test_what_is_wrong_is_said(text: str, problem: str) -> None:
    _, problems = read(text)
    assert [message for message in problems if message.startswith(problem)], problems
