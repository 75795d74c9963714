from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from opportune.audiences.diagnostics import EXCERPT_CHARS, Report, nearest, quoted
from opportune.audiences.loader import load, load_project
from opportune.audiences.schema import Span
from opportune.errors import DefinitionError
from tests.unit.audiences.projects import write


def rendered(text: str, line: int, column: int) -> str:
    report = Report()
    report.source("f.yml", text)
    report.error(Span("f.yml", line, column), "wrong", "do right")
    (found,) = report.diagnostics()
    return found.render()


def test_place_line_caret_and_hint() -> None:
    assert rendered("a: 1\nb: two\n", 2, 4) == "f.yml:2:4: error: wrong\n  b: two\n     ^\n  hint: do right"


def test_the_caret_stands_under_wide_characters() -> None:
    assert rendered("価格: x\n", 1, 5).splitlines()[2] == "  " + " " * 6 + "^"


def test_a_tab_is_one_column() -> None:
    assert rendered("a:\tx\n", 1, 4).splitlines()[1:3] == ["  a: x", "     ^"]


def test_a_long_line_is_cut_around_the_place() -> None:
    head, excerpt, caret, _ = rendered("x" * 5_000 + "!" + "y" * 5_000, 1, 5_001).splitlines()
    assert head == "f.yml:1:5001: error: wrong"
    assert len(excerpt) <= EXCERPT_CHARS + 2
    assert excerpt[caret.index("^")] == "!"


def test_a_place_beyond_the_text_has_no_line() -> None:
    assert rendered("a", 7, 3) == "f.yml:7:3: error: wrong\n  hint: do right"


def test_nothing_reaches_a_terminal_unescaped() -> None:
    assert quoted("a\x1b[31mb\u202ec") == "`a\\x1b[31mb\\u202ec`"
    assert "\x1b" not in rendered("a: \x1b[31m", 1, 1)
    assert len(quoted("x" * 1_000)) < 70


def test_the_nearest_name() -> None:
    names = ["Order Completed", "Product Viewed"]
    assert nearest("order complete", names) == "Order Completed"
    assert nearest("Zebra", names) is None
    assert nearest("x" * 100_000, ["x" * 100_000]) is None


def test_an_error_of_a_shared_node_is_told_once(tmp_path: Path) -> None:
    text = "- {name: a, when: &x {trait: x, is: {foo: 1}}}\n- {name: b, when: *x}\n"
    _, found = load(write(tmp_path, {"audiences/a.yml": text}))
    assert len(found) == 1


def test_the_whole_report_is_raised(tmp_path: Path) -> None:
    write(tmp_path, {"opportune.yml": "nam: a\n", "audiences/a.yml": "name: a\n"})
    with pytest.raises(DefinitionError) as error:
        load_project(tmp_path)
    report = str(error.value)
    assert report.count(": error: ") == 3
    assert f"{tmp_path}/opportune.yml:1:1: error: opportune.yml has no key `nam`" in report
    assert f"{tmp_path}/audiences/a.yml:1:1: error: an audience needs `when`" in report


def test_json_has_the_same(tmp_path: Path) -> None:
    _, found = load(write(tmp_path, {"audiences/a.yml": "name: a\n"}))
    assert msgspec.json.decode(msgspec.json.encode([one.as_json() for one in found])) == [
        {
            "severity": "error",
            "file": f"{tmp_path}/audiences/a.yml",
            "line": 1,
            "column": 1,
            "message": "an audience needs `when`",
            "hint": "",
            "excerpt": "name: a",
        }
    ]


def test_a_file_name_that_is_no_text_can_be_told(tmp_path: Path) -> None:
    _, found = load(write(tmp_path, {"audiences/\udcff\n.yml": "name: a\n"}))
    (one,) = found
    assert "audiences/\\udcff\\n.yml:1:1: error: " in one.render()
    assert b"udcff" in msgspec.json.encode(one.as_json())
