"""From YAML to values of events: aggregates, their windows and zones, and the steps of patterns.

Owns: which keys stand beside ``event``, which window goes with what, and the type of an aggregate's value.
Not here: the conditions around them (opportune.audiences.condition_reader, .pattern_reader), computed traits (.traits_file).
"""

from __future__ import annotations

from typing import Literal, cast

import msgspec

from opportune.audiences.diagnostics import Report, Unreadable, listed, quoted
from opportune.audiences.durations import duration_ms
from opportune.audiences.events_file import DeclaredProperty, Events, read_property, read_where
from opportune.audiences.fields import Fields, text_of
from opportune.audiences.schema import AggregateValue, Span, Step, ValueType, Where, Window
from opportune.audiences.sources import PROFILE
from opportune.audiences.yaml_tree import Node
from opportune.features.aggregates import FUNCTIONS, NUMERIC
from opportune.features.calendar import UNITS, ZONES

EVER = "ever"


class AggregateReader:
    """Reads what conditions say of events.

    Args:
        events: the event models.
        timezone: of the project.
        report: takes errors and warnings.
    """

    def __init__(self, events: Events, timezone: str, report: Report) -> None:
        self._events = events
        self._timezone = timezone
        self._report = report

    def step(self, fields: Fields) -> Step | None:
        """The events that ``event`` and ``where`` name; None after an error."""
        node = fields.get("event")
        name = text_of(node, "`event`", self._report) if node is not None else None
        if name is None or node is None:
            return None
        self._warn_if_undeclared(name, node.span)
        where = self.where(name, fields)
        return None if where is None else Step(self._events.model(name), where)

    def where(self, name: str, fields: Fields) -> tuple[Where, ...] | None:
        """The entries of ``where``; None after an error."""
        node = fields.get("where")
        return read_where(node, self._events.properties(name), self._report) if node is not None else ()

    def function(self, fields: Fields) -> tuple[str, Node] | None:
        """The aggregate that a mapping names, with the node of its property; None where there is none."""
        named = [key for key in FUNCTIONS if key in fields]
        if len(named) > 1:
            self._report.error(fields.key_span(named[1]), f"{listed(named)} in one condition", "name one of them")
        node = fields.get(named[0]) if named else None
        return None if node is None else (named[0], node)

    def aggregate(self, function: str, node: Node, fields: Fields) -> tuple[AggregateValue, ValueType | None] | None:
        """An aggregate of a property, and the type of its value where that is known; None after an error."""
        step = self.step(fields)
        found = self.property(text_of(node, quoted(function), self._report), node.span, fields)
        window = self.window(fields)
        if step is None or found is None or window is None:
            return None
        if function in NUMERIC and found.type not in (None, "number"):
            self._report.error(
                node.span,
                f"{quoted(function)} is of numbers, and {quoted(getattr(node, 'text', ''))} is a {found.type}",
                "use `distinct`, `first` or `last`",
            )
            return None
        type_: ValueType | None = "number" if function in (*NUMERIC, "distinct") else found.type
        instants = found.type == "timestamp" and function not in NUMERIC
        return AggregateValue(step.model, step.where, function, found.path, instants, window), type_

    def property(self, text: str | None, span: Span, fields: Fields) -> DeclaredProperty | None:
        """A property of the event that ``event`` names; None after an error."""
        node = fields.get("event")
        if text is None or node is None:
            return None
        return read_property(text, span, self._events.properties(getattr(node, "text", "")), self._report)

    def warn_without(self, name: str, span: Span, needed: str, names: tuple[str, ...]) -> None:
        """Warns where an event declares properties and none of those that are read without being named.

        Args:
            name: of the event.
            span: where it stands.
            needed: what they are for.
            names: one of them is enough.
        """
        properties = self._events.properties(name)
        if not any(properties.covers(each) for each in names):
            either = " or ".join(quoted(each) for each in names)
            self._report.warning(
                span, f"the event {quoted(name)} declares no property {either}", f"it is where {needed} is read"
            )

    def with_by(self, step: Step, by: str, span: Span, fields: Fields) -> Step | None:
        """A step with the property of its events that ``by`` names; None after an error."""
        found = self.property(by, span, fields)
        if found is None:
            return None
        return msgspec.structs.replace(step, by=found.path, by_instants=found.type == "timestamp")

    def window(self, fields: Fields, *, zoned: bool = True) -> Window | None:
        """``within`` and ``timezone``; None after an error."""
        node = fields.get("within")
        text = EVER if node is None else text_of(node, "`within`", self._report)
        if text is None:
            return None
        zone = fields.get("timezone")
        if text in UNITS:
            timezone = self._timezone if zone is None else self.zone(zone)
            return None if timezone is None else Window(cast(Literal["day", "week", "month"], text), 0, timezone)
        if zone is not None and zoned:
            self._report.error(
                fields.key_span("timezone"),
                f"{quoted(text)} does not depend on a zone",
                f"remove `timezone`, or use {listed(UNITS)}",
            )
            return None
        if text in (EVER, "session"):
            return Window(cast(Literal["ever", "session"], text))
        try:
            return Window("duration", duration_ms(text))
        except Unreadable as error:
            assert node is not None
            self._report.error(node.span, f"`within`: {error.message}", error.hint)
            return None

    def zone(self, node: Node) -> str | None:
        """A zone by its IANA name, or ``profile``; None after an error."""
        name = text_of(node, "`timezone`", self._report)
        if name is None or name == PROFILE or name in ZONES:
            return name
        hint = self._report.did_you_mean(name, ZONES, "an IANA name such as `Europe/Paris`, or `profile`")
        self._report.error(node.span, f"there is no time zone {quoted(name)}", hint)
        return None

    def _warn_if_undeclared(self, name: str, span: Span) -> None:
        models = self._events.models
        if models and self._events.complete and name not in models:
            hint = self._report.did_you_mean(name, models, "declare it in events.yml")
            self._report.warning(span, f"events.yml does not declare the event {quoted(name)}", hint)
