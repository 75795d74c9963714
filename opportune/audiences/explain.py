"""Why somebody is in an audience or not: its conditions with what each saw, what is missing, and when it next changes.

Owns: an interpreter of the conditions over the state that the engine keeps of a person, one function a kind of condition,
listed in ``KINDS``: a condition of another kind is a function more. It is slow and clear; the engine's code is generated.
Invariant: ``holds`` is what the engine evaluates at the same instant over the same state (tests/model compares them), and
``next_change_ms`` is the first instant after now at which it differs if nothing happens, None where there is none.
Not here: reading a person's state (state.person), words (opportune.audiences.sentences), printing (opportune.cli).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any as Anything

import msgspec
from msgspec import UNSET

from opportune.audiences import explain_general as generally
from opportune.audiences import predicate as predicates
from opportune.audiences.durations import duration_text
from opportune.audiences.explain_events import INSTANTS_SHOWN, times_text
from opportune.audiences.explained import Explained, Explanation, Value
from opportune.audiences.lineage import Layout, unseen
from opportune.audiences.operands import operands_of
from opportune.audiences.plan import Plan
from opportune.audiences.schema import (
    AbsentCondition,
    AggregateCondition,
    All,
    Any,
    AttributeCondition,
    AudienceCondition,
    Condition,
    DuringCondition,
    EventCondition,
    NearCondition,
    Not,
    SequenceCondition,
    TraitCondition,
)
from opportune.audiences.sentences import literal, predicate, sentence
from opportune.audiences.steps import Steps, steps
from opportune.event import iso_text
from opportune.profile import NEVER

CHANGES_LOOKED_AT_MAX = 10_000
"""Instants at which some part may change that are looked at for the next change of the whole."""


class PersonState(msgspec.Struct):
    """What the engine keeps of a person.

    Args:
        profile_id: 32 hexadecimal digits.
        identifiers: ``namespace:value`` texts.
        now_ms: the last instant at which something was applied, milliseconds since the epoch.
        members: the names of the audiences that the person is in, as stored.
        groups: opened feature groups by number; a group that is not there is empty.
        traits: by name, the instant and the value.
        rows: by table, the used columns in the plan's order; a table that is not there has no row of the person.
        keys: by table, the person's identifiers that have a row there; the row of the first one holds.
        layout: since when the state has seen what; None: always.
    """

    profile_id: str
    identifiers: list[str]
    now_ms: int
    members: set[str]
    groups: Mapping[int, Sequence[Anything]]
    traits: Mapping[str, tuple[int, Anything]]
    rows: Mapping[str, Sequence[Anything]]
    keys: Mapping[str, Sequence[str]] = {}
    layout: Layout | None = None


class Explainer:
    """Evaluates and explains conditions for one person.

    Args:
        plan: of the project.
        person: their state; it holds nothing later than the instants that are asked for.
    """

    def __init__(self, plan: Plan, person: PersonState) -> None:
        self.plan = plan
        self.person = person

    def explain(self, audience: str, now_ms: int) -> Explanation:
        """Explains an audience.

        Args:
            audience: its name.
            now_ms: the instant; not before the person's last.

        Raises:
            KeyError: there is no such audience.
        """
        found = self.plan.audiences[self.plan.numbers[audience]]
        tree = self.tree(found.condition, now_ms)
        point(tree, wanted=True)
        layout = self.person.layout
        until_ms = 0 if layout is None else layout.waiting.get(audience, 0)
        warming = until_ms > now_ms
        return Explanation(
            audience,
            self.person.profile_id,
            self.person.identifiers,
            iso_text(now_ms),
            None if warming else tree.holds,
            tree,
            None if warming else tree.next_change,
            found.description,
            iso_text(until_ms) if warming and until_ms < NEVER else None,
        )

    def tree(self, condition: Condition, now_ms: int) -> Explained:
        """A condition with everything below it; one part alone stands for what it is a part of."""
        while isinstance(condition, All | Any) and len(condition.conditions) == 1:
            condition = condition.conditions[0]
        made = KINDS[type(condition)].explain(self, condition, now_ms)
        at_ms = self.next_change(condition, now_ms)
        made.next_change = None if at_ms is None else iso_text(at_ms)
        if self.person.layout is not None and not made.parts:
            since_ms = unseen(self.plan, self.person.layout, condition, now_ms)
            made.seen_since = None if since_ms is None else iso_text(since_ms)
        return made

    def value(self, condition: Condition, now_ms: int) -> Value:
        """A condition's value at an instant."""
        return KINDS[type(condition)].value(self, condition, now_ms)

    def next_change(self, condition: Condition, now_ms: int) -> int | None:
        """The first instant after now at which a condition's value differs, if nothing happens.

        Returns:
            Milliseconds since the epoch; None where there is none.
        """
        first = self.value(condition, now_ms)
        until_ms = first.until_ms
        for _ in range(CHANGES_LOOKED_AT_MAX):
            if until_ms == NEVER:
                return None
            later = self.value(condition, until_ms)
            if later.holds != first.holds:
                return until_ms
            until_ms = later.until_ms
        return None

    def count(self, condition: EventCondition, now_ms: int) -> tuple[list[int], int]:
        """The instants in the window, as far as kept, and the count, up to what the plan's conditions tell apart."""
        place = self.plan.place(condition)
        if place is None:
            return [], 0
        group, number = place
        features = self.person.groups.get(group)
        if features is None:
            return [], 0
        if condition.within_ms is None:
            return [], features[number]
        ring: list[int] = features[number]
        inside = ring[bisect_right(ring, now_ms - condition.within_ms) :]
        return inside, len(inside)

    def kept(self, condition: EventCondition) -> int:
        """Up to how many events the state tells apart for a condition."""
        return self.plan.feature(condition)[1].cap


