"""The rows of a story's timeline.

Owns: what a row may hold (an event or identify call, a refresh of the warehouse, expectations), the message that comes of
it, and who is who: a person is a user id, or ``namespace:value``.
Not here: the mapping around the timeline (opportune.audiences.story_file), instants (opportune.audiences.story_instants).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, get_args

import msgspec

from opportune.audiences.diagnostics import Report, Unreadable, listed, quoted
from opportune.audiences.fields import Fields, fields_of, kind, mapping_of, text_of
from opportune.audiences.schema import EventModel, Span, Table
from opportune.audiences.story_instants import story_instant
from opportune.audiences.warehouse_file import extra_columns
from opportune.audiences.yaml_tree import MappingNode, Node, ScalarNode, SequenceNode
from opportune.event import REASONS
from opportune.identity import NAMESPACES
from opportune.project import Project
from opportune.story import Expectation, Kind, Row, Rows

CALLS = ("event", "identify", "page", "screen", "message")
EXPECTATIONS: tuple[Kind, ...] = get_args(Kind)
ROW_KEYS = ("at", "person", *CALLS, "properties", "warehouse", "refused", *EXPECTATIONS)
FIELDS = {"user_id": "userId", "anonymous_id": "anonymousId"}
"""The fields of a message that carry an identifier of its own."""


class Timeline:
    """Reads rows one after the other; the story's clock goes on with them.

    Args:
        project: names its audiences, events and tables.
        report: takes errors and warnings.
        person: whom a row is about that does not say; None: each row has to say.
        now_ms: where the clock starts.

    Attributes:
        people: everybody whom a row or a warehouse row is about.
        asked: whom expectations name, each with where.
    """

    def __init__(self, project: Project, report: Report, person: str | None, now_ms: int) -> None:
        self.project = project
        self.report = report
        self.person = person
        self.now_ms = now_ms
        self.audiences = {audience.name for audience in project.audiences}
        self.people: set[str] = {person} if person is not None else set()
        self.asked: list[tuple[str, Span]] = []

    def row(self, node: Node) -> Row | None:
        """Reads a row; None where anything is wrong with it."""
        fields = fields_of(node, "a row", ROW_KEYS, self.report)
        if fields is None:
            return None
        at_ms = self._at(fields)
        calls = [key for key in CALLS if key in fields and key != "message"]
        if len(calls) > 1:
            self.report.error(fields.key_span(calls[1]), f"a row has one of {listed(calls)}", "make two rows of it")
            return None
        message = self._message(fields, calls[0] if calls else None, at_ms)
        node_tables = fields.get("warehouse")
        tables = self.tables(node_tables) if node_tables is not None else {}
        expectations = tuple(found for kind in EXPECTATIONS for found in self._expectations(fields, kind))
        if message is None and not tables and not expectations and not fields.present():
            self.report.error(fields.span, "an empty row", "write what happens, or what must be true")
        return Row(
            self.now_ms,
            at_ms,
            self._text(fields, calls, tables),
            message,
            tables,
            self._refused(fields, message),
            expectations,
            fields.span,
        )

    def _at(self, fields: Fields) -> int:
        node = fields.get("at")
        text = text_of(node, "`at`", self.report) if node is not None else None
        if text is None or node is None:
            return self.now_ms
        try:
            at_ms = story_instant(text, self.now_ms)
        except Unreadable as error:
            self.report.unreadable(node.span, error)
            return self.now_ms
        if at_ms < self.now_ms and not any(key in fields for key in CALLS):
            self.report.error(node.span, "time does not go back", "only an event can be from earlier: it arrives late")
        self.now_ms = max(self.now_ms, at_ms)
        return at_ms

    def _message(self, fields: Fields, call: str | None, at_ms: int) -> dict[str, Any] | None:
        node = fields.get("message")
        if call is None and node is None:
            for key in ("person", "properties"):
                if key in fields and (key == "properties" or not any(each in fields for each in EXPECTATIONS)):
                    self.report.error(fields.key_span(key), f"{quoted(key)} of what?", f"one of {listed(CALLS)}")
            return None
        made: dict[str, Any] = {}
        if call is not None:
            made = self._called(call, cast(Node, fields.get(call)), fields)
        made |= self._identifiers(fields)
        more = mapping_of(node, "`message`", self.report) if node is not None else None
        if more is not None:
            made |= cast("dict[str, Any]", self._plain(more))
        times = ("timestamp", "originalTimestamp", "receivedAt")
        return made if any(key in made for key in times) else made | {"timestamp": at_ms}

    def _called(self, call: str, node: Node, fields: Fields) -> dict[str, Any]:
        made: dict[str, Any]
        if call == "identify":
            traits = mapping_of(node, "`identify`", self.report)
            made = {"type": "identify", "traits": self._plain(traits) if traits is not None else {}}
        elif call == "event":
            name = text_of(node, "`event`", self.report) or ""
            model = self.project.models.get(name) or EventModel(name, "track", name)
            if self.project.models and name and name not in self.project.models:
                hint = self.report.did_you_mean(name, self.project.models, "declare it there, or correct the name")
                self.report.warning(node.span, f"events.yml does not declare {quoted(name)}", hint)
            made = {"type": model.type}
            if model.raw_name is not None:
                made["event" if model.type == "track" else "name"] = model.raw_name
        else:
            made = {"type": call, "name": text_of(node, f"`{call}`", self.report)}
        properties = fields.get("properties")
        if properties is not None:
            if call == "identify":
                self.report.error(
                    fields.key_span("properties"), "an identify call has traits", "put them under `identify`"
                )
            mapping = mapping_of(properties, "`properties`", self.report)
            made["properties"] = self._plain(mapping) if mapping is not None else {}
        return made

    def _identifiers(self, fields: Fields) -> dict[str, Any]:
        node = fields.get("person")
        if node is None:
            names = [self.person] if self.person is not None else []
            message = fields.get("message")
            keys = {key.text for key, _ in message.entries} if isinstance(message, MappingNode) else set()
            if keys & set(FIELDS.values()):
                return {}
            if not names:
                self.report.error(fields.span, "the row does not say who", "add `person: NAME`, here or to the story")
        else:
            names = self._names(node, "`person`")
        made: dict[str, Any] = {}
        for name in names:
            namespace, value = split(name)
            self.people.add(name)
            if namespace not in FIELDS:
                where = fields.key_span("person")
                self.report.error(where, f"a message has no field for {quoted(namespace)}", "send it as a trait")
            else:
                made[FIELDS[namespace]] = value
        return made

    def _names(self, node: Node, what: str) -> list[str]:
        nodes = node.items if isinstance(node, SequenceNode) else (node,)
        names = [text_of(each, what, self.report) for each in nodes]
        return [name for name in names if name is not None]

    def tables(self, node: Node) -> dict[str, Rows]:
        """Reads ``warehouse:``, rows by table."""
        mapping = mapping_of(node, "`warehouse`", self.report)
        found: dict[str, Rows] = {}
        for key, value in mapping.entries if mapping is not None else ():
            table = self.project.tables.get(key.text)
            if table is None:
                hint = self.report.did_you_mean(key.text, self.project.tables, "warehouse.yml names the tables")
                self.report.error(key.span, f"there is no table {quoted(key.text)}", hint)
            elif not isinstance(value, SequenceNode):
                self.report.error(value.span, f"{quoted(key.text)} is a list of rows, not {kind(value)}")
            else:
                rows = [self._table_row(table, item) for item in value.items]
                found[key.text] = tuple(row for row in rows if row is not None)
        return found

    def _table_row(self, table: Table, node: Node) -> dict[str, Any] | None:
        mapping = mapping_of(node, "a row of a table", self.report)
        if mapping is None:
            return None
        known = [table.key, *table.columns, *extra_columns(table)]
        row: dict[str, Any] = {}
        for key, value in mapping.entries:
            near = self.report.nearest(key.text, known) if key.text not in known and table.columns else None
            if near is not None:
                self.report.warning(
                    key.span, f"no such column is declared: {quoted(key.text)}", f"did you mean {near}?"
                )
            if not isinstance(value, ScalarNode):
                self.report.error(value.span, f"{quoted(key.text)} is a single value, not {kind(value)}")
                continue
            row[key.text] = self._plain(value)
        if table.key not in row:
            self.report.error(mapping.span, f"the row has no key {quoted(table.key)}")
            return None
        name = str(row[table.key])
        self.people.add(name if table.namespace == NAMESPACES[0] else f"{table.namespace}:{name}")
        return row

    def _refused(self, fields: Fields, message: object) -> str | None:
        node = fields.get("refused")
        reason = text_of(node, "`refused`", self.report) if node is not None else None
        if reason is not None and node is not None:
            if reason not in REASONS:
                hint = self.report.did_you_mean(reason, REASONS, f"one of {listed(REASONS)}")
                self.report.error(node.span, f"{quoted(reason)} is no reason to refuse a message", hint)
            if message is None:
                self.report.error(fields.key_span("refused"), "nothing happens in this row that could be refused")
        return reason

    def _expectations(self, fields: Fields, kind_: Kind) -> list[Expectation]:
        node = fields.get(kind_)
        if node is None:
            return []
        if not isinstance(node, MappingNode):
            if kind_ == "members":
                self.report.error(node.span, "`members` is a mapping: AUDIENCE: [PERSON, ...]")
                return []
            return self._about_one(fields, kind_, node)
        found = []
        for audience, value in node.entries:
            people = self._names(value, "a person")
            if not people and kind_ != "members":
                self.report.error(value.span, "nobody is named here", f"`members: {{{audience.text}: []}}` says nobody")
            self.asked += [(name, value.span) for name in people]
            found.append(self._expectation(kind_, audience.text, tuple(people), audience.span))
        return found

    def _about_one(self, fields: Fields, kind_: Kind, node: Node) -> list[Expectation]:
        """``in: AUDIENCE`` or a list of them, about the person of the row or of the story."""
        who = fields.get("person")
        people = self._names(who, "`person`")[:1] if who is not None else [self.person] if self.person else []
        if not people:
            self.report.error(node.span, "the row does not say who", f"write `{kind_}: {{AUDIENCE: PERSON}}`")
        nodes = node.items if isinstance(node, SequenceNode) else (node,)
        found = []
        for each in nodes:
            name = text_of(each, "an audience", self.report)
            if name is not None:
                self.asked += [(person, each.span) for person in people]
                found.append(self._expectation(kind_, name, tuple(people), each.span))
        return found

    def _expectation(self, kind_: Kind, audience: str, people: tuple[str, ...], span: Span) -> Expectation:
        if audience not in self.audiences:
            hint = self.report.did_you_mean(
                audience, self.audiences, f"audiences: {listed(sorted(self.audiences)[:8])}"
            )
            self.report.error(span, f"there is no audience {quoted(audience)}", hint)
        return Expectation(kind_, audience, people, span)

    def _text(self, fields: Fields, calls: list[str], tables: Mapping[str, Rows]) -> str:
        """What happens, as it is written, in one line."""
        parts = []
        who = fields.get("person")
        if calls or "message" in fields:
            parts += self._names(who, "`person`") if who is not None else [self.person or ""]
        for key in (*calls, "properties", "message"):
            node = fields.get(key)
            if node is not None:
                word = f"{key} " if key in ("identify", "page", "screen") else ""
                parts.append(word + (node.text if isinstance(node, ScalarNode) else _line(self._plain(node))))
        for name, rows in tables.items():
            parts.append(f"warehouse {name}: {', '.join(map(_line, rows)) or 'no rows'}")
        return "  ".join(part for part in parts if part)

    def _plain(self, node: Node) -> Any:
        """The value of a node as JSON has it."""
        if isinstance(node, MappingNode):
            return {key.text: self._plain(value) for key, value in node.entries}
        if isinstance(node, SequenceNode):
            return [self._plain(item) for item in node.items]
        try:
            return node.value()
        except Unreadable as error:
            self.report.unreadable(node.span, error)
            return None


def split(name: str) -> tuple[str, str]:
    """Namespace and value of a person's name in a story."""
    namespace, colon, value = name.partition(":")
    if colon and namespace in (*NAMESPACES, "email", "phone"):
        return namespace, value
    return NAMESPACES[0], name


def _line(value: object) -> str:
    """A mapping in one line, as YAML's flow style has it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_line(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_line, value)) + "]"
    return value if isinstance(value, str) else msgspec.json.Encoder(decimal_format="number").encode(value).decode()
