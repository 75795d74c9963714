"""From the YAML under ``when:`` to the tree of a condition.

Owns: the shape of conditions: ``event``, ``trait``, ``attribute``, ``audience``, ``all``, ``any``, ``none``, what goes
with each, and how deep they nest. A list is ``all``; several of ``all``, ``any`` and ``none`` in one mapping must all hold.
Not here: predicates (opportune.audiences.predicate_reader), what conditions mean together (opportune.audiences.check).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from opportune.audiences.diagnostics import Report, Unreadable, listed, quoted
from opportune.audiences.durations import duration_ms
from opportune.audiences.events_file import Events, read_where
from opportune.audiences.fields import Fields, fields_of, kind, not_yet, text_of
from opportune.audiences.paths import keys_of
from opportune.audiences.predicate_reader import Subject, predicate_of
from opportune.audiences.schema import (
    All,
    Any,
    AttributeCondition,
    AudienceCondition,
    Comparison,
    Condition,
    EventCondition,
    Not,
    Predicate,
    Span,
    TraitCondition,
)
from opportune.audiences.warehouse_file import Tables
from opportune.audiences.yaml_tree import MappingNode, Node, SequenceNode

DEPTH_MAX = 32
EVER = "ever"
CALENDAR_WINDOWS = ("session", "day", "week", "month")
AGGREGATES = ("count", "sum", "avg", "min", "max", "distinct", "first", "last")
LEAF_KEYS = {
    "event": ("event", "where", "times", "within"),
    "trait": ("trait", "is"),
    "attribute": ("attribute", "is"),
    "audience": ("audience",),
}
COMBINATION_KEYS = ("all", "any", "none")
LATER_KINDS = ("sequence", "absent", "near", "during")
ONCE = Predicate((Comparison("gte", 1),))
"""What ``times`` is where it is not written."""

Combination: TypeAlias = type[All] | type[Any] | type[Not]
_MADE_BY: dict[str, Combination] = {"all": All, "any": Any, "none": Not}


class ConditionReader:
    """Reads conditions against what a project declares.

    Args:
        events: the event models.
        tables: the warehouse tables.
        report: takes errors and warnings.
    """

    def __init__(self, events: Events, tables: Tables, report: Report) -> None:
        self._events = events
        self._tables = tables
        self._report = report
        self._references: list[AudienceCondition] = []

    def take_references(self) -> list[AudienceCondition]:
        """The references to audiences read since the last call, also inside of conditions that have errors."""
        taken, self._references = self._references, []
        return taken

    def read(self, node: Node, depth: int = 1) -> Condition | None:
        """The condition that a node says; None where it has an error, which is reported.

        Args:
            node: a mapping, or a list of them.
            depth: how many conditions are around it, itself counted.
        """
        if depth > DEPTH_MAX:
            self._report.error(
                node.span, f"conditions nest deeper than {DEPTH_MAX}", "name an inner one as an audience of its own"
            )
            return None
        if isinstance(node, SequenceNode):
            return self._combination("all", node, depth)
        if not isinstance(node, MappingNode):
            hint = 'for example {event: Pricing Viewed, times: ">= 3", within: 10 minutes}'
            self._report.error(node.span, f"a condition is a mapping or a list, not {kind(node)}", hint)
            return None
        keys = [key.text for key, _ in node.entries]
        leaves = [key for key in keys if key in LEAF_KEYS]
        if any(key in COMBINATION_KEYS for key in keys):
            return self._combinations(node, leaves, depth)
        if not leaves:
            self._no_kind(node)
            return None
        if len(leaves) > 1:
            self._report.error(
                node.span, f"{listed(leaves)} in one mapping", "make a list of them: one condition a mapping"
            )
            return None
        return self._leaf(leaves[0], node)

    def _combinations(self, node: MappingNode, leaves: Sequence[str], depth: int) -> Condition | None:
        if leaves:
            self._report.error(
                node.span,
                f"{listed(leaves)} stands beside `all`, `any` or `none`",
                "make a list of them: one condition a mapping",
            )
            return None
        fields = fields_of(node, "a combination", COMBINATION_KEYS, self._report)
        if fields is None:
            return None
        parts = []
        for key in fields.present():
            part = fields.get(key)
            parts.append(self._combination(key, part, depth) if part is not None else None)
        whole = tuple(part for part in parts if part is not None)
        if len(whole) < len(parts) or not whole:
            return None
        return whole[0] if len(whole) == 1 else All(whole, node.span)

    def _combination(self, key: str, node: Node, depth: int) -> Condition | None:
        if not isinstance(node, SequenceNode):
            self._report.error(
                node.span, f"{quoted(key)} takes a list of conditions, not {kind(node)}", "begin each with `- `"
            )
            return None
        if not node.items:
            self._report.error(
                node.span, f"an empty list under {quoted(key)} says nothing", "name at least one condition"
            )
            return None
        parts = [self.read(item, depth + 1) for item in node.items]
        whole = tuple(part for part in parts if part is not None)
        return _MADE_BY[key](whole, node.span) if len(whole) == len(parts) else None

    def _no_kind(self, node: MappingNode) -> None:
        known = (*LEAF_KEYS, *COMBINATION_KEYS)
        for key, _ in node.entries:
            if key.text in LATER_KINDS:
                not_yet(key.span, quoted(key.text), self._report)
                return
        for key, _ in node.entries:
            hint = self._report.did_you_mean(key.text, known)
            if hint:
                self._report.error(key.span, f"there is no condition {quoted(key.text)}", hint)
                return
        self._report.error(node.span, "this mapping has no condition", f"a condition has one of {listed(known)}")

    def _leaf(self, key: str, node: MappingNode) -> Condition | None:
        later = (*AGGREGATES, "timezone", "is") if key == "event" else ()
        fields = fields_of(node, f"a condition on {quoted(key)}", LEAF_KEYS[key], self._report, later=later)
        named = fields.get(key) if fields is not None else None
        name = text_of(named, quoted(key), self._report) if named is not None else None
        if fields is None or named is None or name is None:
            return None
        sound = len(fields.present()) == len(node.entries)
        if key == "audience":
            reference = AudienceCondition(name, named.span)
            self._references.append(reference)
            return reference if sound else None
        read = {"event": self._event, "trait": self._trait, "attribute": self._attribute}[key]
        condition = read(name, named.span, fields)
        return condition if sound else None

    def _event(self, name: str, span: Span, fields: Fields) -> Condition | None:
        self._warn_if_undeclared(name, span)
        where_node, times_node, within_node = fields.get("where"), fields.get("times"), fields.get("within")
        where = read_where(where_node, self._events.properties(name), self._report) if where_node is not None else ()
        subject = Subject("the number of events", "number", count=True)
        times = predicate_of(times_node, subject, self._report) if times_node is not None else ONCE
        within = self._window(within_node) if within_node is not None else (None,)
        if where is None or times is None or within is None:
            return None
        return EventCondition(self._events.model(name), where, times, within[0], span)

    def _warn_if_undeclared(self, name: str, span: Span) -> None:
        models = self._events.models
        if models and self._events.complete and name not in models:
            hint = self._report.did_you_mean(name, models, "declare it in events.yml")
            self._report.warning(span, f"events.yml does not declare the event {quoted(name)}", hint)

    def _window(self, node: Node) -> tuple[int | None] | None:
        """The length of the window in milliseconds (None: ever) in a tuple of one; None after an error."""
        text = text_of(node, "`within`", self._report)
        if text is None:
            return None
        if text == EVER:
            return (None,)
        if text in CALENDAR_WINDOWS:
            not_yet(node.span, f"the window {quoted(text)}", self._report)
            return None
        try:
            return (duration_ms(text),)
        except Unreadable as error:
            self._report.error(node.span, f"`within`: {error.message}", error.hint)
            return None

    def _trait(self, name: str, span: Span, fields: Fields) -> Condition | None:
        keys = None
        try:
            keys = keys_of(name)
        except Unreadable as error:
            self._report.unreadable(span, error)
        predicate = self._is(fields, Subject(f"the trait {quoted(name)}", person=True))
        return TraitCondition(keys, predicate, span) if keys and predicate is not None else None

    def _attribute(self, name: str, span: Span, fields: Fields) -> Condition | None:
        column = None
        try:
            column = self._tables.resolve(name, self._report)
            subject = Subject(f"the column {quoted(name)}", column.type, column.declared, lists=False, person=True)
        except Unreadable as error:
            subject = Subject(f"the column {quoted(name)}", lists=False, person=True)
            if self._tables.complete:
                self._report.unreadable(span, error)
        predicate = self._is(fields, subject)
        if column is None or predicate is None:
            return None
        return AttributeCondition(column.table, column.name, predicate, span)

    def _is(self, fields: Fields, subject: Subject) -> Predicate | None:
        node = fields.get("is")
        if node is None:
            self._report.error(
                fields.span, f"{subject.what} is compared with nothing", "add `is:`, for example is: free"
            )
            return None
        return predicate_of(node, subject, self._report)