def point(part: Explained, *, wanted: bool) -> None:
    """Leaves only what is missing for the whole to hold.

    Args:
        part: a tree.
        wanted: whether it has to hold: not so inside of ``none``.
    """
    needed = part.holds != wanted
    if not needed:
        part.missing = ""
    elif not wanted:
        part.missing = "it must not hold"
    for each in part.parts:
        point(each, wanted=wanted != (part.kind == "none") if needed else each.holds)


class Kind(msgspec.Struct, frozen=True):
    """How a kind of condition is evaluated and explained."""

    value: Callable[[Explainer, Anything, int], Value]
    explain: Callable[[Explainer, Anything, int], Explained]


def _event_value(explainer: Explainer, condition: EventCondition, now_ms: int) -> Value:
    table = steps(condition.times)
    instants, count = explainer.count(condition, now_ms)
    holds = table.holds(count)
    if condition.within_ms is None:
        return Value(holds)
    for number, instant in enumerate(instants, 1):
        if table.holds(count - number) != holds:
            return Value(holds, instant + condition.within_ms)
    return Value(holds)


def _event(explainer: Explainer, condition: EventCondition, now_ms: int) -> Explained:
    table = steps(condition.times)
    instants, count = explainer.count(condition, now_ms)
    kept = explainer.kept(condition)
    more = " or more" if count and count >= kept else ""
    found = Explained(sentence(condition), table.holds(count), "event", value=count)
    found.saw = f"{count}{more}"
    if instants:
        shown = instants[-INSTANTS_SHOWN:]
        found.instants = [iso_text(instant) for instant in shown]
        found.saw += f", {'the newest ' if len(shown) < len(instants) or more else ''}at {times_text(shown, now_ms)}"
    if not found.holds:
        found.missing = _lacking(table, count, condition, explainer.next_change(condition, now_ms))
    return found


def _lacking(table: Steps, count: int, condition: EventCondition, changes_ms: int | None) -> str:
    """What would make a count right: so many more events, or that those there are leave the window."""
    wanted = next(
        (start for start, truth in zip(table.starts, table.truths, strict=True) if truth and start > count), None
    )
    parts = []
    if wanted is not None:
        within = (
            ""
            if condition.within_ms is None
            else f", while those there are in the {duration_text(condition.within_ms)}"
        )
        parts.append(f"{wanted - count} more{within if count else ''}")
    if changes_ms is not None:
        parts.append(f"nothing more until {iso_text(changes_ms)}")
    return " or ".join(parts) or "it cannot hold any more"


def _trait_value(explainer: Explainer, condition: TraitCondition, now_ms: int) -> Value:
    if operands_of(condition.predicate):
        return generally.compared_value(explainer, condition, now_ms)
    return Value(predicates.function(condition.predicate)(_trait_of(explainer, condition)))


def _trait_of(explainer: Explainer, condition: TraitCondition) -> Anything:
    value = explainer.person.traits.get(condition.keys[0], (0, None))[1]
    return predicates.walk(value, condition.keys[1:]) if len(condition.keys) > 1 else value


def _trait(explainer: Explainer, condition: TraitCondition, now_ms: int) -> Explained:
    if operands_of(condition.predicate):
        return generally.compared(explainer, condition, now_ms)
    value = _trait_of(explainer, condition)
    since = explainer.person.traits.get(condition.keys[0])
    found = Explained(sentence(condition), _trait_value(explainer, condition, now_ms).holds, "trait")
    return _saw(
        found, None if value is UNSET else value, "" if since is None else f", since {iso_text(since[0])}", condition
    )


