"""What one raw record says, for the reference evaluator: its type, name, times, identifiers, or why it is refused.

Owns: LANGUAGE.md section 1 as far as one message alone decides it, and IDENTITY.md section 1.
Not here: whether it is too late or a duplicate, which depends on what came before (tests.oracle.history).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal

from opportune.identity import ProfileId, profile_id
from tests.oracle.instants import read_instant
from tests.oracle.predicates import Reached, as_instant, holds, key, number, reach
from tests.oracle.tree import Event, Model, Path, Where

TYPES = ("track", "page", "screen", "identify", "group", "alias")
TIMES = ("timestamp", "originalTimestamp", "receivedAt", "sentAt")
BLOCKED = {"null", "none", "undefined", "nil", "nan", "0", "-1", "anonymous", "guest", "unknown", "user", "test"}
BLOCKED.add("[object object]")
BLOCKED_PATTERN = re.compile(r"[0-]+")


class Refused(Exception):
    """A record that is refused; ``str()`` is the reason."""


@dataclass(frozen=True)
class Message:
    """A record that can be read.

    Args:
        type: the call type.
        name: ``event`` of a track call, ``name`` of a page or screen call, else None.
        body: the whole message, numbers as Decimal.
        times: the readable instants among the four fields, by name.
        profile: whose event it is.
        message_id: None where there is none.
    """

    type: str
    name: str | None
    body: dict[str, object]
    times: dict[str, int]
    profile: ProfileId
    message_id: str | None

    def time(self) -> int | None:
        """The instant that the message itself gives, before any clamping; None: it has no time."""
        times = self.times
        if "timestamp" in times:
            return times["timestamp"]
        if "originalTimestamp" in times:
            if "receivedAt" in times and "sentAt" in times:
                return times["originalTimestamp"] + times["receivedAt"] - times["sentAt"]
            return times["originalTimestamp"]
        return times.get("receivedAt")

    def traits(self) -> dict[str, object]:
        """What an identify call sets: ``traits``, else ``context.traits``; other calls set nothing."""
        if self.type != "identify":
            return {}
        traits = self.body.get("traits")
        if not isinstance(traits, dict):
            context = self.body.get("context")
            traits = context.get("traits") if isinstance(context, dict) else None
        return traits if isinstance(traits, dict) else {}


def read_message(raw: bytes, bytes_max: int) -> Message:
    """The message in a record. Raises ``Refused``."""
    if len(raw) > bytes_max:
        raise Refused("too_large")
    body = _read_object(raw)
    if body.get("type") not in TYPES:
        raise Refused("bad_type")
    kind = str(body["type"])
    message_id = _text(body.get("messageId"))
    user_id, anonymous_id = _text(body.get("userId")), _text(body.get("anonymousId"))
    times = {}
    for name in TIMES:
        if body.get(name) is not None:
            instant = read_instant(body[name])
            if instant is None:
                raise Refused("bad_time")
            times[name] = instant
    name_field = {"track": "event", "page": "name", "screen": "name"}.get(kind)
    raw_name = body.get(name_field) if name_field else None
    return Message(
        type=kind,
        name=raw_name if isinstance(raw_name, str) else None,
        body=body,
        times=times,
        profile=_profile(user_id, anonymous_id),
        message_id=message_id or None,
    )


def is_named(message: Message, model: Model) -> bool:
    """Whether a model names messages of this type and raw name, its ``where`` left aside."""
    if message.type != model.type:
        return False
    return model.raw_name is None or message.name == model.raw_name


def is_event(message: Message, event: Event) -> bool:
    """Whether the message is such an event: named by its model, and every entry of both ``where`` holds."""
    return is_named(message, event.model) and satisfies(message, event.model.where) and satisfies(message, event.where)


def satisfies(message: Message, where: tuple[Where, ...]) -> bool:
    """Whether the message satisfies every entry of a ``where``."""
    return all(holds(entry.predicate, _reached(message, entry.path)) for entry in where)


def values(message: Message, path: Path) -> list[object]:
    """The scalars at a path in their order; what the schema calls a timestamp is an instant where it is readable."""
    found = [reached.value for reached in _reached(message, path)]
    typed = [as_instant(value) if path.instants else value for value in found]
    return [value for value in typed if key(value) is not None]


def single(message: Message, path: Path) -> tuple[str, object] | None:
    """The one scalar at a path that meets no list, as a key; None: there is none."""
    node: object = message.body.get(path.root)
    for name in path.keys:
        node = node.get(name) if isinstance(node, dict) else None
    return key(as_instant(node) if path.instants else node)


def position(message: Message) -> tuple[float, float] | None:
    """Latitude and longitude in degrees, if both are there and in range."""
    properties = message.body.get("properties")
    if not isinstance(properties, dict):
        return None
    lat, lon = (_first_number(properties, names) for names in (("lat", "latitude"), ("lon", "lng", "longitude")))
    if lat is None or lon is None or not (-90 <= lat <= 90 and -180 <= lon <= 180):
        return None
    return float(lat), float(lon)


def _first_number(properties: dict[str, object], names: tuple[str, ...]) -> Decimal | None:
    found = (properties.get(name) for name in names)
    return next((value for value in found if isinstance(value, Decimal)), None)


def _reached(message: Message, path: Path) -> list[Reached]:
    root = message.body.get(path.root)
    return list(reach(root, path.keys)) if isinstance(root, dict) else []


def _read_object(raw: bytes) -> dict[str, object]:
    def no_constant(text: str) -> object:
        raise ValueError(text)

    def read_number(text: str) -> Decimal:
        return number(Decimal(text))

    try:
        body = json.loads(
            raw.decode("utf-8"), parse_int=read_number, parse_float=read_number, parse_constant=no_constant
        )
    except ValueError as error:
        raise Refused("not_json") from error
    if not isinstance(body, dict):
        raise Refused("bad_shape")
    return body


def _text(value: object) -> str:
    """The text of an identifier or id: a number is its text, null is empty. Raises ``Refused`` for anything else."""
    if isinstance(value, Decimal):
        return str(int(value)) if value == value.to_integral_value() else str(value)
    if value is not None and not isinstance(value, str):
        raise Refused("bad_shape")
    return value or ""


def _profile(user_id: str, anonymous_id: str) -> ProfileId:
    """The profile of the strongest identifier that is there and not blocked; white space around it is no part of it."""
    reason = "no_identifier"
    for namespace, text in (("user_id", user_id.strip()), ("anonymous_id", anonymous_id.strip())):
        if len(text.encode()) > 256:
            reason = "identifier_too_long"
        elif text.lower() in BLOCKED or BLOCKED_PATTERN.fullmatch(text):
            reason = "blocked_identifier" if reason == "no_identifier" else reason
        elif text:
            return profile_id(namespace, text)
    raise Refused(reason)
