"""What is wrong with definitions together, when each alone is right.

Owns: the passes over all audiences, listed in ``PASSES``: references and cycles (errors), and warnings for what is surely
not meant. Each pass reads the finished trees and reports.
Not here: what a single file can tell (the readers beside this one), contradictions in one predicate (bounds).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from opportune.audiences.bounds import verdict
from opportune.audiences.diagnostics import Report, listed, quoted
from opportune.audiences.durations import duration_text
from opportune.audiences.operands import operands_of
from opportune.audiences.schema import (
    AbsentCondition,
    AggregateCondition,
    AggregateValue,
    All,
    Any,
    AttributeCondition,
    Audience,
    AudienceCondition,
    Comparison,
    Condition,
    EventCondition,
    NearCondition,
    Not,
    SequenceCondition,
    Span,
    TraitCondition,
    meaning,
)
from opportune.audiences.sources import subject
from opportune.profile import NEVER
from opportune.settings import Settings

DAY_MS = 86_400_000


class Definitions(msgspec.Struct, frozen=True):
    """All that the passes look at.

    Args:
        audiences: those that could be read, by name.
        references: what each audience refers to, also of audiences that could not be read.
        names_complete: whether these are all names.
        settings: of the project.
    """

    audiences: Mapping[str, Audience]
    references: Mapping[str, Sequence[AudienceCondition]]
    names_complete: bool
    settings: Settings


_LONGEST_MS = {"ever": NEVER, "session": 0, "day": DAY_MS, "week": 7 * DAY_MS, "month": 31 * DAY_MS}
"""The longest of each, but for the hour that clocks may give back."""
Pass: TypeAlias = Callable[[Definitions, Report], None]


def check(definitions: Definitions, report: Report) -> None:
    """Runs every pass."""
    for run in PASSES:
        run(definitions, report)


def unknown_audiences(definitions: Definitions, report: Report) -> None:
    """An error for each reference to an audience that is not there."""
    if not definitions.names_complete:
        return
    names = definitions.references
    for reference in (reference for references in names.values() for reference in references):
        if reference.name not in names and reference.span is not None:
            hint = report.did_you_mean(reference.name, names, f"audiences: {listed(sorted(names)[:8])}")
            report.error(reference.span, f"there is no audience {quoted(reference.name)}", hint)


def cycles(definitions: Definitions, report: Report) -> None:
    """An error for each cycle of references, with its path. Depth first, without recursion: chains may be long."""
    references = definitions.references
    done: set[str] = set()
    for start in sorted(references):
        path = [start] if start not in done else []
        waiting = [iter(references[start])] if path else []
        while waiting:
            node = next(waiting[-1], None)
            if node is None:
                waiting.pop()
                done.add(path.pop())
            elif node.name in path:
                ring = [*path[path.index(node.name) :], node.name]
                assert node.span is not None, "the readers give every reference its place"
                report.error(
                    node.span, f"audiences in a ring: {' -> '.join(ring)}", "one of them must not need the next"
                )
            elif node.name in references and node.name not in done:
                path.append(node.name)
                waiting.append(iter(references[node.name]))


def beyond_retention(definitions: Definitions, report: Report) -> None:
    """A warning for windows longer than the events topic keeps; for all that are ``ever``, one."""
    topics = definitions.settings.topics
    if topics.retention_ms < 0 or not topics.create:
        return
    kept = duration_text(topics.retention_ms)
    hint = "set topics.retention in opportune.yml; `ever` keeps everything"
    ever: list[Span] = []
    for node in _nodes(definitions):
        span = getattr(node, "span", None)
        window_ms = reach_ms(node)
        if window_ms is None or span is None:
            continue
        if window_ms == NEVER:
            ever.append(span)
        elif window_ms > topics.retention_ms:
            window = duration_text(window_ms)
            report.warning(span, f"the window of {window} is longer than the {kept} that the topic keeps", hint)
    if ever:
        more = f" (and {len(ever) - 1} more)" if len(ever) > 1 else ""
        message = (
            f"without `within` all events ever count{more}, and the topic keeps {kept}: a rebuild would count less"
        )
        report.warning(ever[0], message, hint)


def reach_ms(condition: Condition) -> int | None:
    """How far back the events lie that a condition may need, NEVER for ``ever``; None where it needs none.

    A session has no bound; what it needs beyond the lateness is not reckoned with.
    """
    if isinstance(condition, EventCondition):
        return NEVER if condition.within_ms is None else condition.within_ms
    if isinstance(condition, NearCondition):
        return condition.fresh_ms
    if isinstance(condition, AggregateCondition | TraitCondition | AttributeCondition):
        values = [subject(condition), *operands_of(condition.predicate)]
        windows = [value.window for value in values if isinstance(value, AggregateValue)]
    elif isinstance(condition, SequenceCondition | AbsentCondition):
        windows = [condition.window]
    else:
        return None
    return max((_LONGEST_MS.get(window.kind, window.ms) for window in windows), default=None)


def contradictions(definitions: Definitions, report: Report) -> None:
    """A warning for combinations that can never hold, or always do, whatever happens."""
    for node in _nodes(definitions):
        if isinstance(node, All) and node.span is not None and (_opposed(node) or _attribute_torn(node)):
            report.warning(node.span, "this can never hold", "two of its conditions exclude each other")
        elif isinstance(node, Any) and node.span is not None and _opposed(node):
            report.warning(node.span, "this always holds", "one of its conditions is the opposite of another")


PASSES: tuple[Pass, ...] = (unknown_audiences, cycles, beyond_retention, contradictions)


def walk(condition: Condition) -> Iterator[Condition]:
    """A condition and all inside it."""
    yield condition
    if isinstance(condition, All | Any | Not):
        for child in condition.conditions:
            yield from walk(child)


def _nodes(definitions: Definitions) -> Iterator[Condition]:
    for audience in definitions.audiences.values():
        yield from walk(audience.condition)


def _opposed(node: All | Any) -> bool:
    # As bytes: in Python true equals 1, in definitions it does not.
    plain = {_key(child) for child in node.conditions}
    return any(
        len(child.conditions) == 1 and _key(child.conditions[0]) in plain
        for child in node.conditions
        if isinstance(child, Not)
    )


def _attribute_torn(node: All) -> bool:
    """Whether two conditions on one column, a single value, exclude each other while each alone can hold."""
    by_column: dict[tuple[str, str], list[tuple[Comparison, ...]]] = {}
    for child in node.conditions:
        if isinstance(child, AttributeCondition):
            by_column.setdefault((child.table, child.column), []).append(child.predicate.comparisons)
    return any(
        verdict([comparison for part in parts for comparison in part], count=False) == "never"
        and all(verdict(part, count=False) != "never" for part in parts)
        for parts in by_column.values()
        if len(parts) > 1
    )


def _key(condition: Condition) -> bytes:
    return type(condition).__name__.encode() + msgspec.json.encode(meaning(condition))
