"""What the plan keeps and does, in words and numbers: ``opportune check --explain-plan``.

Owns: the report: features with who shares them and how many bytes they take of a person, and for each kind of message what it
changes, reads and evaluates.
Invariant: bytes are upper bounds of what is stored of one person for the features as they are packed (MessagePack), without
the store's own share.
Not here: the plan (opportune.audiences.plan), printing (opportune.cli.check_plan).
"""

from __future__ import annotations

import msgspec

from opportune.audiences.durations import rough_text
from opportune.audiences.plan import ATTRIBUTES, TRAITS, Feature, Group, Plan, leaves_of
from opportune.audiences.schema import EventCondition, Where
from opportune.audiences.sentences import where_text
from opportune.features import sketches
from opportune.features.absences import Absence
from opportune.features.aggregates import Aggregate
from opportune.features.positions import Position
from opportune.features.sequences import Sequence
from opportune.features.sessions import Sessions

INSTANT_BYTES = 9
"""A packed instant: a tag and eight bytes."""
SESSIONS_USUAL = 16
"""Sessions of a person within the lateness that are reckoned with."""
ENTRY_BYTES = 2 * INSTANT_BYTES
CODE_BYTES = 67
"""A packed value of which only its being the same is asked, at most."""
SKETCH_BYTES = 2_100
LIST_BYTES = 3
"""The head of a packed list of up to 65,535 elements."""


class FeatureReport(msgspec.Struct):
    """A feature.

    Args:
        event: the kind of message, as ``track Order Completed``.
        where: what else the message must satisfy, a sentence; may be empty.
        keeps: what is kept of a person.
        bytes_max: that takes at most so many bytes.
        audiences: those whose own conditions read it, in order of name.
        conditions: how many conditions read it: more than one share it.
        error: of the value where a person has more than is kept as it is; empty where it stays exact.
    """

    event: str
    where: str
    keeps: str
    bytes_max: int
    audiences: list[str]
    conditions: int
    error: str = ""


class MessageReport(msgspec.Struct):
    """A kind of message.

    Args:
        event: as in ``FeatureReport``; ``warehouse`` for rows that change.
        features: how many features it may change.
        traits: whether it may set traits.
        audiences: those that are evaluated where it changes what they read.
        groups_read: how many groups of features are read to apply it; others are read where an evaluation asks.
    """

    event: str
    features: int
    traits: bool
    audiences: list[str]
    groups_read: int


class PlanReport(msgspec.Struct):
    """All of a plan.

    Args:
        audiences: how many.
        conditions: how many conditions without parts there are, counted wherever they stand.
        features: the distinct features that they come down to.
        traits: the traits that are kept; their values are of any size.
        columns: the used columns of the warehouse, by table.
        messages: by kind.
        bytes_max: of all features of a person who has all of them; without traits.
    """

    audiences: int
    conditions: int
    features: list[FeatureReport]
    traits: list[str]
    columns: dict[str, list[str]]
    messages: list[MessageReport]
    bytes_max: int


def report(plan: Plan) -> PlanReport:
    """The report of a plan."""
    readers = _readers(plan)
    features = [
        _feature(group, feature, readers.get((group.number, feature.number), []))
        for group in plan.groups
        if group.number != TRAITS
        for feature in group.features.values()
    ]
    heads = LIST_BYTES * sum(bool(group.features) for group in plan.groups)
    return PlanReport(
        len(plan.audiences),
        sum(1 for audience in plan.audiences for _ in leaves_of(audience.condition)),
        features,
        list(plan.traits),
        {table: list(columns) for table, columns in plan.columns.items()},
        _messages(plan),
        heads + sum(feature.bytes_max for feature in features),
    )


def _readers(plan: Plan) -> dict[tuple[int, int], list[str]]:
    """The audiences that read each feature; one is there once for each of its conditions that do."""
    readers: dict[tuple[int, int], list[str]] = {}
    for audience in plan.audiences:
        for leaf in leaves_of(audience.condition):
            for source in plan.sources.of(leaf):
                if isinstance(source, EventCondition) or plan.place(source) is not None:
                    group, feature = plan.feature(source)
                    readers.setdefault((group.number, feature.number), []).append(audience.name)
    return readers


