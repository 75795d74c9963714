"""Instants of a story: absolute, a time of the day, or so long after the row before.

Owns: ``at:`` of a row. ``2026-03-02T12:00:00Z`` and ``2026-03-02 12:00`` are absolute; ``12:00`` and ``09:30:05.250+01:00``
are on the day that the story's clock shows; ``+5m`` and ``+1h 30m`` go on from the clock, ``-5m`` stays behind it.
Not here: instants in messages (opportune.event).
"""

from __future__ import annotations

import re

from opportune.audiences.diagnostics import Unreadable, quoted
from opportune.audiences.durations import duration_ms
from opportune.event import instant_ms, iso_text

FIRST_MS = 1_772_409_600_000
"""Where a story's clock stands without any ``at``: 2026-03-02T00:00Z, a Monday."""
FORMS = "write for example `12:00`, `+5m`, `+1h 30m` or `2026-03-02 12:00`"
_TIME = re.compile(r"\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d(:?\d\d)?)?", re.ASCII)
_PART = re.compile(r"\s*([0-9.]+\s*[A-Za-z]+|P[0-9A-Z.,]+)", re.ASCII)
_NOTHING = re.compile(r"0+(\s*[A-Za-z]+)?", re.ASCII)


def story_instant(text: str, now_ms: int) -> int:
    """The instant that a text means.

    Args:
        text: as written.
        now_ms: the story's clock, milliseconds since the epoch.

    Returns:
        Milliseconds since the epoch. Earlier than the clock only where that is said on purpose: with a date, or ``-``.

    Raises:
        Unreadable: it is no instant, or a time of the day that is over.
    """
    text = text.strip()
    if text[:1] in ("+", "-"):
        length = _length(text)
        return now_ms + (length if text[0] == "+" else -length)
    if _TIME.fullmatch(text) is None:
        return _read(text, text)
    at_ms = _read(f"{iso_text(now_ms)[:10]}T{text}", text)
    if at_ms < now_ms:
        clock = iso_text(now_ms)
        raise Unreadable(
            f"{quoted(text)} is over: the story's clock shows {clock}",
            "give the date as well, or `-5m` for an event that arrives late",
        )
    return at_ms


def _read(text: str, written: str) -> int:
    try:
        return instant_ms(text)
    except ValueError as error:
        raise Unreadable(f"{quoted(written)} is no instant", FORMS) from error


def _length(text: str) -> int:
    rest, total = text[1:], 0
    if _NOTHING.fullmatch(rest.strip()):
        return 0
    while rest.strip():
        part = _PART.match(rest)
        if part is None:
            raise Unreadable(f"{quoted(text)} is no step of time", FORMS)
        total += duration_ms(part[1])
        rest = rest[part.end() :]
    if not total:
        raise Unreadable(f"{quoted(text)} is no step of time", FORMS)
    return total
