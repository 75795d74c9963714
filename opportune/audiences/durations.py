"""Durations in text: ``10 minutes``, ``10m``, ``PT10M``.

Owns: the grammar and its exact value in whole milliseconds.
Invariant: a finer duration is rounded up, which is exact for windows: instants are whole milliseconds, so the events in
``now - 1.5 ms < t <= now`` are those in ``now - 2 ms < t <= now``.
Not here: the windows that are not durations (``ever`` is opportune.audiences.conditions).
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

from opportune.audiences.diagnostics import Unreadable, nearest, quoted

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
WEEK_MS = 7 * DAY_MS
YEAR_MS = 365 * DAY_MS
DURATION_MS_MAX = 3 * YEAR_MS

UNITS_MS = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1),
    **dict.fromkeys(("s", "second", "seconds"), SECOND_MS),
    **dict.fromkeys(("m", "minute", "minutes"), MINUTE_MS),
    **dict.fromkeys(("h", "hour", "hours"), HOUR_MS),
    **dict.fromkeys(("d", "day", "days"), DAY_MS),
    **dict.fromkeys(("w", "week", "weeks"), WEEK_MS),
    **dict.fromkeys(("y", "year", "years"), YEAR_MS),
}
_NUMBER = r"[0-9]{1,18}(?:[.,][0-9]{1,18})?"
_WORDS = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([A-Za-z]+)")
_ISO = re.compile(
    rf"P(?:(?P<w>{_NUMBER})W)?(?:(?P<d>{_NUMBER})D)?"
    rf"(?:T(?=[0-9])(?:(?P<h>{_NUMBER})H)?(?:(?P<m>{_NUMBER})M)?(?:(?P<s>{_NUMBER})S)?)?"
)
_ISO_CALENDAR = re.compile(r"P[0-9.,]+[YM].*|P.*[0-9.,]+[YM](?:T.*)?", re.DOTALL)
_FORMS = "write for example `90 seconds`, `10 minutes`, `1.5 hours`, `7 days`, `10m` or `PT10M`"


def duration_ms(text: str) -> int:
    """The length of a duration in milliseconds, rounded up to a whole one.

    Args:
        text: words (``10 minutes``), short (``10m``) or ISO 8601 without months and years (``PT10M``).

    Raises:
        Unreadable: it is no duration, not over 0, or over 3 years.
    """
    exact = _words(text) if not text.startswith("P") else _iso(text)
    if exact <= 0:
        raise Unreadable(f"{quoted(text)} is not over 0", _FORMS)
    if exact > DURATION_MS_MAX:
        raise Unreadable(f"{quoted(text)} is longer than 3 years", "the longest duration is `3 years` (1,095 days)")
    return int(exact.to_integral_value(ROUND_CEILING))


def duration_text(ms: int) -> str:
    """The shortest usual words for a length in milliseconds, for example ``10 minutes``."""
    for unit, name in ((DAY_MS, "day"), (HOUR_MS, "hour"), (MINUTE_MS, "minute"), (SECOND_MS, "second")):
        if ms % unit == 0:
            return f"{ms // unit} {name}{'' if ms == unit else 's'}"
    return f"{ms} ms"


def rough_text(ms: int) -> str:
    """A length in milliseconds to a tenth of the largest unit that fits, for example ``10.1 minutes``."""
    for unit, name in ((DAY_MS, "days"), (HOUR_MS, "hours"), (MINUTE_MS, "minutes"), (SECOND_MS, "seconds")):
        if ms >= unit:
            return duration_text(ms) if ms % unit == 0 else f"{ms / unit:.1f} {name}"
    return duration_text(ms)


def _words(text: str) -> Decimal:
    found = _WORDS.fullmatch(text.strip())
    if found is None:
        parts = _WORDS.findall(text)
        between = _WORDS.sub("", text).replace("and", "").strip(" ,")
        if len(parts) > 1 and not between and all(unit in UNITS_MS for _, unit in parts):
            raise Unreadable(f"{quoted(text)} is not a duration in one unit", _one_unit(parts))
        unit_missing = re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", text.strip()) is not None
        raise Unreadable(f"{quoted(text)} " + ("has no unit" if unit_missing else "is not a duration"), _FORMS)
    number, unit = found.groups()
    if unit not in UNITS_MS:
        raise Unreadable(f"{quoted(unit)} is not a unit of time", _unit_hint(unit))
    return Decimal(number) * UNITS_MS[unit]


def _one_unit(parts: list[tuple[str, str]]) -> str:
    """The hint for a duration in several units: the same in the smallest of them."""
    ms = sum((Decimal(number) * UNITS_MS[unit] for number, unit in parts), Decimal(0))
    smallest = min(UNITS_MS[unit] for _, unit in parts)
    name = next(
        name for name, length in UNITS_MS.items() if length == smallest and name.endswith("s") and len(name) > 2
    )
    return f"write {quoted(f'{(ms / smallest).normalize():f} {name}')}"


def _unit_hint(unit: str) -> str:
    if unit.lower() in ("month", "months", "mo", "quarter", "quarters"):
        return "months differ in length: write days, for example `30 days`"
    near = nearest(unit, (name for name in UNITS_MS if len(name) > 2))
    return f"did you mean {quoted(near)}?" if near else "units: ms, seconds, minutes, hours, days, weeks, years"


def _iso(text: str) -> Decimal:
    found = _ISO.fullmatch(text)
    parts = {unit: part for unit, part in found.groupdict().items() if part} if found else {}
    if not parts:
        if _ISO_CALENDAR.fullmatch(text):
            raise Unreadable(
                f"{quoted(text)} has months or years, whose length differs", "write days, for example `P30D`"
            )
        raise Unreadable(f"{quoted(text)} is not a duration", _FORMS)
    return sum((Decimal(part.replace(",", ".")) * UNITS_MS[unit] for unit, part in parts.items()), Decimal(0))
