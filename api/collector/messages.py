"""From the body of a request to records of the events topic.

Owns: the two shapes of a body (one message, or ``batch``), what a message must be, and what the collector writes into it:
``source``, ``receivedAt``, ``originalTimestamp`` as the client's own time, and the ``timestamp`` corrected by the
client's clock: original + (receivedAt - sentAt).
Invariants: everything else of a message stays byte for byte, so numbers keep their digits; one bad message never takes
another with it. Not here: who is named by other identifiers, which values are blocked, and what is too late, which the project decides and the engine refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from api.collector import salvage
from api.collector.answers import Refused
from opportune.errors import RejectedEvent
from opportune.event import CALL_TYPES, Instants, iso_text
from opportune.identity import profile_id

Fields = dict[str, Any]
"""A message: its values as they came, and texts of ours."""


class Envelope(msgspec.Struct, gc=False):
    """What the collector reads of a message, whatever it is; the names are the message's."""

    type: Any = None
    userId: Any = None  # noqa: N815 - as in the message
    anonymousId: Any = None  # noqa: N815 - as in the message
    timestamp: Any = None
    originalTimestamp: Any = None  # noqa: N815 - as in the message
    sentAt: Any = None  # noqa: N815 - as in the message


decode_object: Callable[[bytes | msgspec.Raw], Fields] = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
decode_envelope = msgspec.json.Decoder(Envelope).decode
decode_any = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
IDENTIFIERS = (("userId", "user_id"), ("anonymousId", "anonymous_id"))
"""The fields that decide the partition, strongest first, with their namespaces."""
MESSAGES_MAX = 10_000
WHOLE_MAX = 1e15
NOBODY = b"", profile_id("", "")
BOM = b"\xef\xbb\xbf"
BRACKETS = bytes(set(range(256)) - set(b"[{"))


class Record(msgspec.Struct, frozen=True):
    """What goes to Kafka: the key ``namespace:value``, the profile id that decides the partition, and the message."""

    key: bytes
    profile: bytes
    value: bytes


class RefusedMessage(msgspec.Struct, frozen=True):
    """A message that is not taken: its place in the batch, a word and a sentence."""

    index: int
    code: str
    message: str


class Body(msgspec.Struct, frozen=True):
    """A request's body: its messages, the time at which it was sent, its write key, and whether it was a batch.

    ``apart``: it is no JSON as a whole, and its messages were cut out: none of their bytes was looked at yet.
    """

    messages: list[msgspec.Raw]
    sent: msgspec.Raw | None
    write_key: str
    batch: bool
    apart: bool = False


def read(body: bytes) -> Body:
    """Splits a body. Raises ``Refused`` (400) where it is neither a message nor a batch."""
    body, apart = body.removeprefix(BOM), None
    try:
        body.decode()
        fields = decode_object(body)
        batch = fields.get("batch")
        messages = [msgspec.Raw(body)] if batch is None else decode_list(batch)
    except UNREADABLE as error:
        apart = salvage.batch(body)
        if apart is None:
            raise Refused(
                400, "not_json", f"the body is not a JSON object with a message or a batch: {error}"[:200]
            ) from error
        batch = messages = [msgspec.Raw(piece) for piece in apart[0]]
        fields = {name: msgspec.Raw(value) for name, value in apart[1].items()}
    if len(messages) > MESSAGES_MAX:
        raise Refused(413, "too_large", f"a batch may have {MESSAGES_MAX} messages")
    write_key = _text(fields.get("writeKey"))
    if not write_key and batch is not None and messages:
        write_key = _first_write_key(messages[0])
    return Body(messages, fields.get("sentAt"), write_key, batch is not None, apart is not None)


