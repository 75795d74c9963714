"""What a project's author is told: errors and warnings with their place, the line, a caret and a hint.

Owns: the form of a diagnostic, the report that collects all of a project, and the nearest known name for a misspelt one.
Invariant: every diagnostic has a file, a line and a column, and nothing read from a file reaches a terminal unescaped.
Not here: what is right or wrong (the readers beside this file, opportune.audiences.check).
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from opportune.audiences.schema import Span

Severity: TypeAlias = Literal["error", "warning"]

EXCERPT_CHARS = 120
QUOTED_CHARS = 60
WORD_CHARS_MAX = 80
LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


class Diagnostic(msgspec.Struct, frozen=True):
    """One error or warning.

    Args:
        severity: an error means that there is no project; a warning says what is surely not meant.
        message: what is wrong.
        span: where.
        hint: what to do; may be empty.
        excerpt: the line, cut to a screen's width, made printable; empty where there is none.
        caret: 0-based place in ``excerpt`` that ``span`` points to.
    """

    severity: Severity
    message: str
    span: Span
    hint: str = ""
    excerpt: str = ""
    caret: int = 0

    def render(self) -> str:
        """The text for a terminal: place and message, the line, a caret, the hint."""
        text = f"{printable(self.span.file)}:{self.span.line}:{self.span.column}: {self.severity}: {self.message}"
        if self.excerpt:
            text += f"\n  {self.excerpt}\n  {' ' * _width(self.excerpt[: self.caret])}^"
        if self.hint:
            text += f"\n  hint: {self.hint}"
        return text

    def as_json(self) -> dict[str, str | int]:
        """The same for machines."""
        return {
            "severity": self.severity,
            "file": printable(self.span.file),
            "line": self.span.line,
            "column": self.span.column,
            "message": self.message,
            "hint": self.hint,
            "excerpt": self.excerpt,
        }


class Unreadable(Exception):
    """A piece of text has no meaning; whoever knows its place makes it a diagnostic. Never leaves this package."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Report:
    """All diagnostics of one project, collected while it is read."""

    def __init__(self) -> None:
        self._found: dict[Diagnostic, None] = {}
        self._lines: dict[str, list[str]] = {}
        self._nearest: dict[tuple[str, tuple[str, ...]], str | None] = {}

    def source(self, file: str, text: str) -> None:
        """Keeps the text of a file, so that diagnostics in it show their line."""
        self._lines[file] = LINE_BREAK.split(text)

    def error(self, span: Span, message: str, hint: str = "") -> None:
        """Adds an error."""
        self._add("error", span, message, hint)

    def warning(self, span: Span, message: str, hint: str = "") -> None:
        """Adds a warning."""
        self._add("warning", span, message, hint)

    def unreadable(self, span: Span, error: Unreadable) -> None:
        """Adds the error that a piece of text made."""
        self.error(span, error.message, error.hint)

    @property
    def has_errors(self) -> bool:
        """Whether there is anything that must be fixed."""
        return any(found.severity == "error" for found in self._found)

    def diagnostics(self) -> list[Diagnostic]:
        """Everything found, in order of file and place; an error that two aliases of a node share is there once."""
        return sorted(self._found, key=lambda found: (found.span.file, found.span.line, found.span.column))

    def nearest(self, word: str, known: Iterable[str]) -> str | None:
        """The known name that a misspelt one most likely means, else None."""
        names = tuple(known)
        if (word, names) not in self._nearest:
            self._nearest[word, names] = nearest(word, names)
        return self._nearest[word, names]

    def did_you_mean(self, word: str, known: Iterable[str], otherwise: str = "") -> str:
        """A hint with the nearest known name, else ``otherwise``."""
        near = self.nearest(word, known)
        return f"did you mean {quoted(near)}?" if near is not None else otherwise

    def _add(self, severity: Severity, span: Span, message: str, hint: str) -> None:
        lines = self._lines.get(span.file, [])
        line = lines[span.line - 1] if span.line <= len(lines) else ""
        excerpt, caret = _excerpt(line, span.column - 1)
        self._found[Diagnostic(severity, message, span, hint, excerpt, caret)] = None


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The name among ``known`` that is closest to ``word``; None where none is close."""
    if len(word) > WORD_CHARS_MAX:
        return None
    by_folded = {name.casefold(): name for name in known if len(name) <= WORD_CHARS_MAX}
    found = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def quoted(text: str) -> str:
    """A piece of a file inside a message: in backticks, printable, short."""
    return f"`{printable(text if len(text) <= QUOTED_CHARS else text[: QUOTED_CHARS - 3] + '...')}`"


def listed(names: Iterable[str]) -> str:
    """Names inside a message: quoted, with commas."""
    return ", ".join(quoted(name) for name in names)


def printable(text: str) -> str:
    """The text with everything that a terminal would act upon made visible."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def render(diagnostics: Iterable[Diagnostic]) -> str:
    """The whole report as text, an empty line between diagnostics."""
    return "\n\n".join(found.render() for found in diagnostics)


def _excerpt(line: str, column: int) -> tuple[str, int]:
    start = max(0, column - EXCERPT_CHARS // 2) if len(line) > EXCERPT_CHARS else 0
    shown = "".join(char if char.isprintable() else " " for char in line[start : start + EXCERPT_CHARS])
    return shown.rstrip(), min(column - start, len(shown))


def _width(text: str) -> int:
    return sum(
        2 if unicodedata.east_asian_width(char) in "WF" else 0 if unicodedata.combining(char) else 1 for char in text
    )
