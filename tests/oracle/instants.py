"""Instants of the reference evaluator: ISO 8601 text to whole milliseconds since the epoch.

Owns: which texts are readable. Finer digits are cut off, a time without an offset is UTC. Anything else is None.
Not here: which field of a message is its time (tests.oracle.messages).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d)(?::(\d\d)(?::(\d\d)(?:[.,](\d+))?)?)?(Z|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)


def read_instant(text: object) -> int | None:
    """The instant that a text names, in milliseconds since the epoch, or None where it names none."""
    found = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=_zone(offset)
        )
        whole = moment - _EPOCH
    except (ValueError, OverflowError):
        return None
    return (whole.days * 86_400 + whole.seconds) * 1000 + int(((fraction or "") + "000")[:3])


def write_instant(instant_ms: int) -> str:
    """ISO 8601 in UTC with milliseconds, for milliseconds since the epoch."""
    moment = _EPOCH + timedelta(milliseconds=instant_ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + f".{instant_ms % 1000:03d}Z"


def _zone(offset: str | None) -> timezone:
    if offset is None or offset == "Z":
        return UTC
    digits = offset[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:] or 0)
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
