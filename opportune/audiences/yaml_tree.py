"""The YAML of a file as a tree in which every key and every value knows its place.

Owns: reading a file, syntax errors, and what of YAML is allowed: no tags, no merge keys, no key twice, texts as keys,
bounds on size, depth and what aliases expand to. The only importer of ruamel.yaml.
Invariant: whatever the bytes are, the answer is a tree or errors with their place, never an exception.
Not here: what an unquoted scalar means (opportune.audiences.scalars), what a mapping means (the readers beside this file).
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any, TypeAlias

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.docinfo import DocInfo
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from opportune.audiences.diagnostics import LINE_BREAK, Report, quoted
from opportune.audiences.scalars import scalar_of
from opportune.audiences.schema import Scalar, Span

FILE_BYTES_MAX = 1_048_576
DEPTH_MAX = 200
NODES_MAX = 200_000
"""Nodes of one file, counting what an alias stands for each time that it is used."""


class ScalarNode(msgspec.Struct, frozen=True):
    """A text in the file. ``style``: empty for unquoted, else the character that begins it: one of ``'">|``."""

    text: str
    style: str
    span: Span

    def value(self) -> Scalar | None:
        """What the text stands for: None for null.

        Raises:
            Unreadable: a number that cannot be kept.
        """
        return self.text if self.style else scalar_of(self.text)

    @property
    def is_null(self) -> bool:
        """Whether it is null, or nothing at all."""
        return not self.style and self.text in ("", "~", "null", "Null", "NULL")


class MappingNode(msgspec.Struct, frozen=True):
    """Keys and values in the order of the file; no key is there twice."""

    entries: tuple[tuple[ScalarNode, Node], ...]
    span: Span


class SequenceNode(msgspec.Struct, frozen=True):
    """A list."""

    items: tuple[Node, ...]
    span: Span


Node: TypeAlias = ScalarNode | MappingNode | SequenceNode


class _Composed(msgspec.Struct, frozen=True):
    node: Node
    nodes: int
    height: int


def read_file(path: FilePath, report: Report) -> tuple[Node, ...] | None:
    """The documents of a file.

    Args:
        path: shown in diagnostics as it is.
        report: takes the errors.

    Returns:
        Its documents, without those that are empty; None where anything is wrong.
    """
    text = _text_of(path, report)
    return None if text is None else read_text(text, str(path), report)


def read_text(text: str, file: str, report: Report) -> tuple[Node, ...] | None:
    """The documents of a text; ``file`` is the name that diagnostics show. Returns as ``read_file``."""
    report.source(file, text)
    composer = _Composer(text, file)
    try:
        return tuple(composer.documents())
    except _Stop as stop:
        report.error(stop.span, stop.message, stop.hint)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Span(file, mark.line + 1, mark.column + 1) if mark else composer.here
        report.error(*_syntax_error(text, place, str(error.problem or error.context or "it cannot be read")))
    except ReaderError as error:
        place = _place(text[: error.position], file)
        report.error(place, f"the character U+{error.character:04X} is not allowed in YAML", "remove it")
    except (ValueError, OverflowError, IndexError, AttributeError, TypeError):
        # The parser has paths that raise these on malformed text, for example an escape beyond Unicode.
        report.error(
            composer.reached, "this is not YAML that can be read", "look at quotes and escapes (`\\U`) before here"
        )
    return None


