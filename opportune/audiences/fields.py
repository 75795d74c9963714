"""Reading one mapping, list or scalar of a known kind, with an error where it is another.

Owns: unknown and missing keys (with the nearest known one), what is not in this version yet, and scalars by type.
Each reader reports what is wrong and returns None, so that its caller goes on and finds the next error.
Not here: what the fields mean (the readers of each file).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias, TypeVar

from opportune.audiences.diagnostics import Report, Unreadable, listed, quoted
from opportune.audiences.durations import duration_ms, duration_text
from opportune.audiences.schema import Span
from opportune.audiences.yaml_tree import MappingNode, Node, ScalarNode, SequenceNode

T = TypeVar("T")
Reader: TypeAlias = Callable[[Node, str, Report], T | None]
"""Reads a node; the text is what the value is called in messages."""

NO_WORDS: Mapping[str, int] = {}
NO_HINTS: Mapping[str, str] = {}


class Fields:
    """The entries of a mapping whose keys are known."""

    def __init__(self, entries: Mapping[str, tuple[ScalarNode, Node]], span: Span) -> None:
        self._entries = entries
        self.span = span

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def get(self, key: str) -> Node | None:
        """The value of a key; None where it is not there."""
        entry = self._entries.get(key)
        return entry[1] if entry else None

    def key_span(self, key: str) -> Span:
        """Where a key stands; where the mapping starts if it is not there."""
        entry = self._entries.get(key)
        return entry[0].span if entry else self.span

    def present(self) -> list[str]:
        """The known keys that are there, in order of the file."""
        return list(self._entries)


def mapping_of(node: Node, what: str, report: Report) -> MappingNode | None:
    """The node as a mapping, else an error."""
    if isinstance(node, MappingNode):
        return node
    report.error(node.span, f"{what} is a mapping (`key: value`), not {kind(node)}")
    return None


def fields_of(
    node: Node,
    what: str,
    known: Collection[str],
    report: Report,
    *,
    later: Collection[str] = (),
    required: Collection[str] = (),
    meant: Mapping[str, str] = NO_HINTS,
) -> Fields | None:
    """The entries of a mapping with known keys.

    Args:
        node: what should be the mapping.
        what: what it is called in messages.
        known: keys that it may have.
        report: takes the errors: another kind of node, unknown keys, missing ones.
        later: keys that the language has and this version does not.
        required: keys that it must have.
        meant: keys that people write and that are no keys here, with what to do instead.

    Returns:
        Its known entries; None where it is no mapping.
    """
    mapping = mapping_of(node, what, report)
    if mapping is None:
        return None
    entries = {}
    for key, value in mapping.entries:
        if key.text in known:
            entries[key.text] = (key, value)
        elif key.text in later:
            not_yet(key.span, quoted(key.text), report)
        else:
            hint = meant.get(key.text) or report.did_you_mean(key.text, known)
            hint = hint or meant.get(report.nearest(key.text, meant) or "", f"known here: {listed(known)}")
            report.error(key.span, f"{what} has no key {quoted(key.text)}", hint)
    for key_text in required:
        if key_text not in entries:
            report.error(mapping.span, f"{what} needs {quoted(key_text)}")
    return Fields(entries, mapping.span)


def not_yet(span: Span, what: str, report: Report) -> None:
    """The error for what the language has and this version does not."""
    report.error(span, f"{what} is not in this version yet", "see docs/language.md for what this version has")


def kind(node: Node) -> str:
    """What a node is, in words."""
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    return "empty" if node.is_null else quoted(node.text)


def scalar_node(node: Node, what: str, report: Report) -> ScalarNode | None:
    """The node as a scalar that is not null, else an error."""
    if isinstance(node, ScalarNode) and not node.is_null:
        return node
    report.error(node.span, f"{what} is a single value, not {kind(node)}")
    return None


def text_of(node: Node, what: str, report: Report) -> str | None:
    """A text as it stands in the file: ``007`` and ``no`` too; never empty."""
    scalar = scalar_node(node, what, report)
    if scalar is not None and not scalar.text.strip():
        report.error(scalar.span, f"{what} is empty")
        return None
    return scalar.text if scalar is not None else None


def boolean_of(node: Node, what: str, report: Report) -> bool | None:
    """``true`` or ``false``."""
    value = _value(node, what, report)
    if value is None or isinstance(value, bool):
        return value
    report.error(node.span, f"{what} is `true` or `false`, not {kind(node)}")
    return None


def integer(least: int, most: int, *, also: Collection[int] = ()) -> Reader[int]:
    """A reader of whole numbers from ``least`` to ``most``, or one of ``also``."""

    def read(node: Node, what: str, report: Report) -> int | None:
        value = _value(node, what, report)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and (least <= value <= most or value in also):
            return value
        others = "".join(f", or {number}" for number in also)
        report.error(node.span, f"{what} is a whole number from {least:,} to {most:,}{others}, not {kind(node)}")
        return None

    return read


def duration(least_ms: int, most_ms: int, *, words: Mapping[str, int] = NO_WORDS) -> Reader[int]:
    """A reader of durations in milliseconds, inclusive bounds; ``words`` are texts with a value of their own."""

    def read(node: Node, what: str, report: Report) -> int | None:
        text = text_of(node, what, report)
        if text is None:
            return None
        if text in words:
            return words[text]
        try:
            ms = duration_ms(text)
        except Unreadable as error:
            report.error(node.span, f"{what}: {error.message}", error.hint)
            return None
        if least_ms <= ms <= most_ms:
            return ms
        bounds = f"from {duration_text(least_ms)} to {duration_text(most_ms)}"
        report.error(node.span, f"{what} is a duration {bounds}, not {kind(node)}")
        return None

    return read


def choice(*known: str) -> Reader[str]:
    """A reader of one of some words."""

    def read(node: Node, what: str, report: Report) -> str | None:
        text = text_of(node, what, report)
        if text is None or text in known:
            return text
        report.error(
            node.span, f"{what} is one of {listed(known)}, not {quoted(text)}", report.did_you_mean(text, known)
        )
        return None

    return read


def _value(node: Node, what: str, report: Report) -> object | None:
    scalar = scalar_node(node, what, report)
    if scalar is None:
        return None
    try:
        return scalar.value()
    except Unreadable as error:
        report.unreadable(scalar.span, error)
        return None
