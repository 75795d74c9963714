"""What a message says of itself, whatever its name: time, identifiers, and why it may be refused.

Owns: the reasons of refusal, the reading of instants and numbers, effective time, and the text of an identifier.
Not here: decoding of bytes (opportune.decode), which identifiers an event has (opportune.people), what a profile does with an event (opportune.audiences.compiler).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

from opportune.errors import RejectedEvent

REASONS = {
    "not_json": "the bytes are not one JSON document",
    "bad_shape": "the document is not an object, or an identifier or id in it is not text or a number",
    "bad_type": "the message's type is not one of track, page, screen, identify, group, alias",
    "no_identifier": "there is neither a userId nor an anonymousId",
    "blocked_identifier": "every identifier is a value that stands for nobody, such as null or 0",
    "identifier_too_long": "the only identifiers are longer than 256 bytes",
    "bad_time": "a time is there and is not ISO 8601 text",
    "too_large": "the record is larger than event_bytes_max",
    "too_late": "the event is older than clock.lateness",
    "bad_mail": "a record of the mailbox or control topic that no shard wrote, or whose bytes are damaged",
    "merge_too_long": "too much waits already for the merge of the event's profile",
    "poison": "the record killed the process again and again",
    "refused_by_broker": "the broker refuses to store a record that we made",
}
"""Why a record is a dead letter: the word in its header, and what it means."""

CALL_TYPES = frozenset({"track", "page", "screen", "identify", "group", "alias"})
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAIVE_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - only to print with a Z
MILLISECOND = timedelta(milliseconds=1)
LAST_MS = (datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC) - EPOCH) // MILLISECOND
ISO_8601 = re.compile(
    r"(\d{4}-\d\d-\d\d|\d{8}|\d{4}-?W\d\d-?\d)"
    r"([T ]\d\d(:?\d\d(:?\d\d([.,]\d+)?)?)?(Z|[+-]\d\d(:?\d\d)?)?)?",
    re.ASCII | re.IGNORECASE,
)
"""The shapes that are read, since ``datetime.fromisoformat`` takes more; it finds out whether there is such a day."""
NINE_PLACES = Decimal("1e-9")
NUMBER_DIGITS_MAX = 4_300
"""Python reads no whole number of more digits, and one with an exponent is no longer: 1e999999999 would fill the memory."""
CACHED_MAX = 100_000
CACHED_CHARS_MAX = 40
"""A number with a longer text is not remembered: prices are short."""
IDENTIFIER_DIGITS_MAX = 1_000
"""A number of more digits, such as 1e999999999, is no identifier."""
_ZONES = ("Z", "+00:00", "")
SUFFIXES = dict.fromkeys(_ZONES, 0) | {f".{ms:03d}{zone}": ms for ms in range(1000) for zone in _ZONES}
"""What may follow the second of an instant in UTC, and its milliseconds; never changed."""
DAY_MS = 86_400_000
MINUTE_MS = 60_000
DAYS_MAX = 10_000
DAYS: dict[int, str] = {}
"""Texts of days that were written lately, with their T."""
MINUTES = [f"{hour:02d}:{minute:02d}:" for hour in range(24) for minute in range(60)]
SECONDS = [f"{second:02d}." for second in range(60)]
OF_MINUTES = {text: number * MINUTE_MS for number, text in enumerate(MINUTES)}
OF_SECONDS = {text[:2]: number * 1000 for number, text in enumerate(SECONDS)}
MILLISECONDS = [f"{ms:03d}Z" for ms in range(1000)]


def instant_ms(text: str) -> int:
    """Reads ISO 8601: a date, or a date and a time.

    Args:
        text: without an offset it is UTC; digits finer than milliseconds are cut off.

    Returns:
        Milliseconds since the epoch.

    Raises:
        ValueError: the text is not ISO 8601, or outside the years 1 to 9999.
    """
    if ISO_8601.fullmatch(text) is None:
        raise ValueError(f"not a date, or date and time, of ISO 8601: {text[:40]!r}")
    try:
        moment = datetime.fromisoformat(text.upper())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - EPOCH) // MILLISECOND
    except OverflowError as error:
        raise ValueError(str(error)) from error


class Seconds(dict[str, int]):
    """Instants of texts of seconds such as ``2026-01-01T12:00:00``, read in UTC; a new second of a known day is a sum.

    A look-up raises ``KeyError`` for a text that ``Instants`` has not put here, of a day that it has not read either.
    """

    __slots__ = ("days",)

    def __init__(self) -> None:
        super().__init__()
        self.days: dict[str, int] = {}

    def __missing__(self, text: str) -> int:
        moment = self.days[text[:11]] + OF_MINUTES[text[11:17]] + OF_SECONDS[text[17:]]
        if len(self) >= CACHED_MAX:
            self.clear()
        self[text] = moment
        return moment

    def learn(self, text: str, moment: int) -> None:
        """Takes what a text of the usual shape is; its day helps to read others."""
        if len(self) >= CACHED_MAX:
            self.clear()
        self[text] = moment
        if len(self.days) >= DAYS_MAX:
            self.days.clear()
        self.days[text[:11]] = moment - moment % DAY_MS


class Instants:
    """Reads instants fast: the second's text is looked up, the milliseconds are added.

    Calling it is ``instant_ms`` for any text; the usual shapes cost two dictionary look-ups.
    """

    def __init__(self) -> None:
        self.seconds = Seconds()
        self.suffixes = SUFFIXES

    def __call__(self, text: str) -> int:
        """The instant of a text, as ``instant_ms``."""
        try:
            return self.seconds[text[:19]] + self.suffixes[text[19:]]
        except KeyError:
            return self._read(text)

    def _read(self, text: str) -> int:
        moment = instant_ms(text)
        rest = self.suffixes.get(text[19:])
        if rest is not None and text[4:5] == "-" and text[10:11] in ("T", " ") and text[13:14] == text[16:17] == ":":
            self.seconds.learn(text[:19], moment - rest)
        return moment


def iso_text(ms: int) -> str:
    """An instant as ISO 8601 in UTC with milliseconds; one after the year 9999, such as when a window ends, as the last of it."""
    day, rest = divmod(ms if ms <= LAST_MS else LAST_MS, DAY_MS)
    text = DAYS.get(day)
    if text is None:
        if len(DAYS) >= DAYS_MAX:
            DAYS.clear()
        text = DAYS[day] = f"{(NAIVE_EPOCH + timedelta(days=day)).date().isoformat()}T"
    minute, rest = divmod(rest, MINUTE_MS)
    return f"{text}{MINUTES[minute]}{SECONDS[rest // 1000]}{MILLISECONDS[rest % 1000]}"


def nine_places(number: Decimal) -> Decimal:
    """A number to nine decimal places, half even; exact for any size."""
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent >= -9:
        return number
    digits = max(number.adjusted(), 0) + 12
    return number.quantize(NINE_PLACES, context=Context(prec=digits, rounding=ROUND_HALF_EVEN))


class Numbers(dict[str, Decimal]):
    """Decimal of the text of a JSON number with a point or exponent, looked up by text: prices repeat.

    A look-up raises ``ValueError`` for a number of more than ``NUMBER_DIGITS_MAX`` digits before the point.
    """

    def __missing__(self, text: str) -> Decimal:
        try:
            number = Decimal(text)
            if number.adjusted() >= NUMBER_DIGITS_MAX and number:
                raise InvalidOperation
            number = nine_places(number)
        except InvalidOperation as error:
            raise ValueError(f"{text[:40]} is beyond what a number can be") from error
        if len(text) <= CACHED_CHARS_MAX:
            if len(self) >= CACHED_MAX:
                self.clear()
            self[text] = number
        return number


BLOCKED = frozenset(
    {"null", "none", "undefined", "nil", "nan", "0", "-1", "anonymous", "guest", "unknown", "user", "test"}
    | {"[object object]"}
)
ZEROS = re.compile(r"[0-]+")


def blocked(value: str) -> bool:
    """Whether a trimmed identifier value stands for nobody, in any case of letters."""
    return value.lower() in BLOCKED or ZEROS.fullmatch(value) is not None


def identifier_text(raw: str | int | Decimal) -> str:
    """An identifier's value: text without surrounding white space; a number is its text, 5.0 as 5.

    Raises:
        RejectedEvent: ``bad_shape``, for a number that nobody would write out.
    """
    if isinstance(raw, str):
        return raw.strip()
    if isinstance(raw, Decimal) and raw.adjusted() > IDENTIFIER_DIGITS_MAX:
        raise RejectedEvent("bad_shape", f"an identifier of {raw.adjusted() + 1} digits")
    if isinstance(raw, Decimal) and raw == raw.to_integral_value():
        return str(int(raw))
    return str(raw)


def effective_ms(
    instants: Instants,
    timestamp: str | None,
    original: str | None,
    sent: str | None,
    received: str | None,
    arrival_ms: int | None,
) -> tuple[int | None, bool]:
    """The time at which an event counts, before it is cut to its arrival.

    Args:
        instants: the reader of instants.
        timestamp: ``timestamp`` of the message, ISO 8601 or None, as the next three.
        original: ``originalTimestamp``.
        sent: ``sentAt``.
        received: ``receivedAt``.
        arrival_ms: the record's arrival, where it has one.

    Returns:
        Milliseconds since the epoch, None where nothing says; and whether the event claims to be later than ``received``,
        to which it is then cut.

    Raises:
        RejectedEvent: ``bad_time``, when one of the four is there and unreadable.
    """
    try:
        at = None if timestamp is None else instants(timestamp)
        from_original = None if original is None else instants(original)
        from_sent = None if sent is None else instants(sent)
        from_received = None if received is None else instants(received)
    except ValueError as error:
        raise RejectedEvent("bad_time", str(error)) from error
    if at is None and from_original is not None:
        at = from_original
        if from_received is not None and from_sent is not None:
            at += from_received - from_sent
    if at is None:
        at = from_received if from_received is not None else arrival_ms
    if at is not None and from_received is not None and at > from_received:
        return from_received, True
    return at, False