def _feature(group: Group, feature: Feature, readers: list[str]) -> FeatureReport:
    where: tuple[Where, ...] = feature.where
    if feature.kind is not None:
        keeps, size = _kept(feature.kind)
    elif feature.cap == 0:
        keeps, size = "nothing", LIST_BYTES if feature.windowed else 1
    elif feature.windowed:
        keeps = f"the last {feature.cap} instants" if feature.cap > 1 else "the last instant"
        size = LIST_BYTES + feature.cap * INSTANT_BYTES
    else:
        keeps, size = f"a number up to {feature.cap}", len(msgspec.msgpack.encode(feature.cap))
    return FeatureReport(
        kind_text(group.kind),
        where_text(where),
        keeps,
        size,
        sorted(set(readers)),
        len(readers),
        error_of(feature.kind),
    )


def error_of(kind: object) -> str:
    """The error of a feature's value for somebody who has more than is kept as it is; empty where it stays exact."""
    if isinstance(kind, Aggregate):
        if kind.hops is not None:
            return kind.hops.error
        return f"by a sketch of {sketches.ERROR:.1%} standard error" if kind.function == "distinct" else ""
    dropping = isinstance(kind, Sequence) or (isinstance(kind, Absence) and kind.keyed)
    return "of the newest events only" if dropping else ""


def _kept(kind: object) -> tuple[str, int]:
    """What a feature of a room of opportune.features keeps of a person, and its bytes at most where values are numbers."""
    if isinstance(kind, Position):
        return "the last position that decides, and the newest one's instant", LIST_BYTES + 2 * INSTANT_BYTES + 1
    if isinstance(kind, Sessions):
        return "the sessions that a late event can reach", LIST_BYTES + INSTANT_BYTES * 2 * SESSIONS_USUAL
    if isinstance(kind, Aggregate):
        return _aggregate(kind)
    assert isinstance(kind, Absence | Sequence), kind
    if isinstance(kind, Absence) and not kind.keyed:
        return "two instants", LIST_BYTES + ENTRY_BYTES
    what = "values of by" if isinstance(kind, Absence) else "events of the window"
    size = ENTRY_BYTES * kind.most + (CODE_BYTES * kind.most if kind.keyed else 0)
    return f"up to {kind.most:,} {what}, beyond that the newest", LIST_BYTES + size


def _aggregate(kind: Aggregate) -> tuple[str, int]:
    """What an aggregate keeps, and its bytes."""
    most, distinct = kind.limits.entries, kind.function == "distinct"
    if (kind.ever and not distinct) or kind.function == "last":
        return "a value", LIST_BYTES + ENTRY_BYTES
    entry = INSTANT_BYTES + CODE_BYTES if distinct else ENTRY_BYTES
    if kind.hops is None:
        return f"up to {most:,} values, beyond that a sketch", LIST_BYTES + most * CODE_BYTES + SKETCH_BYTES
    hops = 1 if kind.hops.session else -(-kind.windowed.kept_ms // kind.hops.ms) + 1
    size = LIST_BYTES + most * entry + hops * (INSTANT_BYTES + (SKETCH_BYTES if distinct else ENTRY_BYTES))
    what = "values" if distinct else "events of the window" if kind.function not in ("min", "max") else "events"
    beyond = "sums of sessions" if kind.hops.session else f"parts of {rough_text(kind.hops.ms)}"
    return f"up to {most:,} {what}, beyond that {beyond}", size


def _messages(plan: Plan) -> list[MessageReport]:
    found = []
    for handler in plan.handlers:
        if handler.number == ATTRIBUTES and not plan.columns:
            continue
        found.append(
            MessageReport(
                "warehouse" if handler.number == ATTRIBUTES else kind_text(handler.kind),
                sum(len(plan.groups[number].features) for number in handler.groups),
                handler.traits,
                sorted(plan.audiences[number].name for number in handler.audiences),
                len(handler.reads),
            )
        )
    return found


def kind_text(kind: tuple[str, str | None]) -> str:
    """A kind of message in words: ``track Order Completed``, ``any page``, ``identify``."""
    type_, name = kind
    if type_ == "own":
        return "several"
    if type_ == "session":
        return "any"
    if name is not None:
        return f"{type_} {name}"
    return f"any {type_}" if type_ in ("page", "screen", "track") else type_
