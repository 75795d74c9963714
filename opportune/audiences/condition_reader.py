"""From the YAML under ``when:`` to the tree of a condition.

Owns: the shape of conditions: ``event``, ``trait``, ``attribute``, ``audience``, ``all``, ``any``, ``none``, what goes
with each, and how deep they nest. A list is ``all``; several of ``all``, ``any`` and ``none`` in one mapping must all hold.
Not here: predicates (opportune.audiences.predicate_reader), aggregates (.aggregate_reader), patterns (.pattern_reader), what
conditions mean together (.check).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from opportune.audiences.aggregate_reader import AggregateReader
from opportune.audiences.diagnostics import Report, Unreadable, listed, quoted
from opportune.audiences.events_file import Events
from opportune.audiences.fields import Fields, fields_of, kind, text_of
from opportune.audiences.paths import keys_of
from opportune.audiences.pattern_reader import PATTERN_KEYS, PatternReader
from opportune.audiences.predicate import function
from opportune.audiences.predicate_reader import Subject, predicate_of
from opportune.audiences.schema import (
    AggregateCondition,
    AggregateValue,
    All,
    Any,
    AttributeCondition,
    AttributeValue,
    AudienceCondition,
    Comparison,
    Condition,
    EventCondition,
    Not,
    Predicate,
    Span,
    TraitCondition,
    TraitValue,
    ValueType,
)
from opportune.audiences.traits_file import Traits
from opportune.audiences.warehouse_file import Tables
from opportune.audiences.yaml_tree import MappingNode, Node, SequenceNode
from opportune.features.aggregates import FUNCTIONS

DEPTH_MAX = 32
LEAF_KEYS = {
    **PATTERN_KEYS,
    "event": ("event", "where", "times", "within", "timezone", "is", *FUNCTIONS),
    "trait": ("trait", "is"),
    "attribute": ("attribute", "is"),
    "audience": ("audience",),
}
COMBINATION_KEYS = ("all", "any", "none")
_IS = "did you mean `is`?"
_MEANT = dict.fromkeys(("equals", "equal", "eq", "value", "="), _IS)
"""Keys of conditions as people write them, with what is meant."""
BESIDE = {
    key: "it belongs beside `event`: in the same mapping, indented as far as `event` is, without a `- ` of its own"
    for key in LEAF_KEYS["event"]
    if key not in LEAF_KEYS
}
"""What stands beside ``event``, with where it belongs when it is found elsewhere."""
_EXAMPLES = {None: "free", "string": "free", "number": '">= 100"', "boolean": "true", "timestamp": '">= 2026-03-01"'}
_SPOKEN = {"not": "none", "nor": "none", "neither": "none", "and": "all", "or": "any", "either": "any"}
ONCE = Predicate((Comparison("gte", 1),))
"""What ``times`` is where it is not written."""

Combination: TypeAlias = type[All] | type[Any] | type[Not]
_MADE_BY: dict[str, Combination] = {"all": All, "any": Any, "none": Not}


class ConditionReader:
    """Reads conditions against what a project declares.

    Args:
        events: the event models.
        tables: the warehouse tables.
        traits: the computed traits.
        timezone: of the project.
        report: takes errors and warnings.
    """

    def __init__(self, events: Events, tables: Tables, traits: Traits, timezone: str, report: Report) -> None:
        self._events = events
        self._tables = tables
        self._traits = traits
        self._report = report
        self._aggregates = AggregateReader(events, timezone, report)
        self._patterns = PatternReader(self._aggregates, timezone, report)
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
        leaves = [key for key in keys if key in PATTERN_KEYS] or [key for key in keys if key in LEAF_KEYS]
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
        fields = fields_of(node, "a combination", COMBINATION_KEYS, self._report, meant=BESIDE)
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
            if key.text in BESIDE:
                self._report.error(key.span, f"{quoted(key.text)} is no condition by itself", BESIDE[key.text])
                return
            spoken = _SPOKEN.get(key.text)
            hint = f"did you mean {quoted(spoken)}?" if spoken else self._report.did_you_mean(key.text, known)
            if hint:
                self._report.error(key.span, f"there is no condition {quoted(key.text)}", hint)
                return
        self._report.error(node.span, "this mapping has no condition", f"a condition has one of {listed(known)}")

    def _leaf(self, key: str, node: MappingNode) -> Condition | None:
        fields = fields_of(node, f"a condition on {quoted(key)}", LEAF_KEYS[key], self._report, meant=_MEANT)
        if fields is None:
            return None
        sound = len(fields.present()) == len(node.entries)
        if key in PATTERN_KEYS:
            condition = self._patterns.read(key, fields, fields.key_span(key))
            return condition if sound else None
        named = fields.get(key)
        name = text_of(named, quoted(key), self._report) if named is not None else None
        if named is None or name is None:
            return None
        if key == "audience":
            reference = AudienceCondition(name, named.span)
            self._references.append(reference)
            return reference if sound else None
        read = {"event": self._event, "trait": self._trait, "attribute": self._attribute}[key]
        condition = read(name, named.span, fields)
        return condition if sound else None

    def _event(self, _: str, span: Span, fields: Fields) -> Condition | None:
        found = self._aggregates.function(fields)
        if found is not None:
            return self._aggregate(*found, span, fields)
        if "is" in fields:
            self._report.error(
                fields.key_span("is"), "`is` goes with an aggregate", 'for a number of events write times: ">= 3"'
            )
        step = self._aggregates.step(fields)
        times_node = fields.get("times")
        subject = Subject("the number of events", "number", count=True)
        times = predicate_of(times_node, subject, self._report) if times_node is not None else ONCE
        window = self._aggregates.window(fields)
        if step is None or times is None or window is None or "is" in fields:
            return None
        if window.kind in ("ever", "duration"):
            return EventCondition(step.model, step.where, times, window.ms or None, span)
        value = AggregateValue(step.model, step.where, "count", None, instants=False, window=window)
        return AggregateCondition(value, times, span)

    def _aggregate(self, name: str, node: Node, span: Span, fields: Fields) -> Condition | None:
        if "times" in fields:
            self._report.error(
                fields.key_span("times"),
                f"`times` is for counts, {quoted(name)} takes `is`",
                'for example is: ">= 500"',
            )
        found = self._aggregates.aggregate(name, node, fields)
        type_ = found[1] if found is not None else None
        subject = Subject(f"the {name} of {quoted(getattr(node, 'text', ''))}", type_, lists=False, person=True)
        predicate = self._is(fields, subject)
        if found is None or predicate is None or "times" in fields:
            return None
        return AggregateCondition(found[0], predicate, span)

    def value(self, key: str, name: str, span: Span) -> AggregateValue | TraitValue | AttributeValue | None:
        """A value of the person that an operand names; None after an error.

        Args:
            key: ``trait`` or ``attribute``.
            name: of the trait or column.
            span: where it stands.
        """
        try:
            if key == "attribute":
                column = self._tables.resolve(name, self._report)
                return AttributeValue(column.table, column.name, column.type == "timestamp")
            if name in self._traits.by_name:
                return self._traits.by_name[name].value
            return TraitValue(keys_of(name))
        except Unreadable as error:
            if key == "trait" or self._tables.complete:
                self._report.unreadable(span, error)
            return None

    def _trait(self, name: str, span: Span, fields: Fields) -> Condition | None:
        if name in self._traits.spans:
            return self._computed(name, span, fields)
        keys = None
        try:
            keys = keys_of(name)
        except Unreadable as error:
            self._report.unreadable(span, error)
        predicate = self._is(fields, Subject(f"the trait {quoted(name)}", person=True))
        if keys is None or predicate is None:
            return None
        if keys[0] in self._traits.by_name:
            self._report.warning(
                span, f"{quoted(keys[0])} is a computed trait: it has no keys inside of it", f"write trait: {keys[0]}"
            )
            return always(keys[0], self._traits, function(predicate)(None))
        return TraitCondition(keys, predicate, span)

    def _computed(self, name: str, span: Span, fields: Fields) -> Condition | None:
        trait = self._traits.by_name.get(name)
        type_: ValueType | None = self._traits.types.get(name)
        predicate = self._is(fields, Subject(f"the trait {quoted(name)}", type_, lists=False, person=True))
        return None if trait is None or predicate is None else AggregateCondition(trait.value, predicate, span)

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
                fields.span,
                f"{subject.what} is compared with nothing",
                f"add `is:`, for example is: {_EXAMPLES[subject.type]}",
            )
            return None
        return predicate_of(node, subject, self._report, self.value)


def always(name: str, traits: Traits, holds: bool) -> Condition:
    """A condition that always holds, or never does: of what a computed trait has not."""
    one = AggregateCondition(traits.by_name[name].value, ONCE)
    both = (one, Not((one,)))
    return Any(both) if holds else All(both)