def _row_value(explainer: Explainer, condition: AttributeCondition) -> Anything:
    row = explainer.person.rows.get(condition.table)
    return None if row is None else row[explainer.plan.columns[condition.table].index(condition.column)]


def _attribute_value(explainer: Explainer, condition: AttributeCondition, now_ms: int) -> Value:
    if operands_of(condition.predicate):
        return generally.compared_value(explainer, condition, now_ms)
    return Value(predicates.function(condition.predicate, parsed=True)(_row_value(explainer, condition)))


def _attribute(explainer: Explainer, condition: AttributeCondition, now_ms: int) -> Explained:
    if operands_of(condition.predicate):
        return generally.compared(explainer, condition, now_ms)
    found = Explained(sentence(condition), _attribute_value(explainer, condition, now_ms).holds, "attribute")
    return _saw(found, _row_value(explainer, condition), _whose_row(explainer.person, condition.table), condition)


def _whose_row(person: PersonState, table: str) -> str:
    """Which row of a table it was, where that is not the one of the identifier that the person is known by."""
    if table not in person.rows:
        return f": no row in {table}"
    holds, *others = person.keys.get(table, ()) or person.identifiers[:1] or ("",)
    if others:
        return f": the row of {holds}, which holds before {' and '.join(others)}"
    return f": the row of {holds}" if holds not in person.identifiers[:1] else ""


def _saw(found: Explained, value: Anything, more: str, condition: TraitCondition | AttributeCondition) -> Explained:
    """Fills in what a condition on a value saw, and what it would have to be."""
    found.value = value
    found.saw = literal(value, instants=condition.predicate.instants) + more
    if not found.holds:
        found.missing = f"a value that {predicate(condition.predicate)}"
    return found


def _audience_value(explainer: Explainer, condition: AudienceCondition, now_ms: int) -> Value:
    plan = explainer.plan
    return explainer.value(plan.audiences[plan.numbers[condition.name]].condition, now_ms)


def _audience(explainer: Explainer, condition: AudienceCondition, now_ms: int) -> Explained:
    plan = explainer.plan
    part = explainer.tree(plan.audiences[plan.numbers[condition.name]].condition, now_ms)
    return Explained(sentence(condition), part.holds, "audience", parts=[part])


def _group_value(explainer: Explainer, condition: All | Any | Not, now_ms: int) -> Value:
    """``all`` when true changes with the first of its parts, when false not before all that are false now."""
    values = [explainer.value(part, now_ms) for part in condition.conditions]
    every = isinstance(condition, All)
    holds = all(each.holds for each in values) if every else any(each.holds for each in values)
    deciding = [each.until_ms for each in values if each.holds != every]
    until_ms = max(deciding) if deciding else min(each.until_ms for each in values)
    return Value(not holds if isinstance(condition, Not) else holds, until_ms)


def _group(explainer: Explainer, condition: All | Any | Not, now_ms: int) -> Explained:
    parts = [explainer.tree(part, now_ms) for part in condition.conditions]
    holding = sum(part.holds for part in parts)
    kind = "all" if isinstance(condition, All) else "any" if isinstance(condition, Any) else "none"
    found = Explained(sentence(condition), _group_value(explainer, condition, now_ms).holds, kind, parts=parts)
    found.saw = f"{holding} of {len(parts)} hold{'s' if holding == 1 else ''}"
    if not found.holds:
        found.missing = _wanted(condition, parts)
    return found


def _wanted(condition: All | Any | Not, parts: Sequence[Explained]) -> str:
    if isinstance(condition, Not):
        return f"that {_listed([part.asks for part in parts if part.holds])} no longer holds"
    lacking = [part.asks for part in parts if not part.holds]
    return f"{'that' if isinstance(condition, All) else 'one of'}: {_listed(lacking)}"


def _listed(sentences: Sequence[str]) -> str:
    return "; ".join(sentences)


KINDS: dict[type, Kind] = {
    EventCondition: Kind(_event_value, _event),
    AggregateCondition: Kind(generally.compared_value, generally.compared),
    SequenceCondition: Kind(generally.pattern_value, generally.pattern),
    AbsentCondition: Kind(generally.pattern_value, generally.pattern),
    NearCondition: Kind(generally.pattern_value, generally.pattern),
    DuringCondition: Kind(generally.during_value, generally.during),
    TraitCondition: Kind(_trait_value, _trait),
    AttributeCondition: Kind(_attribute_value, _attribute),
    AudienceCondition: Kind(_audience_value, _audience),
    All: Kind(_group_value, _group),
    Any: Kind(_group_value, _group),
    Not: Kind(_group_value, _group),
}
"""How each kind of condition is evaluated and explained."""
