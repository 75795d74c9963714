"""traits/*.yml: computed traits, values of events with a name.

Owns: a file's documents (one trait, or a list of them), names, and which aggregate each is. A computed trait hides the trait of
identify calls of its name. Invariant: of two traits with one name the second is an error.
Not here: aggregates (opportune.audiences.aggregate_reader), conditions on traits (opportune.audiences.condition_reader).
"""

from __future__ import annotations

from opportune.audiences.aggregate_reader import AggregateReader
from opportune.audiences.diagnostics import Report, listed, quoted
from opportune.audiences.fields import Fields, boolean_of, fields_of, kind, scalar_node, text_of
from opportune.audiences.paths import UNDECODABLE
from opportune.audiences.schema import AggregateValue, ComputedTrait, Span, ValueType
from opportune.audiences.sources import PROFILE
from opportune.audiences.yaml_tree import MappingNode, Node, SequenceNode
from opportune.features.aggregates import FUNCTIONS

KEYS = ("name", "description", "event", "where", "within", "timezone", "count", *FUNCTIONS)


class Traits:
    """The computed traits of all files.

    Attributes:
        by_name: those that are right.
        spans: where each name is given, also of those that are not right.
        types: the types of their values, where known.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, ComputedTrait] = {}
        self.spans: dict[str, Span] = {}
        self.types: dict[str, ValueType | None] = {}


def read_traits(documents: tuple[Node, ...] | None, reader: AggregateReader, found: Traits, report: Report) -> None:
    """Reads the computed traits of one file into ``found``; arguments as those of ``read_audiences``."""
    for document in documents or ():
        nodes = document.items if isinstance(document, SequenceNode) else (document,)
        for node in nodes:
            if isinstance(node, MappingNode):
                _trait(node, reader, found, report)
            else:
                report.error(node.span, f"a computed trait is a mapping with `name` and `event`, not {kind(node)}")


def _trait(node: MappingNode, reader: AggregateReader, found: Traits, report: Report) -> None:
    fields = fields_of(node, "a computed trait", KEYS, report, required=("name", "event"))
    assert fields is not None, "a mapping has fields"
    name = _name(fields, found, report)
    read = _value(fields, reader, report)
    description = fields.get("description")
    text = scalar_node(description, "`description`", report) if description is not None else None
    if name is None or read is None or len(fields.present()) < len(node.entries):
        return
    value, type_ = read
    if name == "timezone" and value.window.timezone == PROFILE:
        report.error(
            fields.key_span("timezone"), "the trait `timezone` is what `timezone: profile` reads", "name a zone here"
        )
        return
    found.by_name[name] = ComputedTrait(name, value, text.text.strip() if text is not None else "", found.spans[name])
    found.types[name] = type_


def _value(fields: Fields, reader: AggregateReader, report: Report) -> tuple[AggregateValue, ValueType | None] | None:
    function = reader.function(fields)
    counted = fields.get("count")
    if (function is None) == (counted is None):
        report.error(
            fields.span, f"a computed trait has one of {listed(('count', *FUNCTIONS))}", "for example `count: true`"
        )
        return None
    if function is not None:
        return reader.aggregate(*function, fields)
    step, window = reader.step(fields), reader.window(fields)
    if counted is not None and boolean_of(counted, "`count`", report) is not True:
        report.error(counted.span, "`count` is `true`")
        return None
    if step is None or window is None:
        return None
    return AggregateValue(step.model, step.where, "count", None, instants=False, window=window), "number"


def _name(fields: Fields, found: Traits, report: Report) -> str | None:
    node = fields.get("name")
    name = text_of(node, "`name`", report) if node is not None else None
    if name is None or node is None:
        return None
    if name in found.spans:
        first = found.spans[name]
        report.error(node.span, f"the trait {quoted(name)} is there twice", f"the first is {first.file}:{first.line}")
        return None
    found.spans[name] = node.span
    if "." in name or UNDECODABLE.search(name):
        report.error(node.span, f"{quoted(name)} cannot be the name of a trait", "a name without points and quotes")
        return None
    return name
