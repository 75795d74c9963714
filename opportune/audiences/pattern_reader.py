"""From YAML to patterns of events, positions and hours: ``sequence``, ``absent``, ``near``, ``during``.

Owns: what stands beside each, and what of it goes together.
Not here: events, windows and zones (opportune.audiences.aggregate_reader), what they mean (opportune.features).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from opportune.audiences.aggregate_reader import AggregateReader
from opportune.audiences.diagnostics import Report, Unreadable, listed, quoted
from opportune.audiences.durations import duration_ms, duration_text
from opportune.audiences.fields import Fields, fields_of, kind, scalar_node, text_of
from opportune.audiences.schema import (
    AbsentCondition,
    Condition,
    DuringCondition,
    NearCondition,
    SequenceCondition,
    Span,
    Step,
)
from opportune.audiences.yaml_tree import Node, SequenceNode
from opportune.features.calendar import DAY_MS, DAYS
from opportune.features.positions import LATITUDES, LONGITUDES

STEP_KEYS = ("event", "where")
STEPS_MAX = 16
PATTERN_KEYS = {
    "sequence": ("sequence", "within", "timezone", "by", "span", "gap"),
    "absent": ("absent", "after", "for", "by", "within", "timezone"),
    "near": ("near", "radius", "leave", "fresh", "event", "where"),
    "during": ("during",),
}
METERS_MAX = 25_000_000
"""A little more than half of the way round the earth."""
LEAVE = Decimal("1.25")
_DISTANCE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(m|km)\s*", re.ASCII)
_CLOCK = re.compile(r"([0-9]{2}):([0-9]{2})", re.ASCII)


class PatternReader:
    """Reads patterns.

    Args:
        aggregates: reads events and windows.
        timezone: of the project.
        report: takes errors and warnings.
    """

    def __init__(self, aggregates: AggregateReader, timezone: str, report: Report) -> None:
        self._aggregates = aggregates
        self._timezone = timezone
        self._report = report

    def read(self, key: str, fields: Fields, span: Span) -> Condition | None:
        """A pattern; None after an error.

        Args:
            key: which.
            fields: of its mapping.
            span: where its key stands.
        """
        readers: dict[str, Callable[[Fields, Span], Condition | None]] = {
            "sequence": self._sequence,
            "absent": self._absent,
            "near": self._near,
            "during": self._during,
        }
        return readers[key](fields, span)

    def _sequence(self, fields: Fields, span: Span) -> Condition | None:
        node = fields.get("sequence")
        if not isinstance(node, SequenceNode) or not 2 <= len(node.items) <= STEPS_MAX:
            at = node.span if node is not None else span
            self._report.error(
                at, f"a sequence is a list of 2 to {STEPS_MAX} events", "for example [{event: A}, {event: B}]"
            )
            return None
        window = self._aggregates.window(fields)
        steps = self._steps(list(node.items), "a step", fields, span)
        span_ms, gap_ms = (self._duration(fields, name) for name in ("span", "gap"))
        if window is None or steps is None or -1 in (span_ms, gap_ms):
            return None
        if window.kind == "duration" and span_ms is not None and span_ms > window.ms:
            self._report.warning(fields.key_span("span"), "`span` is longer than `within`", "it says nothing then")
        if span_ms is not None and gap_ms is not None and gap_ms * (len(steps) - 1) >= span_ms:
            self._report.warning(fields.key_span("gap"), "this can never hold: the gaps take longer than `span`")
        return SequenceCondition(steps, window, span_ms, gap_ms or 0, span)

    def _absent(self, fields: Fields, span: Span) -> Condition | None:
        absent, after = fields.get("absent"), fields.get("after")
        for_ms = self._duration(fields, "for")
        if absent is None or after is None or for_ms is None:
            lacking = [key for key in ("after", "for") if key not in fields]
            if lacking:
                self._report.error(
                    span, f"`absent` needs {listed(lacking)}", "after: {event: Cart Updated}, for: 30 minutes"
                )
            return None
        window = self._aggregates.window(fields)
        steps = self._steps([absent, after], "the event", fields, span)
        if window is None or steps is None or for_ms == -1:
            return None
        if window.kind == "duration" and window.ms <= for_ms:
            self._report.error(
                fields.key_span("within"),
                f"`within` ({duration_text(window.ms)}) is not longer than `for` ({duration_text(for_ms)})",
                "so it could never hold: `within` is how long after the event somebody is still in",
            )
            return None
        return AbsentCondition(steps[0], steps[1], for_ms, window, span)

    def _steps(self, nodes: list[Node], what: str, fields: Fields, span: Span) -> tuple[Step, ...] | None:
        """Events, each with its property of ``by`` where there is one; None after an error."""
        by_node = fields.get("by")
        by = text_of(by_node, "`by`", self._report) if by_node is not None else None
        if by_node is not None and by is None:
            return None
        steps = []
        for node in nodes:
            own = fields_of(node, what, STEP_KEYS, self._report, required=("event",))
            step = self._aggregates.step(own) if own is not None else None
            if step is not None and own is not None and by is not None and by_node is not None:
                step = self._aggregates.with_by(step, by, by_node.span, own)
            steps.append(step)
        if by is not None:
            window = fields.get("within")
            text = getattr(window, "text", "ever")
            if text in ("ever", "session", "day", "week", "month"):
                self._report.error(
                    by_node.span if by_node is not None else span,
                    "`by` needs a `within` that is a duration",
                    "for example within: 1 day; else every value ever seen would have to be kept",
                )
                return None
        whole = tuple(step for step in steps if step is not None)
        return whole if len(whole) == len(nodes) else None

    def _near(self, fields: Fields, span: Span) -> Condition | None:
        lacking = [key for key in ("radius", "fresh", "event") if key not in fields]
        if lacking:
            self._report.error(
                span, f"`near` needs {listed(lacking)}", "radius: 200 m, fresh: 15 minutes, event: Location Updated"
            )
            return None
        node = fields.get("near")
        place = (
            fields_of(node, "`near`", ("lat", "lon"), self._report, required=("lat", "lon"))
            if node is not None
            else None
        )
        lat, lon = (
            self._degrees(place, name, most) if place is not None else None
            for name, most in (("lat", 90), ("lon", 180))
        )
        radius, leave = self._meters(fields, "radius"), self._meters(fields, "leave")
        fresh = self._duration(fields, "fresh")
        step = self._aggregates.step(fields)
        named = fields.get("event")
        if named is not None and step is not None:
            for what, names in (("the latitude", LATITUDES), ("the longitude", LONGITUDES)):
                self._aggregates.warn_without(step.model.name, named.span, what, names)
        if lat is None or lon is None or radius is None or step is None or fresh in (None, -1):
            return None
        if "leave" in fields and leave is None:
            return None
        leave = radius * LEAVE if leave is None else leave
        if leave < radius:
            self._report.error(
                fields.key_span("leave"),
                "`leave` is less than `radius`",
                "it is the distance at which one is no longer near",
            )
            return None
        return NearCondition(
            step.model, step.where, float(lat), float(lon), float(radius), float(leave), fresh or 0, span
        )

    def _during(self, fields: Fields, span: Span) -> Condition | None:
        node = fields.get("during")
        own = (
            fields_of(node, "`during`", ("days", "from", "to", "timezone"), self._report) if node is not None else None
        )
        if own is None or node is None:
            return None
        days = self._days(own)
        begins, ends = self._clock(own, "from", 0), self._clock(own, "to", DAY_MS)
        zone_node = own.get("timezone")
        zone = self._timezone if zone_node is None else self._aggregates.zone(zone_node)
        if days is None or begins is None or ends is None or zone is None:
            return None
        if begins % DAY_MS == ends % DAY_MS and not (begins == 0 and ends == DAY_MS):
            self._report.error(own.key_span("to"), "`from` and `to` are equal", "leave both out for the whole day")
            return None
        if len(days) == len(DAYS) and (begins, ends) == (0, DAY_MS):
            self._report.warning(node.span, "this always holds", 'give hours or days, {from: "09:00", to: "18:00"}')
        return DuringCondition(days, begins, ends, zone, span)

    def _days(self, fields: Fields) -> tuple[int, ...] | None:
        node = fields.get("days")
        if node is None:
            return tuple(range(7))
        if not isinstance(node, SequenceNode) or not node.items:
            self._report.error(node.span, f"`days` is a list of {listed(DAYS)}", "for example [sat, sun]")
            return None
        found = set()
        for item in node.items:
            text = text_of(item, "a day", self._report)
            if text is None:
                return None
            if text not in DAYS:
                self._report.error(
                    item.span,
                    f"there is no day {quoted(text)}",
                    self._report.did_you_mean(text, DAYS, f"days: {listed(DAYS)}"),
                )
                return None
            found.add(DAYS.index(text))
        return tuple(sorted(found))

    def _clock(self, fields: Fields, key: str, otherwise: int) -> int | None:
        node = fields.get(key)
        if node is None:
            return otherwise
        text = text_of(node, quoted(key), self._report)
        found = _CLOCK.fullmatch(text) if text is not None else None
        ms = (int(found[1]) * 60 + int(found[2])) * 60_000 if found is not None and int(found[2]) < 60 else DAY_MS + 1
        if text is not None and ms <= DAY_MS:
            return ms
        if text is not None:
            self._report.error(
                node.span,
                f"{quoted(key)} is a time of the day, not {quoted(text)}",
                'write it as "09:00", from "00:00" to "24:00"',
            )
        return None

    def _degrees(self, fields: Fields, key: str, most: int) -> Decimal | None:
        node = fields.get(key)
        scalar = scalar_node(node, quoted(key), self._report) if node is not None else None
        if scalar is None:
            return None
        try:
            value = scalar.value()
        except Unreadable as error:
            self._report.unreadable(scalar.span, error)
            return None
        if isinstance(value, int | Decimal) and not isinstance(value, bool) and -most <= value <= most:
            return Decimal(value)
        self._report.error(scalar.span, f"{quoted(key)} is degrees from -{most} to {most}, not {kind(scalar)}")
        return None

    def _meters(self, fields: Fields, key: str) -> Decimal | None:
        node = fields.get(key)
        text = text_of(node, quoted(key), self._report) if node is not None else None
        if text is None or node is None:
            return None
        found = _DISTANCE.fullmatch(text)
        meters = Decimal(found[1]) * (1000 if found[2] == "km" else 1) if found is not None else Decimal(0)
        if 0 < meters <= METERS_MAX:
            return meters
        self._report.error(
            node.span,
            f"{quoted(key)} is a distance over 0, up to 25,000 km, not {quoted(text)}",
            "for example 200 m, or 1.5 km",
        )
        return None

    def _duration(self, fields: Fields, key: str) -> int | None:
        """A duration in milliseconds, None where it is not there, -1 after an error."""
        node = fields.get(key)
        if node is None:
            return None
        text = text_of(node, quoted(key), self._report)
        if text is None:
            return -1
        try:
            return duration_ms(text)
        except Unreadable as error:
            self._report.error(node.span, f"{quoted(key)}: {error.message}", error.hint)
            return -1
