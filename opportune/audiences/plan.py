"""The plan: all audiences of a project as distinct features, and what an event touches.

Owns: which features exist (each once, whoever uses it), the groups in which they are stored, the handlers (one for each
kind of message that some condition mentions), and which audiences a feature touches.
A feature of this plan is a count of matching events: the last ``cap`` instants where windows are asked of it (why that
is enough: docs/language.md), or a number up to ``cap`` for ``ever``. Two states of a feature combine into that of
the merged log: the ``cap`` greatest of both, or the sum up to ``cap``.
Not here: the code that is generated from it (opportune.audiences.compiler), decoding (opportune.decode).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from math import floor

import msgspec

from opportune.audiences import predicate as predicates
from opportune.audiences.schema import (
    All,
    Any,
    AttributeCondition,
    Audience,
    AudienceCondition,
    Condition,
    EventCondition,
    EventModel,
    Not,
    Path,
    Predicate,
    TraitCondition,
    Where,
    meaning,
)
from opportune.project import Project

TRAITS = 0
"""The number of the group that holds the traits of identify calls."""
ATTRIBUTES = 0
"""The number of the handler that stands for the warehouse."""


class Steps(msgspec.Struct, frozen=True):
    """A predicate on counts: ``truths[i]`` holds from ``starts[i]`` on, up to the next start. ``starts[0]`` is 0."""

    starts: tuple[int, ...]
    truths: tuple[bool, ...]

    def holds(self, count: int) -> bool:
        """Whether the predicate holds for a count."""
        return self.truths[bisect_right(self.starts, count) - 1]

    @property
    def cap(self) -> int:
        """Counts from here on are all alike."""
        return self.starts[-1]


@lru_cache(maxsize=4_096)
def steps(predicate: Predicate) -> Steps:
    """The predicate of ``times`` as steps over the whole numbers."""
    test = predicates.function(predicate)
    points = {0}
    for comparison in predicate.comparisons:
        operands = comparison.operand if isinstance(comparison.operand, tuple) else (comparison.operand,)
        for operand in operands:
            if isinstance(operand, int | Decimal) and not isinstance(operand, bool):
                points |= {max(0, floor(operand) + extra) for extra in (0, 1)}
    starts: list[int] = []
    truths: list[bool] = []
    for point in sorted(points):
        truth = test(point)
        if not truths or truth != truths[-1]:
            starts.append(point)
            truths.append(truth)
    return Steps(tuple(starts), tuple(truths))


class Feature(msgspec.Struct):
    """One feature.

    Args:
        number: its place in its group.
        where: what an event must satisfy.
        windowed: instants are kept, else a number.
        cap: how many instants, or up to which number.
    """

    number: int
    where: tuple[Where, ...]
    windowed: bool
    cap: int = 0


class Group(msgspec.Struct):
    """Features of one kind of message, stored together. ``kind``: call type and raw name (None: any)."""

    number: int
    kind: tuple[str, str | None]
    features: dict[tuple[tuple[Where, ...], bool], Feature]

    def windowed(self, number: int) -> bool:
        """Whether a feature keeps instants."""
        return list(self.features.values())[number].windowed


class Handler(msgspec.Struct):
    """What a kind of message does.

    Args:
        number: keys ``Profile.dues``.
        kind: call type and raw name (None: any other).
        groups: the groups whose features it may change.
        traits: whether it sets traits.
        audiences: the numbers of the audiences that it may touch, referenced ones before those that refer to them.
        reads: the groups that are surely needed: those that it may change; others are read where an evaluation asks.
    """

    number: int
    kind: tuple[str, str | None]
    groups: tuple[int, ...]
    traits: bool
    audiences: tuple[int, ...] = ()
    reads: tuple[int, ...] = ()


class Plan:
    """All audiences of a project, ready to be compiled.

    Args:
        project: a valid project.

    Attributes:
        audiences: in order of name; an audience's number is its place.
        groups, handlers: by number.
        traits: the names of the traits that some condition reads.
        columns: the used columns by table.
        order: the numbers of all audiences, referenced ones first.
        fingerprint: of everything that the stored state depends on.
    """

    def __init__(self, project: Project) -> None:
        self.audiences: tuple[Audience, ...] = tuple(sorted(project.audiences, key=lambda a: a.name))
        self.numbers = {audience.name: number for number, audience in enumerate(self.audiences)}
        self.groups: list[Group] = [Group(TRAITS, ("traits", None), {})]
        self.by_kind: dict[tuple[str, str | None], Group] = {}
        self.traits: list[str] = []
        self.columns: dict[str, list[str]] = {}
        leaves = [leaf for audience in self.audiences for leaf in leaves_of(audience.condition)]
        kinds = sorted({kind_of(leaf.model) for leaf in leaves if isinstance(leaf, EventCondition)}, key=_order)
        for kind in kinds:
            group = Group(len(self.groups), kind, {})
            self.groups.append(group)
            self.by_kind[kind] = group
        for leaf in leaves:
            self._register(leaf)
        self.traits.sort()
        self.order = self._ordered(set(self.numbers.values()))
        self.handlers = self._handlers()
        self.definitions = [fingerprint(meaning_of(audience)) for audience in self.audiences]
        self.fingerprint = fingerprint(
            [(audience.name, definition) for audience, definition in zip(self.audiences, self.definitions, strict=True)]
        )

    def _register(self, leaf: Condition) -> None:
        if isinstance(leaf, EventCondition):
            self.feature(leaf)
        elif isinstance(leaf, TraitCondition) and leaf.keys[0] not in self.traits:
            self.traits.append(leaf.keys[0])
        elif isinstance(leaf, AttributeCondition):
            columns = self.columns.setdefault(leaf.table, [])
            if leaf.column not in columns:
                columns.append(leaf.column)

    def feature(self, leaf: EventCondition) -> tuple[Group, Feature]:
        """The feature that a condition reads, made or made larger where needed."""
        group = self.by_kind[kind_of(leaf.model)]
        where = where_of(leaf)
        windowed = leaf.within_ms is not None
        feature = group.features.get((where, windowed))
        if feature is None:
            feature = group.features[where, windowed] = Feature(len(group.features), where, windowed)
        feature.cap = max(feature.cap, steps(leaf.times).cap)
        return group, feature

    def touching(self, number: int) -> tuple[set[int], set[str], bool]:
        """What touches an audience, nested ones included: group numbers, trait names, and whether attributes do."""
        groups: set[int] = set()
        traits: set[str] = set()
        attributes = False
        for leaf in self.leaves(number):
            if isinstance(leaf, EventCondition):
                groups.add(self.by_kind[kind_of(leaf.model)].number)
            elif isinstance(leaf, TraitCondition):
                traits.add(leaf.keys[0])
            else:
                attributes = True
        return groups, traits, attributes

    def leaves(self, number: int) -> Iterator[Condition]:
        """The conditions without parts of an audience and of those that it refers to, each audience once."""
        for part in self._ordered({number}):
            for leaf in leaves_of(self.audiences[part].condition):
                if not isinstance(leaf, AudienceCondition):
                    yield leaf

    def own_leaves(self, number: int) -> Iterator[Condition]:
        """The conditions without parts of an audience, without those that it refers to."""
        return leaves_of(self.audiences[number].condition)

    def place(self, leaf: Condition) -> tuple[int, int] | None:
        """Group and number of the feature that a condition reads; None where it reads none, or any count will do."""
        if not isinstance(leaf, EventCondition) or steps(leaf.times).cap == 0:
            return None
        group, feature = self.feature(leaf)
        return group.number, feature.number

    def references(self, number: int) -> list[int]:
        """The numbers of the audiences that an audience names."""
        leaves = leaves_of(self.audiences[number].condition)
        return sorted({self.numbers[leaf.name] for leaf in leaves if isinstance(leaf, AudienceCondition)})

    def _handlers(self) -> list[Handler]:
        kinds = set(self.by_kind)
        if self.traits:
            kinds.add(("identify", None))
        handlers = [Handler(ATTRIBUTES, ("attributes", None), (), traits=False)]
        for kind in sorted(kinds, key=_order):
            groups = [self.by_kind[kind].number] if kind in self.by_kind else []
            if kind[1] is not None and (kind[0], None) in self.by_kind:
                groups.append(self.by_kind[kind[0], None].number)
            handlers.append(
                Handler(len(handlers), kind, tuple(groups), traits=kind[0] == "identify" and bool(self.traits))
            )
        touching = [self.touching(number) for number in range(len(self.audiences))]
        for handler in handlers:
            touched = {
                number
                for number, (groups, traits, attributes) in enumerate(touching)
                if groups & set(handler.groups)
                or (handler.traits and traits)
                or (handler.number == ATTRIBUTES and attributes)
            }
            handler.audiences = tuple(number for number in self._ordered(touched) if number in touched)
            handler.reads = (*([TRAITS] if handler.traits else []), *handler.groups)
        return handlers

    def _ordered(self, touched: set[int]) -> list[int]:
        """The audiences and all that they refer to, referenced ones first."""
        order: list[int] = []
        seen: set[int] = set()
        stack = [(number, False) for number in sorted(touched, reverse=True)]
        while stack:
            number, expanded = stack.pop()
            if expanded:
                order.append(number)
            elif number not in seen:
                seen.add(number)
                stack.append((number, True))
                stack += [(child, False) for child in self.references(number) if child not in seen]
        return order


def leaves_of(condition: Condition) -> Iterator[Condition]:
    """The conditions without parts, in order of the text."""
    if isinstance(condition, All | Any | Not):
        for child in condition.conditions:
            yield from leaves_of(child)
    else:
        yield condition


def kind_of(model: EventModel) -> tuple[str, str | None]:
    """The kind of message that a model names."""
    return model.type, model.raw_name


def where_of(leaf: EventCondition) -> tuple[Where, ...]:
    """All that an event must satisfy, the model's part included, in one order for equal meaning."""
    return tuple(
        sorted(set(leaf.model.where + leaf.where), key=lambda where: (where.path.root, where.path.keys, repr(where)))
    )


def paths_of(plan: Plan) -> set[Path]:
    """Every path into a message that some ``where`` reads."""
    return {where.path for group in plan.groups for feature in group.features.values() for where in feature.where}


def meaning_of(audience: Audience) -> Condition:
    """The condition without positions."""
    return meaning(audience.condition)


def fingerprint(value: object) -> str:
    """16 hexadecimal digits that change with any part of a value."""
    return blake2b(repr(value).encode(), digest_size=8).hexdigest()


def _order(kind: tuple[str, str | None]) -> tuple[str, bool, str]:
    return kind[0], kind[1] is not None, kind[1] or ""
