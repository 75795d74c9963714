"""The plan: all audiences of a project as distinct features, and what an event touches.

Owns: which features exist (each once, whoever uses it), the groups in which they are stored, the handlers (one for each
kind of message that some condition mentions), and which audiences a feature touches.
A feature of this plan is a count of matching events: the last ``cap`` instants where windows are asked of it (why that
is enough: docs/language.md), or a number up to ``cap`` for ``ever``; or what a room of opportune.features keeps. Two states of
a feature combine into that of the merged log: the ``cap`` greatest of both, the sum up to ``cap``, or as the room says.
Not here: the code that is generated from it (opportune.audiences.compiler), decoding (opportune.decode).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any as Anything

import msgspec

from opportune.audiences.keeps import fingerprint, keeps_of
from opportune.audiences.schema import (
    AbsentCondition,
    AggregateValue,
    All,
    Any,
    AttributeValue,
    Audience,
    AudienceCondition,
    Condition,
    EventCondition,
    EventModel,
    NearCondition,
    Not,
    Path,
    SequenceCondition,
    Step,
    TraitValue,
    Where,
    meaning,
)
from opportune.audiences.sources import CLOCK, SESSION, Source, Sources
from opportune.audiences.steps import steps
from opportune.event import CALL_TYPES
from opportune.features import limits
from opportune.features.absences import Absence
from opportune.features.aggregates import Aggregate
from opportune.features.positions import LATITUDES, LONGITUDES, Position
from opportune.features.sequences import Sequence
from opportune.features.sessions import Sessions
from opportune.project import Project

TRAITS = 0
"""The number of the group that holds the traits of identify calls."""
ATTRIBUTES = 0
"""The number of the handler that stands for the warehouse, and for clocks."""
OF_ONE_KIND = (EventCondition, AggregateValue, NearCondition)
"""Sources whose events are of one kind of message."""


class Feature(msgspec.Struct):
    """One feature.

    Args:
        number: its place in its group.
        where: what an event must satisfy.
        windowed: instants are kept, else a number.
        cap: how many instants, or up to which number.
        kind: what keeps another feature than a count (a class of opportune.features); None for a count.
        paths: of the values that it takes from an event.
        sessions: whether it needs the person's sessions.
    """

    number: int
    where: tuple[Where, ...]
    windowed: bool
    cap: int = 0
    kind: Anything = None
    paths: tuple[Path, ...] = ()
    sessions: bool = False


class Role(msgspec.Struct, frozen=True):
    """What one of several kinds of messages is in a feature of its own group, and the path of its value of ``by``."""

    kind: tuple[str, str | None]
    where: tuple[Where, ...]
    by: Path | None


class Group(msgspec.Struct):
    """Features that are stored together.

    Args:
        number: its number.
        kind: the kind of message that changes them: call type and raw name (None: any); ``("own", None)`` for the one feature
            of several kinds, ``("session", None)`` for the sessions.
        features: by what they keep.
        roles: of a group of its own: the messages that its feature takes.
    """

    number: int
    kind: tuple[str, str | None]
    features: dict[object, Feature]
    roles: tuple[Role, ...] = ()

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
        wakes_ms: of a handler that no message has: the instant at which its audiences begin to be evaluated.
    """

    number: int
    kind: tuple[str, str | None]
    groups: tuple[int, ...]
    traits: bool
    audiences: tuple[int, ...] = ()
    reads: tuple[int, ...] = ()
    wakes_ms: int = 0


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
        keeps: what is kept of the features, by group and place.
        definitions: the fingerprint of each audience's condition, by number.
        waiting: by number, until when audiences are warming (opportune.audiences.warming).
        fingerprint: of everything that the stored state depends on.
    """

    def __init__(self, project: Project) -> None:
        self.audiences: tuple[Audience, ...] = tuple(sorted(project.audiences, key=lambda a: a.name))
        self.numbers = {audience.name: number for number, audience in enumerate(self.audiences)}
        self.groups: list[Group] = [Group(TRAITS, ("traits", None), {})]
        self.by_kind: dict[tuple[str, str | None], Group] = {}
        self.traits: list[str] = []
        self.columns: dict[str, list[str]] = {}
        self.sources = Sources(project)
        self.settings = project.settings
        self.own: dict[object, Group] = {}
        sources = [
            source
            for audience in self.audiences
            for leaf in leaves_of(audience.condition)
            for source in self.sources.of(leaf)
        ]
        sources += [source for trait in project.computed for source in self.sources.of_value(trait.value)]
        self.limits = limits.shared(len({self._key(source) for source in sources if keeps_rows(source)}))
        kinds = {kind_of(source.model) for source in sources if isinstance(source, OF_ONE_KIND)}
        for kind in sorted(kinds, key=_order):
            group = Group(len(self.groups), kind, {})
            self.groups.append(group)
            self.by_kind[kind] = group
        if SESSION in sources:
            self._own_group(SESSION, ("session", None), Sessions(self.settings.session_gap_ms, self._lateness), ())
        for source in sources:
            self._register(source)
        self.kinds = {*self.by_kind, *(role.kind for group in self.own.values() for role in group.roles)}
        self.traits.sort()
        self.order = self.ordered(set(self.numbers.values()))
        self.handlers = self._handlers()
        self.keeps = keeps_of(self.groups, self.settings)
        self.definitions = [fingerprint(meaning_of(audience)) for audience in self.audiences]
        self.waiting: dict[int, int] = {}
        stored: list[object] = list(zip((audience.name for audience in self.audiences), self.definitions, strict=True))
        if project.computed:
            stored.append([(trait.name, trait.value) for trait in project.computed])
        if SESSION in self.own:
            stored += [self.settings.session_gap_ms, self._lateness]
        stored.append([audience.name for audience in self.audiences if audience.start_empty])
        stored.append([self.sources.zone, self.settings.timezone])
        self.fingerprint = fingerprint(stored)

    @property
    def _lateness(self) -> int:
        return self.settings.clock.lateness_ms

    def _register(self, source: Source) -> None:
        if isinstance(source, EventCondition | AggregateValue | NearCondition | SequenceCondition | AbsentCondition):
            self.feature(source)
        elif isinstance(source, TraitValue) and source.keys[0] not in self.traits:
            self.traits.append(source.keys[0])
        elif isinstance(source, AttributeValue):
            columns = self.columns.setdefault(source.table, [])
            if source.column not in columns:
                columns.append(source.column)

    def feature(self, source: Source) -> tuple[Group, Feature]:
        """The feature that a source of values is, made or made larger where needed."""
        if isinstance(source, SequenceCondition | AbsentCondition):
            return self._own_feature(source)
        if source == SESSION:
            group = self.own[SESSION]
            return group, group.features[SESSION]
        assert isinstance(source, OF_ONE_KIND)
        group = self.by_kind[kind_of(source.model)]
        where = where_of(source)
        if isinstance(source, EventCondition):
            windowed = source.within_ms is not None
            feature = group.features.get((where, windowed))
            if feature is None:
                feature = group.features[where, windowed] = Feature(len(group.features), where, windowed)
            feature.cap = max(feature.cap, steps(source.times).cap)
            return group, feature
        key = self._key(source)
        feature = group.features.get(key)
        if feature is None:
            feature = group.features[key] = self._kept(source, len(group.features), where)
        return group, feature

    @staticmethod
    def _key(source: Source) -> object:
        """What a source is, wherever it stands in the text."""
        positioned = isinstance(source, NearCondition | SequenceCondition | AbsentCondition)
        return msgspec.structs.replace(source, span=None) if positioned else source  # type: ignore[type-var]  # a struct

    def _kept(self, source: AggregateValue | NearCondition, number: int, where: tuple[Where, ...]) -> Feature:
        if isinstance(source, NearCondition):
            paths = tuple(Path("properties", (name,)) for name in (*LATITUDES, *LONGITUDES))
            return Feature(number, where, windowed=True, kind=Position(source), paths=paths)
        kind = Aggregate(source, self._lateness, self.settings.session_gap_ms, self.limits)
        return Feature(
            number,
            where,
            windowed=True,
            kind=kind,
            paths=() if source.path is None else (source.path,),
            sessions=source.window.kind == "session",
        )

    def _own_feature(self, source: SequenceCondition | AbsentCondition) -> tuple[Group, Feature]:
        plain = msgspec.structs.replace(source, span=None)
        group = self.own.get(plain)
        if group is None:
            parts = plain.steps if isinstance(plain, SequenceCondition) else (plain.absent, plain.after)
            roles = tuple(Role(kind_of(part.model), where_of(part), part.by) for part in parts)
            make = Sequence if isinstance(plain, SequenceCondition) else Absence
            kind = make(plain, self._lateness, self.settings.session_gap_ms, self.limits)  # type: ignore[arg-type]  # its own kind
            group = self._own_group(plain, ("own", None), kind, roles)
            group.features[plain].sessions = plain.window.kind == "session"
        return group, group.features[plain]

    def _own_group(self, key: object, kind: tuple[str, str | None], keeps: object, roles: tuple[Role, ...]) -> Group:
        feature = Feature(0, (), windowed=True, kind=keeps)
        group = self.own[key] = Group(len(self.groups), kind, {key: feature}, roles)
        self.groups.append(group)
        return group

    def touching(self, number: int) -> tuple[set[int], set[str], bool]:
        """What touches an audience, nested ones included: group numbers, trait names, and whether attributes or clocks do."""
        groups: set[int] = set()
        traits: set[str] = set()
        attributes = False
        for leaf in self.leaves(number):
            for source in self.sources.of(leaf):
                if isinstance(source, EventCondition):
                    groups.add(self.by_kind[kind_of(source.model)].number)
                elif isinstance(source, TraitValue):
                    traits.add(source.keys[0])
                elif isinstance(source, AttributeValue) or source == CLOCK:
                    attributes = True
                else:
                    groups.add(self.feature(source)[0].number)
        return groups, traits, attributes

    def leaves(self, number: int) -> Iterator[Condition]:
        """The conditions without parts of an audience and of those that it refers to, each audience once."""
        for part in self.ordered({number}):
            for leaf in leaves_of(self.audiences[part].condition):
                if not isinstance(leaf, AudienceCondition):
                    yield leaf

    def own_leaves(self, number: int) -> Iterator[Condition]:
        """The conditions without parts of an audience, without those that it refers to."""
        return leaves_of(self.audiences[number].condition)

    def place(self, source: Source | Condition) -> tuple[int, int] | None:
        """Group and number of the feature that a source is; None where it is none, or any count will do."""
        if isinstance(source, EventCondition):
            if steps(source.times).cap == 0:
                return None
        elif source != SESSION and not isinstance(
            source, AggregateValue | NearCondition | SequenceCondition | AbsentCondition
        ):
            return None
        group, feature = self.feature(source)
        return group.number, feature.number

    def references(self, number: int) -> list[int]:
        """The numbers of the audiences that an audience names."""
        leaves = leaves_of(self.audiences[number].condition)
        return sorted({self.numbers[leaf.name] for leaf in leaves if isinstance(leaf, AudienceCondition)})

    def _handlers(self) -> list[Handler]:
        kinds = set(self.kinds)
        if self.traits:
            kinds.add(("identify", None))
        if SESSION in self.own:
            kinds |= {(call, None) for call in CALL_TYPES}
        handlers = [Handler(ATTRIBUTES, ("attributes", None), (), traits=False)]
        for kind in sorted(kinds, key=_order):
            groups = [self.own[SESSION].number] if SESSION in self.own else []
            alike = {kind, (kind[0], None)}
            groups += [
                self.by_kind[one].number for one in sorted(alike, key=_order, reverse=True) if one in self.by_kind
            ]
            groups += [group.number for group in self.own.values() if any(role.kind in alike for role in group.roles)]
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
            handler.audiences = tuple(number for number in self.ordered(touched) if number in touched)
            handler.reads = (*([TRAITS] if handler.traits else []), *handler.groups)
        return handlers

    def ordered(self, touched: set[int]) -> list[int]:
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


def keeps_rows(source: object) -> bool:
    """Whether a profile may keep many rows of a source; these share what it may keep."""
    if isinstance(source, AggregateValue):
        return source.function == "distinct" or (source.window.kind != "ever" and source.function != "last")
    return isinstance(source, SequenceCondition | AbsentCondition)


def kind_of(model: EventModel) -> tuple[str, str | None]:
    """The kind of message that a model names."""
    return model.type, model.raw_name


def where_of(leaf: EventCondition | AggregateValue | NearCondition | Step) -> tuple[Where, ...]:
    """All that an event must satisfy, the model's part included, in one order for equal meaning."""
    return tuple(
        sorted(set(leaf.model.where + leaf.where), key=lambda where: (where.path.root, where.path.keys, repr(where)))
    )


def paths_of(plan: Plan) -> set[Path]:
    """Every path into a message that some feature reads."""
    features = [feature for group in plan.groups for feature in group.features.values()]
    roles = [role for group in plan.groups for role in group.roles]
    paths = {where.path for wheres in [*(f.where for f in features), *(r.where for r in roles)] for where in wheres}
    return paths | {path for feature in features for path in feature.paths} | {role.by for role in roles if role.by}


def meaning_of(audience: Audience) -> Condition:
    """The condition without positions."""
    return meaning(audience.condition)


def _order(kind: tuple[str, str | None]) -> tuple[str, bool, str]:
    return kind[0], kind[1] is not None, kind[1] or ""
