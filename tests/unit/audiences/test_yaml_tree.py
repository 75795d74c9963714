from __future__ import annotations

import os
from pathlib import Path

import pytest

from opportune.audiences.diagnostics import Report
from opportune.audiences.yaml_tree import (
    DEPTH_MAX,
    FILE_BYTES_MAX,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    read_file,
    read_text,
)


def plain(node: Node) -> object:
    if isinstance(node, ScalarNode):
        return node.value()
    if isinstance(node, SequenceNode):
        return [plain(item) for item in node.items]
    return {key.text: plain(value) for key, value in node.entries}


def read(text: str) -> list[object]:
    report = Report()
    documents = read_text(text, "f.yml", report)
    assert documents is not None, report.diagnostics()
    return [plain(document) for document in documents]


def error(text: str) -> tuple[int, int, str, str]:
    report = Report()
    assert read_text(text, "f.yml", report) is None
    (found,) = report.diagnostics()
    return found.span.line, found.span.column, found.message, found.hint


def test_every_key_and_value_knows_its_place() -> None:
    documents = read_text("a:\n  - b: c\n    d: 'e'\n", "f.yml", Report())
    assert documents is not None
    (root,) = documents
    assert isinstance(root, MappingNode)
    (key, value) = root.entries[0]
    assert (key.span.line, key.span.column) == (1, 1)
    assert isinstance(value, SequenceNode)
    inner = value.items[0]
    assert isinstance(inner, MappingNode)
    places = [(k.text, k.span.line, k.span.column, v.span.line, v.span.column) for k, v in inner.entries]
    assert places == [("b", 2, 5, 2, 8), ("d", 3, 5, 3, 8)]


def test_documents_and_empty_ones() -> None:
    assert read("a: 1\n---\n- b\n---\n---\n# nothing\n") == [{"a": 1}, ["b"]]
    assert read("") == []
    assert read("# nothing\n") == []


def test_quoted_is_text_and_unquoted_is_read() -> None:
    assert read("[1, '1', \"true\", true, no, 18:00, ~, '~']") == [[1, "1", "true", True, "no", "18:00", None, "~"]]


def test_yaml_1_1_is_not_asked_for_by_a_directive() -> None:
    assert read("%YAML 1.1\n---\na: no\n") == [{"a": "no"}]


def test_aliases_stand_for_their_node() -> None:
    assert read("a: &x {b: 1}\nc: *x\n") == [{"a": {"b": 1}, "c": {"b": 1}}]


def test_anchors_end_with_their_document() -> None:
    assert error("a: &x 1\n---\nb: *x\n")[:2] == (3, 4)


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("a: 1\na: 2\n", 2, 1, "twice"),
        ("a: 1\n'a': 2\n", 2, 1, "twice"),
        ("a:\n  <<: {b: 1}\n", 2, 3, "merge keys"),
        ("[a]: 1\n", 1, 1, "a key is a text"),
        ("~: 1\n", 1, 1, "a key is a text"),
        ("a:\n\tb: 1\n", 2, 1, "tab"),
        ("a: [1,\n", 2, 1, "not YAML"),
        ("a: *b\n", 1, 4, "no"),
        ("a: &x [*x]\n", 1, 8, "stands inside"),
        ("a: !!str 5\n", 1, 4, "tag"),
        ("a: !x [1]\n", 1, 4, "tag"),
        ("a: \x01\n", 1, 4, "U+0001"),
        ('a: "\\ud800"\n', 1, 4, "surrogate"),
        ('a: "\\UFFFFFFFF"\n', 1, 7, "can be read"),
        ("a: b: c\n", 1, 5, "`:` is not expected"),
        ("a: @b\n", 1, 4, "cannot begin with"),
    ],
)
def test_what_is_not_allowed(text: str, line: int, column: int, says: str) -> None:
    found_line, found_column, message, _ = error(text)
    assert says in message, message
    assert (found_line, found_column) == (line, column)


@pytest.mark.parametrize("comparison", [">= 3", "> 3", "!= 3"])
def test_a_comparison_without_quotes_is_told_to_have_some(comparison: str) -> None:
    _, _, _, hint = error(f"times: {comparison}\n")
    assert "quotes" in hint


def test_deep_nesting_is_bounded() -> None:
    assert read("[" * DEPTH_MAX + "]" * DEPTH_MAX)
    assert "nested deeper" in error("[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1))[2]
    assert "nested deeper" in error("[" * 100_000)[2]


def test_depth_behind_an_alias_counts() -> None:
    half = DEPTH_MAX // 2 + 2
    assert "nested deeper" in error(f"- &x {'[' * half}{']' * half}\n- {'[' * half}*x{']' * half}\n")[2]


def test_what_aliases_expand_to_is_bounded() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "aliases counted" in error("\n".join(lines))[2]


def test_crlf_counts_one_line() -> None:
    assert error("a: 1\r\nb: 2\r\nb: 3\r\n")[:2] == (3, 1)


def file_error(path: Path) -> tuple[int, int, str]:
    report = Report()
    assert read_file(path, report) is None
    (found,) = report.diagnostics()
    assert found.span.file == str(path)
    return found.span.line, found.span.column, found.message


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "f.yml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    documents = read_file(path, Report())
    assert documents is not None
    assert [plain(document) for document in documents] == [{"a": 1}]


def test_invalid_utf8_has_its_place(tmp_path: Path) -> None:
    path = tmp_path / "f.yml"
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    assert file_error(path) == (2, 7, "this byte is not UTF-8")


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "directory.yml").mkdir()
    assert "not a regular file" in file_error(tmp_path / "directory.yml")[2]
    os.mkfifo(tmp_path / "fifo.yml")
    assert "not a regular file" in file_error(tmp_path / "fifo.yml")[2]
    (tmp_path / "loop.yml").symlink_to("loop.yml")
    assert "cannot be read" in file_error(tmp_path / "loop.yml")[2]
    (tmp_path / "gone.yml").symlink_to("nowhere.yml")
    assert "cannot be read" in file_error(tmp_path / "gone.yml")[2]


def test_a_file_over_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "f.yml"
    path.write_bytes(b"#" * FILE_BYTES_MAX)
    assert read_file(path, Report()) == ()
    path.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    assert "larger than 1 MiB" in file_error(path)[2]