class _Stop(Exception):
    """Ends the reading of a file at an error after which nothing in it can be trusted."""

    def __init__(self, span: Span, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.span, self.message, self.hint = span, message, hint


class _Composer:
    """Makes nodes from the parser's events; one call a level, at most ``DEPTH_MAX`` of them."""

    def __init__(self, text: str, file: str) -> None:
        self._yaml = YAML(typ="safe", pure=True)
        self._events = self._parsed(text)
        self._file = file
        self._anchors: dict[str, _Composed | None] = {}
        self._nodes = 0
        self.here = Span(file, 1, 1)

    @property
    def reached(self) -> Span:
        """How far the parser has read."""
        return Span(self._file, self._yaml.reader.line + 1, self._yaml.reader.column + 1)

    def _parsed(self, text: str) -> Iterator[Event]:
        # Not YAML.parse, which forgets on an error how far it has read.
        self._yaml.doc_infos.append(DocInfo())
        _, parser = self._yaml.get_constructor_parser(text)
        while parser.check_event():
            yield parser.get_event()

    def documents(self) -> Iterator[Node]:
        for event in self._events:
            self._at(event)
            if isinstance(event, DocumentStartEvent):
                self._anchors = {}
                root = self._compose(self._next(), 1).node
                if not (isinstance(root, ScalarNode) and root.is_null):
                    yield root
            elif not isinstance(event, DocumentEndEvent):
                continue

    def _next(self) -> Event:
        event = next(self._events)
        self._at(event)
        return event

    def _at(self, event: Event) -> None:
        self.here = Span(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _compose(self, event: Any, depth: int) -> _Composed:
        if isinstance(event, AliasEvent):
            return self._alias(event, depth)
        assert isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent)
        self._count(1, depth, 1)
        if event.tag is not None:
            hint = 'a text that begins with `!` needs quotes: "!= 3"'
            raise _Stop(self.here, f"the tag {quoted(str(event.tag))} is not used here", hint)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, ScalarEvent):
            composed = _Composed(self._scalar(event), 1, 1)
        elif isinstance(event, SequenceStartEvent):
            composed = self._sequence(depth)
        else:
            composed = self._mapping(depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = composed
        return composed

    def _scalar(self, event: ScalarEvent) -> ScalarNode:
        if not event.value.isascii() and any("\ud800" <= char <= "\udfff" for char in event.value):
            raise _Stop(self.here, "half a character (a surrogate)", "write the character itself instead of its escape")
        return ScalarNode(event.value, event.style or "", self.here)

    def _sequence(self, depth: int) -> _Composed:
        span, items = self.here, []
        while not isinstance(event := self._next(), SequenceEndEvent):
            items.append(self._compose(event, depth + 1))
        node = SequenceNode(tuple(item.node for item in items), span)
        return _Composed(
            node, 1 + sum(item.nodes for item in items), 1 + max((item.height for item in items), default=0)
        )

    def _mapping(self, depth: int) -> _Composed:
        span, nodes, height = self.here, 1, 0
        entries: dict[str, tuple[ScalarNode, Node]] = {}
        while isinstance(event := self._next(), NodeEvent):
            key = self._key(self._compose(event, depth + 1).node, entries)
            value = self._compose(self._next(), depth + 1)
            entries[key.text] = (key, _placed(value.node, key))
            nodes += 1 + value.nodes
            height = max(height, value.height)
        return _Composed(MappingNode(tuple(entries.values()), span), nodes, 1 + height)

    def _key(self, key: Node, entries: dict[str, tuple[ScalarNode, Node]]) -> ScalarNode:
        span = key.span
        if not isinstance(key, ScalarNode) or key.is_null:
            raise _Stop(span, "a key is a text here", "put quotes around a key that is not a plain word")
        if key.text == "<<" and not key.style:
            raise _Stop(span, "merge keys (`<<`) are not part of YAML 1.2", "write the entries out")
        if key.text in entries:
            first = entries[key.text][0].span
            raise _Stop(span, f"{quoted(key.text)} is there twice in one mapping", f"the first is on line {first.line}")
        return key

    def _alias(self, event: AliasEvent, depth: int) -> _Composed:
        if event.anchor not in self._anchors:
            raise _Stop(
                self.here, f"nothing above has the anchor {quoted('&' + str(event.anchor))}", "name one with `&`"
            )
        target = self._anchors[event.anchor]
        if target is None:
            raise _Stop(self.here, f"the alias {quoted('*' + str(event.anchor))} stands inside of what it stands for")
        self._count(target.nodes, depth, target.height)
        return target

    def _count(self, nodes: int, depth: int, height: int) -> None:
        self._nodes += nodes
        if self._nodes > NODES_MAX:
            raise _Stop(self.here, f"the file has more than {NODES_MAX:,} values, aliases counted", "split it")
        if depth + height - 1 > DEPTH_MAX:
            raise _Stop(self.here, f"nested deeper than {DEPTH_MAX} levels", "name parts of it as audiences")


def _placed(value: Node, key: ScalarNode) -> Node:
    """The value of a key; nothing at all stands where its key stands, the parser puts it on the next line."""
    if isinstance(value, ScalarNode) and not value.text and not value.style:
        return ScalarNode("", "", key.span)
    return value


def _syntax_error(text: str, place: Span, problem: str) -> tuple[Span, str, str]:
    line = LINE_BREAK.split(text)[place.line - 1] if text else ""
    before = line[: place.column].rstrip()
    if "\t" in line[: place.column] and "start any token" in problem:
        return place, "a tab cannot indent YAML", "use spaces"
    if "block scalar" in problem or "chomping" in problem or "a comment or a line break" in problem:
        comparison = line[line.find(">") :].strip() if ">" in before + line[place.column : place.column + 1] else ""
        if comparison:
            return place, "a comparison needs quotes", f'write "{comparison}" in quotes'
    if "cannot start any token" in problem:
        return place, f"a value cannot begin with {quoted(line[place.column - 1 : place.column])}", "put it in quotes"
    # A block that goes on in another column, or a key that stands deeper than a value above it.
    alone = "mapping values are not allowed" in problem and ":" not in line[: place.column - 1]
    above = _line_above(text, place.line) if alone or "expected <block end>" in problem else 0
    if above:
        hint = "put what belongs together into one column: what stands beside `event` exactly under it"
        return place, f"this line is indented differently from line {above}", hint
    if "mapping values are not allowed" in problem:
        return place, "a `:` is not expected here", "quote a text that has `: ` in it; check the indentation"
    return place, f"this is not YAML: {problem}", ""


def _line_above(text: str, line: int) -> int:
    """The 1-based number of the next line above that says something; 0 where there is none."""
    lines = LINE_BREAK.split(text)
    saying = (n for n in range(line - 1, 0, -1) if (each := lines[n - 1].strip()) and not each.startswith("#"))
    return next(saying, 0)


def _text_of(path: FilePath, report: Report) -> str | None:
    start = Span(str(path), 1, 1)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            report.error(start, "not a regular file", "put a text file in its place")
            return None
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        report.error(start, f"the file cannot be read: {reason}", "check its name and its permissions")
        return None
    if len(data) > FILE_BYTES_MAX:
        report.error(start, "the file is larger than 1 MiB", "split it: several files may hold audiences")
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = data[: error.start].decode("utf-8-sig", "replace")
        report.source(str(path), text)
        report.error(_place(text, str(path)), "this byte is not UTF-8", "save the file as UTF-8")
        return None


def _place(before: str, file: str) -> Span:
    lines = LINE_BREAK.split(before)
    return Span(file, len(lines), len(lines[-1]) + 1)
