"""Bytes to events: a decoder that is generated from the plan and reads what some condition uses, and no more.

Owns: ``EventType``, the struct type of a plan's events with its decoder, and the tolerant reading of messages whose
fields have other types than usual. Numbers become int or Decimal with at most nine places, never float.
Invariant: the fast decoder and the tolerant one give the same event for every message that the fast one takes.
Not here: times and identifiers (opportune.event), which handler takes an event (opportune.router).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET

from opportune.audiences.plan import Plan, paths_of
from opportune.audiences.schema import CallType, Path
from opportune.errors import RejectedEvent
from opportune.event import CALL_TYPES, Numbers, identifier_text
from opportune.identifiers import Namespace

Event: TypeAlias = Any
"""A struct of ``EventType.type``; its fields are drawn in that class."""

NUMBERS = Numbers()
TRACK = sys.intern("track")
"""Types are decoded to these very objects, so that they can be compared by identity."""
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError)
decode_any = msgspec.json.Decoder(Any, float_hook=NUMBERS.__getitem__).decode
decode_traits = msgspec.json.Decoder(dict[str, tuple[int, Any, int]], float_hook=NUMBERS.__getitem__).decode
encode_traits = msgspec.json.Encoder(decimal_format="number").encode

FIELDS: list[tuple[str, Any, Any]] = [
    ("type", CallType, None),
    ("event", str | None, None),
    ("messageId", str | None, None),
    ("userId", str | int | None, None),
    ("anonymousId", str | int | None, None),
    ("previousId", str | int | None, None),
    ("timestamp", str | None, None),
    ("originalTimestamp", str | None, None),
    ("sentAt", str | None, None),
    ("receivedAt", str | None, None),
]
TIMES = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
WORK = ("person", "at", "arrival", "origin", "handler", "also")


class EventType:
    """The type of a plan's events.

    Beside the fields of ``FIELDS`` an event has ``name`` where a page or screen is modelled by name, and ``properties``,
    ``context`` and ``traits`` (each None, or a struct with the used keys, UNSET where absent) where a condition reads
    them. The work fields are set by whoever routes it: ``person`` (opportune.event.Person), ``at`` its effective time
    and ``arrival``, both milliseconds, ``origin`` the record, ``handler`` the plan's, or None, and
    ``also`` the persons of its weaker identifiers.

    Args:
        plan: decides which keys are read.
        namespaces: the identifiers whose paths are read too.
    """

    def __init__(self, plan: Plan, namespaces: Sequence[Namespace] = ()) -> None:
        keys: dict[str, list[str]] = {"properties": [], "context": [], "traits": []}
        for path in sorted(paths_of(plan), key=lambda path: (path.root, path.keys)):
            if path.keys[0] not in keys[path.root]:
                keys[path.root].append(path.keys[0])
        for name in plan.traits:
            if name not in keys["traits"]:
                keys["traits"].append(name)
        paths = [path for namespace in namespaces for path in namespace.paths if len(path) > 1]
        from_context = any(path[:2] == ("context", "traits") for path in paths)
        for root, *inner in (path[1:] if path[:2] == ("context", "traits") else path for path in paths):
            if inner and inner[0] not in keys[root]:
                keys[root].append(inner[0])
        self.keys = keys
        traits = self._object("Traits", keys["traits"])
        self.types: dict[str, Any] = {"traits": traits, "properties": self._object("Properties", keys["properties"])}
        more = [("traits", traits | None, None)] if plan.traits or from_context else []
        self.types["context"] = self._object("Context", keys["context"], more)
        self.nothing = traits()
        self.empty = {root: type_() for root, type_ in self.types.items()}
        self.roots = [root for root in ("properties", "context", "traits") if keys[root]]
        if more and "context" not in self.roots:
            self.roots.append("context")
        self.named = any(kind[0] in ("page", "screen") and kind[1] is not None for kind in plan.kinds)
        fields = [*FIELDS, *([("name", str | None, None)] if self.named else [])]
        fields += [(root, self.types[root] | None, None) for root in self.roots]
        hidden = {name: f"\u2063{name}" for name in WORK}
        self.type = msgspec.defstruct(
            "Event", [*fields, *((name, Any, None) for name in WORK)], rename=hidden, gc=False
        )
        self.decode = msgspec.json.Decoder(self.type, float_hook=NUMBERS.__getitem__).decode

    def _object(self, name: str, keys: list[str], more: Sequence[tuple[str, Any, Any]] = ()) -> Any:
        """A struct with a field a key: ``p0``, ``p1``, ... for any value."""
        fields = [(f"p{index}", Any, UNSET) for index in range(len(keys))]
        names = {f"p{index}": key for index, key in enumerate(keys)}
        taken = [(field, type_, default) for field, type_, default in more if field not in keys]
        return msgspec.defstruct(name, [*fields, *taken], rename=names, gc=False)

    def trait_field(self, name: str) -> str:
        """The field of ``Traits`` that holds a trait."""
        return f"p{self.keys['traits'].index(name)}"

    def context_traits(self, context: str) -> str:
        """An expression for ``context.traits`` as a ``Traits`` or None, given one for a context."""
        if "traits" not in self.keys["context"]:
            return f"{context}.traits"
        return f"traits_of({context}.p{self.keys['context'].index('traits')})"

    def traits_of(self, value: Any) -> Any:
        """A decoded object as a ``Traits``; None for any other value."""
        return self._struct("traits", value)

    def value(self, path: Path) -> str:
        """An expression for the value at a path, given a local variable named as its root."""
        field = f"{path.root}.p{self.keys[path.root].index(path.keys[0])}"
        return field if len(path.keys) == 1 else f"walk({field}, {path.keys[1:]!r})"

    def decode_all(
        self, values: Sequence[bytes | None], refused: list[tuple[int, RejectedEvent]], bytes_max: int
    ) -> list[Event | None]:
        """Events of many messages.

        Args:
            values: the messages' bytes.
            refused: takes the place and the refusal of each message that is not an event.
            bytes_max: a longer message is refused.

        Returns:
            For each message, in order, its event; None where it is refused.
        """
        out: list[Event | None] = []
        rest: Iterator[Any] = iter(values)
        decode = self.decode
        while len(out) < len(values):
            try:
                out.extend(map(decode, rest))
            except UNREADABLE:
                try:
                    out.append(self.tolerant(values[len(out)]))
                except RejectedEvent as refusal:
                    refused.append((len(out), refusal))
                    out.append(None)
        if max(map(len, filter(None, values)), default=0) > bytes_max:
            self._refuse_large(values, out, refused, bytes_max)
        return out

    def _refuse_large(
        self,
        values: Sequence[bytes | None],
        out: list[Event | None],
        refused: list[tuple[int, RejectedEvent]],
        bytes_max: int,
    ) -> None:
        large = {place: len(value) for place, value in enumerate(values) if value and len(value) > bytes_max}
        refused[:] = [(place, refusal) for place, refusal in refused if place not in large]
        for place, size in large.items():
            refused.append((place, RejectedEvent("too_large", f"{size} bytes")))
            out[place] = None

    def tolerant(self, value: bytes | None) -> Event:
        """Reads a message that the fast decoder does not take.

        Raises:
            RejectedEvent: it is not JSON, not an object, or has ids or times of an impossible type.
        """
        if value is None:
            raise RejectedEvent("not_json", "the record has no value")
        try:
            message = decode_any(value)
        except RecursionError as error:
            raise RejectedEvent("bad_shape", "nested too deeply") from error
        except msgspec.ValidationError as error:
            raise RejectedEvent("bad_shape", str(error)) from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise RejectedEvent("not_json", str(error)) from error
        if not isinstance(message, dict):
            raise RejectedEvent("bad_shape", "the document is not an object")
        return self.type(**self._fields(message))

    def _fields(self, message: dict[str, Any]) -> dict[str, Any]:
        type_ = message.get("type")
        if not isinstance(type_, str) or type_ not in CALL_TYPES:
            raise RejectedEvent("bad_type", f"type is {str(type_)[:40]!r}")
        fields: dict[str, Any] = {"type": sys.intern(type_)}
        for key in ("event", "name") if self.named else ("event",):
            text = message.get(key)
            fields[key] = text if isinstance(text, str) else None
        for key in ("userId", "anonymousId", "previousId", "messageId"):
            raw = message.get(key)
            if raw is not None and (isinstance(raw, bool) or not isinstance(raw, str | int | Decimal)):
                raise RejectedEvent("bad_shape", f"{key} is neither text nor a number")
            fields[key] = identifier_text(raw) if key == "messageId" and isinstance(raw, int | Decimal) else raw
        for key in TIMES:
            text = message.get(key)
            if text is not None and not isinstance(text, str):
                raise RejectedEvent("bad_time", f"{key} is not text")
            fields[key] = text
        for root in self.roots:
            fields[root] = self._struct(root, message.get(root))
        return fields

    def _struct(self, root: str, value: Any) -> Any:
        if not isinstance(value, dict):
            return None
        fields = {f"p{index}": value[key] for index, key in enumerate(self.keys[root]) if key in value}
        if root == "context" and "traits" in self.types["context"].__struct_fields__:
            fields["traits"] = self._struct("traits", value.get("traits"))
        return self.types[root](**fields)
