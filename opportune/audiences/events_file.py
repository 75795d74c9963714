"""events.yml: event models, and the properties that they declare.

Owns: from names in definitions to models, paths and types. A name that no model has is the track call of that name; a
model hides the track call of its name.
Not here: predicates (opportune.audiences.predicate_reader), matching messages (opportune.audiences.compiler).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast, get_args

import msgspec

from opportune.audiences.diagnostics import Report, Unreadable, listed, quoted
from opportune.audiences.fields import Fields, choice, fields_of, mapping_of, text_of
from opportune.audiences.paths import path_of
from opportune.audiences.predicate_reader import Subject, predicate_of
from opportune.audiences.schema import CallType, EventModel, Path, Span, ValueType, Where
from opportune.audiences.yaml_tree import MappingNode, Node

CALL_TYPES: tuple[CallType, ...] = get_args(CallType)
VALUE_TYPES: tuple[ValueType, ...] = get_args(ValueType)
NAMED_CALLS = ("track", "page", "screen")
MODEL_KEYS = ("type", "name", "where", "properties")
ENVELOPE_KEYS = ("topic", "match", "time", "id", "message_id", "identifiers", "fields", "envelope", "description")


class DeclaredProperty(msgspec.Struct, frozen=True):
    """A property of a model: where it is, and its type (None: not declared)."""

    path: Path
    type: ValueType | None


class Properties(msgspec.Struct, frozen=True):
    """What a model declares of its properties, by their names in definitions.

    Args:
        by_name: the properties; empty where the model declares none, and then anything may be read.
        event: the model's name.
    """

    by_name: Mapping[str, DeclaredProperty] = {}
    event: str = ""

    def find(self, name: str) -> DeclaredProperty:
        """The property that a definition means, under ``where``, ``by`` or an aggregate.

        Raises:
            Unreadable: it is not a path.
        """
        if name in self.by_name:
            return self.by_name[name]
        path = path_of(name)
        for declared in self.by_name.values():
            if declared.path == path:
                return declared
        return DeclaredProperty(path, None)

    def covers(self, name: str) -> bool:
        """Whether reading ``name`` is what the model leads one to expect.

        Models declare what is under ``properties``. A declared property without a type may be an object.
        """
        path = path_of(name)
        if not self.by_name or path.root != "properties" or name in self.by_name:
            return True
        return any(
            declared.path == path
            or (declared.type is None and declared.path.root == path.root and _begins(path.keys, declared.path.keys))
            for declared in self.by_name.values()
        )


class Events:
    """The models of a project, and all other names as track calls.

    Args:
        models: by name.
        properties: what the models declare, by name of the model.
        complete: False where events.yml could not be read, so that an unknown name says nothing.
    """

    def __init__(
        self, models: dict[str, EventModel], properties: dict[str, Properties], *, complete: bool = True
    ) -> None:
        self.models = models
        self.complete = complete
        self._properties = properties

    def model(self, name: str) -> EventModel:
        """The model of a name in a definition."""
        return self.models.get(name) or EventModel(name, "track", name)

    def properties(self, name: str) -> Properties:
        """What the model of a name declares."""
        return self._properties.get(name, Properties())


def read_events(documents: tuple[Node, ...] | None, report: Report) -> Events:
    """The models of events.yml.

    Args:
        documents: of the file; None where it could not be read, empty where there is none.
        report: takes the errors.
    """
    models: dict[str, EventModel] = {}
    properties: dict[str, Properties] = {}
    complete = documents is not None
    for document in documents or ():
        mapping = mapping_of(document, "events.yml", report)
        for name, node in mapping.entries if mapping is not None else ():
            if name.text in models:
                report.error(name.span, f"the event {quoted(name.text)} is declared twice")
                continue
            # A model with errors keeps its name, so that what refers to it has no errors of its own.
            models[name.text], properties[name.text] = _model(name.text, node, report)
    return Events(models, properties, complete=complete)


def read_where(node: Node, properties: Properties, report: Report) -> tuple[Where, ...] | None:
    """The entries of a ``where``; None where it has an error, which is reported."""
    mapping = mapping_of(node, "`where`", report)
    if mapping is None:
        return None
    if not mapping.entries:
        report.error(mapping.span, "an empty `where` says nothing", "leave it out")
        return None
    entries = []
    for key, value in mapping.entries:
        found = read_property(key.text, key.span, properties, report)
        if found is None:
            continue
        subject = Subject(f"the property {quoted(key.text)}", found.type)
        predicate = predicate_of(value, subject, report)
        if predicate is not None:
            entries.append(Where(found.path, predicate))
    return tuple(entries) if len(entries) == len(mapping.entries) else None


def read_property(name: str, span: Span, properties: Properties, report: Report) -> DeclaredProperty | None:
    """The property that a definition names, with a warning where the model declares others and not this one.

    Args:
        name: as it is written.
        span: where it stands.
        properties: what the event declares.
        report: takes errors and warnings.

    Returns:
        None where it is not a path, which is reported.
    """
    try:
        found = properties.find(name)
    except Unreadable as error:
        report.unreadable(span, error)
        return None
    if not properties.covers(name):
        report.warning(
            span,
            f"the event {quoted(properties.event)} declares no property {quoted(name)}",
            report.did_you_mean(name.removeprefix("properties."), properties.by_name, "declare it in events.yml"),
        )
    return found


def type_of(node: Node, what: str, report: Report) -> ValueType | None:
    """One of the types of values."""
    return cast("ValueType | None", choice(*VALUE_TYPES)(node, what, report))


def _model(name: str, node: Node, report: Report) -> tuple[EventModel, Properties]:
    what = f"the event {quoted(name)}"
    plain = EventModel(name, "track", name), Properties()
    if not name.strip():
        report.error(node.span, "an event needs a name")
        return plain
    fields = fields_of(node, what, MODEL_KEYS, report, later=ENVELOPE_KEYS)
    if fields is None:
        return plain
    type_ = _call_type(fields, report)
    raw_name = name if type_ == "track" else None
    if (named := fields.get("name")) is not None:
        if type_ in NAMED_CALLS:
            raw_name = text_of(named, "`name`", report)
        else:
            report.error(
                fields.key_span("name"), f"{quoted(type_)} calls have no name", f"only {listed(NAMED_CALLS)} have"
            )
    declared = fields.get("properties")
    properties = _properties(name, declared, report) if declared is not None else Properties()
    where = fields.get("where")
    conditions = read_where(where, properties, report) if where is not None else ()
    return EventModel(name, type_, raw_name, conditions or ()), properties


def _call_type(fields: Fields, report: Report) -> CallType:
    node = fields.get("type")
    found = choice(*CALL_TYPES)(node, "`type`", report) if node is not None else None
    return cast(CallType, found or "track")


def _properties(event: str, node: Node, report: Report) -> Properties:
    mapping = mapping_of(node, "`properties`", report)
    if mapping is None:
        return Properties()
    found = {}
    for key, value in mapping.entries:
        try:
            declared = _property(key.text, value, report)
        except Unreadable as error:
            report.unreadable(key.span, error)
            continue
        found[key.text] = declared
    return Properties(found, event)


def _property(name: str, node: Node, report: Report) -> DeclaredProperty:
    path = path_of(name)
    if not isinstance(node, MappingNode):
        return DeclaredProperty(path, type_of(node, f"the type of {quoted(name)}", report))
    fields = fields_of(node, f"the property {quoted(name)}", ("path", "type"), report, required=("path",))
    type_node = fields.get("type") if fields is not None else None
    path_node = fields.get("path") if fields is not None else None
    text = text_of(path_node, "`path`", report) if path_node is not None else None
    if text is not None and path_node is not None:
        try:
            path = path_of(text)
        except Unreadable as error:
            report.unreadable(path_node.span, error)
    type_ = type_of(type_node, f"the type of {quoted(name)}", report) if type_node is not None else None
    return DeclaredProperty(path, type_)


def _begins(keys: tuple[str, ...], with_: tuple[str, ...]) -> bool:
    return keys[: len(with_)] == with_
