"""Whatever the files hold: a project, or diagnostics with their place; never an exception."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.audiences.diagnostics import Report
from opportune.audiences.loader import load
from opportune.audiences.yaml_tree import read_text

SHOP = Path(__file__).resolve().parents[3] / "examples" / "shop"
SOURCES = {path.relative_to(SHOP): path.read_bytes() for path in sorted(SHOP.rglob("*.yml"))}
BASE = [file for file in SOURCES if file.parts[0] != "audiences" or file.name == "browsing.yml"]
"""The files of the project around the changed one: few, so that many can be tried."""
PIECES = [
    b"\t", b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\xc2\x85", b"&a ", b"*a", b"<<: ", b"!!x ", b"%YAML 1.1\n", b"---\n",
    b"...\n", b"- ", b": ", b"? ", b"[", b"]", b"{", b"}", b"'", b'"', b"|", b">", b"#", b"~", b".inf", b"1e999999999", b"9" * 5000,
    b'"\\UFFFFFFFF"', b'"\\ud800"', b"2024-13-01", b"PT", b"all:", b"none: []", b"is: {gt: {attribute: plan}}", b"exists: 3", b"matches: '('",
    b"audience: pricing_intent", b"within: month", b"times: '>='", b"\n", b"  ", b"[" * 300, b"@", b"`", b"0x", b"\xe2\x80\xa8",
]  # fmt: skip


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        for file in BASE:
            (Path(name) / file.parent).mkdir(exist_ok=True)
            (Path(name) / file).write_bytes(SOURCES[file])
        yield Path(name)


def judge(directory: Path) -> None:
    project, found = load(directory)
    assert (project is None) == any(one.severity == "error" for one in found)
    for one in found:
        assert one.message
        assert Path(one.span.file).is_relative_to(directory)
        assert one.span.line >= 1
        assert one.span.column >= 1
        assert all(line.isprintable() for line in one.render().split("\n")), one
        one.render().encode()
        msgspec.json.encode(one.as_json())


@st.composite
def mutated(draw: st.DrawFn) -> tuple[Path, bytes]:
    file = draw(st.sampled_from(sorted(SOURCES)))
    content = SOURCES[file]
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 0, 1, 1, 2, 8, 40])))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=3) | st.just(b"") | st.just(content[start:end] * 2))
        content = content[:start] + piece + content[end:]
    return file, content


@given(mutated())
def test_mutated_bytes(directory: Path, case: tuple[Path, bytes]) -> None:
    file, content = case
    (directory / file).write_bytes(content)
    try:
        judge(directory)
    finally:
        (directory / file).unlink()
        if file in BASE:
            (directory / file).write_bytes(SOURCES[file])


WORDS = st.sampled_from(
    ["name", "when", "description", "start", "empty", "event", "where", "times", "within", "trait", "attribute", "is", "all",
     "any", "none", "audience", "eq", "ne", "gt", "gte", "in", "not_in", "contains", "matches", "exists", "properties", "path", "type",
     "tables", "source", "key", "columns", "plan", "number", "timestamp", "customers", "clock", "lateness", "topics", "events", "state",
     "shards", "poison", "stop", "10 minutes", ">= 3", "ever", "2024-01-01", "(", "", "a.b", "Product Viewed", "pricing_intent", "sum", "last",
     "timezone", "profile", "session", "month", "sequence", "absent", "after", "for", "by", "span", "gap", "near", "radius", "leave", "fresh",
     "200 m", "lat", "lon", "during", "days", "from", "to", "09:00", "mon", "Europe/Paris", "count"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats() | WORDS | st.text(max_size=5)
TREES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.sampled_from(["opportune.yml", "events.yml", "warehouse.yml", "audiences/browsing.yml"]), TREES)
def test_any_tree(directory: Path, name: str, tree: Any) -> None:
    # JSON is YAML, but for NaN and the infinities, which are then texts.
    (directory / name).write_text(json.dumps(tree))
    try:
        judge(directory)
    finally:
        (directory / name).write_bytes(SOURCES[Path(name)])


@st.composite
def sentences(draw: st.DrawFn) -> Any:
    """A tree with the shape of an audience, so that the deeper readers are reached."""
    predicates = TREES | st.dictionaries(
        st.sampled_from(["eq", "ne", "gt", "lt", "in", "not_in", "contains", "matches", "exists"]),
        LEAVES | st.lists(LEAVES, max_size=3),
        max_size=3,
    )
    leaf = st.one_of(
        st.fixed_dictionaries(
            {"event": WORDS},
            optional={"where": st.dictionaries(WORDS, predicates, max_size=2), "times": predicates, "within": WORDS},
        ),
        st.fixed_dictionaries({"trait": WORDS}, optional={"is": predicates}),
        st.fixed_dictionaries(
            {"attribute": st.sampled_from(["plan", "customers.customer_since", "newsletter", "x"])},
            optional={"is": predicates},
        ),
        st.fixed_dictionaries({"audience": WORDS}),
        st.fixed_dictionaries(
            {"event": WORDS, "is": predicates},
            optional={"sum": WORDS, "distinct": WORDS, "last": WORDS, "within": WORDS, "timezone": WORDS},
        ),
        st.fixed_dictionaries(
            {"sequence": st.lists(st.fixed_dictionaries({"event": WORDS}), max_size=3) | TREES},
            optional={"within": WORDS, "by": WORDS, "span": WORDS, "gap": WORDS},
        ),
        st.fixed_dictionaries(
            {"absent": st.fixed_dictionaries({"event": WORDS}), "after": TREES},
            optional={"for": WORDS, "within": WORDS, "by": WORDS},
        ),
        st.fixed_dictionaries(
            {"near": st.fixed_dictionaries({"lat": LEAVES, "lon": LEAVES}) | TREES},
            optional={"radius": WORDS, "leave": WORDS, "fresh": WORDS, "event": WORDS},
        ),
        st.fixed_dictionaries({"during": st.dictionaries(st.sampled_from(["days", "from", "to", "timezone"]), TREES)}),
    )
    conditions = st.recursive(
        leaf,
        lambda inner: st.dictionaries(st.sampled_from(["all", "any", "none"]), st.lists(inner, max_size=3), max_size=2),
        max_leaves=6,
    )
    return [{"name": draw(WORDS), "when": draw(conditions)} for _ in range(draw(st.integers(1, 3)))]


@given(sentences())
def test_anything_like_an_audience(directory: Path, tree: Any) -> None:
    (directory / "audiences/browsing.yml").write_text(json.dumps(tree))
    try:
        judge(directory)
    finally:
        (directory / "audiences/browsing.yml").write_bytes(SOURCES[Path("audiences/browsing.yml")])


@given(st.text(max_size=60) | st.text(alphabet="ab:-?[]{}&*!|>'\"%@`#,. \n\t\r\\0", max_size=40))
def test_any_text_as_yaml(text: str) -> None:
    report = Report()
    documents = read_text(text, "f.yml", report)
    assert (documents is None) == report.has_errors