class Reader:
    """Makes records of messages.

    Args:
        bytes_max: of a message.
        nesting_max: levels of objects and lists in it.
    """

    def __init__(self, bytes_max: int, nesting_max: int) -> None:
        self.bytes_max = bytes_max
        self.nesting_max = nesting_max
        self.instants = Instants()

    def records(
        self, body: Body, kind: str | None, source: str, received_ms: int
    ) -> tuple[list[Record], list[RefusedMessage]]:
        """The records of a body, and what is refused of it.

        Args:
            body: what was read.
            kind: the type that the address says, for messages that do not say theirs.
            source: the name of the write key.
            received_ms: now.
        """
        written = {"source": source, "receivedAt": iso_text(received_ms)}
        records: list[Record] = []
        refused: list[RefusedMessage] = []
        for index, raw in enumerate(body.messages):
            try:
                if body.apart:
                    _check_text(raw)
                records.append(self._record(raw, body.sent, kind, written, received_ms))
            except RejectedEvent as error:
                refused.append(RefusedMessage(index, error.reason, (error.detail or error.reason)[:200]))
        return records, refused

    def _record(
        self,
        raw: msgspec.Raw,
        sent: msgspec.Raw | None,
        kind: str | None,
        written: Mapping[str, str],
        received_ms: int,
    ) -> Record:
        blob = bytes(raw)
        if len(blob) > self.bytes_max:
            raise RejectedEvent("too_large", f"{len(blob)} bytes, where a message may have {self.bytes_max}")
        if len(blob.translate(None, BRACKETS)) > self.nesting_max:
            self._check_nesting(blob)
        try:
            fields = decode_object(blob)
        except UNREADABLE as error:
            raise RejectedEvent("bad_shape", _not_readable(error)) from error
        try:
            read = decode_envelope(blob)
        except UNREADABLE as error:
            raise RejectedEvent("not_json", "a field cannot be read") from error
        type_ = read.type
        if type_ is None and kind is not None:
            type_ = fields["type"] = kind
        if not isinstance(type_, str) or type_ not in CALL_TYPES:
            raise RejectedEvent("bad_type", f"type is none of {', '.join(sorted(CALL_TYPES))}")
        key, profile = _person(read, fields)
        fields.pop("writeKey", None)
        fields.update(written)
        self._write_times(read, fields, sent, received_ms)
        return Record(key, profile, encode(fields))

    def _write_times(self, read: Envelope, fields: Fields, sent: msgspec.Raw | None, received_ms: int) -> None:
        """Writes the times. The corrected one is ``opportune.event.effective_ms`` of what is there, in fewer steps."""
        name = "timestamp" if read.timestamp is not None else "originalTimestamp"
        original = _instant_text(getattr(read, name), name)
        sent_text = read.sentAt
        if sent_text is None and sent is not None:
            fields["sentAt"] = sent
            sent_text = _value(sent)
        _instant_text(sent_text, "sentAt")
        if original is None:
            fields.pop("timestamp", None)
            return
        try:
            at = self.instants(original)
            if sent_text is not None:
                at += received_ms - self.instants(sent_text)
            corrected = iso_text(min(at, received_ms))
        except (ValueError, OverflowError) as error:
            # Two good times may make one that no calendar has. The value is not told: refusals are kept.
            raise RejectedEvent("bad_time", "timestamp, originalTimestamp or sentAt is not ISO 8601") from error
        # As it came, digit by digit.
        fields["originalTimestamp"] = fields[name]
        fields["timestamp"] = corrected

    def _check_nesting(self, blob: bytes) -> None:
        try:
            level: list[Any] = [decode_any(blob)]
        except UNREADABLE as error:
            raise RejectedEvent("bad_shape", "nested too deeply, or not JSON") from error
        for _ in range(self.nesting_max + 1):
            level = [inner for one in level for inner in _inside(one) if isinstance(inner, dict | list)]
            if not level:
                return
        raise RejectedEvent("bad_shape", f"nested more than {self.nesting_max} levels deep")


def _not_readable(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return "a message is an object"
    return "a message is JSON: no NaN or Infinity, no half of a character (a surrogate alone)"


def _check_text(raw: msgspec.Raw) -> None:
    try:
        bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise RejectedEvent("bad_shape", "a message is UTF-8") from error


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _person(read: Envelope, fields: Fields) -> tuple[bytes, bytes]:
    """The record's key and the profile id of the strongest identifier that is there."""
    found: tuple[bytes, bytes] | None = None
    for field, namespace in IDENTIFIERS:
        value = getattr(read, field)
        if value is None:
            continue
        if isinstance(value, str):
            text = value.strip()
        elif isinstance(value, int | float) and not isinstance(value, bool):
            text = _number_text(fields[field], value)
        else:
            raise RejectedEvent("bad_shape", f"{field} is neither text nor a number")
        if text and found is None:
            name = f"{namespace}:{text}".encode("utf-8", "surrogatepass")
            found = name, profile_id(namespace, text)
    # One that names nobody so may do it by a path of identity.yml: the job knows, and refuses it where not.
    return found or NOBODY


def _number_text(raw: msgspec.Raw, value: float) -> str:
    """A number as the engine writes it: 5.0 is 5. A longer one only loses its place beside its person's other events."""
    return str(int(value)) if abs(value) < WHOLE_MAX and value == int(value) else bytes(raw).decode().strip()


def _instant_text(value: Any, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise RejectedEvent("bad_time", f"{name} is not text")


def _value(raw: msgspec.Raw) -> Any:
    try:
        return decode_any(raw)
    except UNREADABLE as error:
        raise RejectedEvent("not_json", "a field cannot be read") from error


def _text(raw: msgspec.Raw | None) -> str:
    if raw is None:
        return ""
    try:
        value = decode_any(raw)
    except UNREADABLE:
        return ""
    return value if isinstance(value, str) else ""


def _first_write_key(raw: msgspec.Raw) -> str:
    try:
        return _text(decode_object(raw).get("writeKey"))
    except UNREADABLE:
        return ""
