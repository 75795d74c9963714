"""The tree of a definition: conditions, predicates, audiences, event models, tables.

Owns: the nodes, all immutable; equal meaning is equal value (spans do not take part in the comparison of meaning: use
``meaning()``). The loader makes them from YAML (opportune.audiences.loader); the plan compiler and the reference
evaluator of the tests read them. LANGUAGE.md, kept as docs/language.md, is what they mean.
Not here: YAML, positions in files (opportune.audiences.diagnostics), evaluation (opportune.audiences.compiler).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, TypeAlias

import msgspec

from opportune.identifiers import BLOCKED, Normalise

Scalar: TypeAlias = str | int | Decimal | bool
"""A value of a definition. Numbers are int or Decimal, at most nine decimal places; never float."""

ValueType: TypeAlias = Literal["string", "number", "boolean", "timestamp"]
CallType: TypeAlias = Literal["track", "page", "screen", "identify", "group", "alias"]
Operator: TypeAlias = Literal[
    "eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in", "contains", "starts_with", "ends_with", "matches", "exists"
]


class Span(msgspec.Struct, frozen=True):
    """Where a node stands in its file: 1-based line and column."""

    file: str
    line: int
    column: int


class TraitValue(msgspec.Struct, frozen=True):
    """An operand: the value of a trait of identify calls. ``keys``: the trait's name, then keys inside its value."""

    keys: tuple[str, ...]


class AttributeValue(msgspec.Struct, frozen=True):
    """An operand: the value of a column of the profile's row. ``instants``: it is a timestamp, in milliseconds."""

    table: str
    column: str
    instants: bool = False


class Comparison(msgspec.Struct, frozen=True):
    """One comparison with a constant, or with another value of the person.

    ``operand`` is a scalar; for ``in`` and ``not_in`` a tuple of scalars; for ``exists`` a bool; for ``matches`` the
    RE2 expression. Where the predicate compares instants, the operands are integers: milliseconds since the epoch.
    ``eq``, ``ne``, ``gt``, ``gte``, ``lt`` and ``lte`` may have a value of the person: ``TraitValue``, ``AttributeValue`` or
    ``AggregateValue``.
    Comparisons are equal where they mean the same: in definitions true is not 1, as it is in Python.
    """

    op: Operator
    operand: Scalar | tuple[Scalar, ...] | TraitValue | AttributeValue | AggregateValue

    @property
    def value_of_person(self) -> TraitValue | AttributeValue | AggregateValue | None:
        """The operand where it is a value of the person."""
        operand = self.operand
        return operand if isinstance(operand, TraitValue | AttributeValue | AggregateValue) else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Comparison) and self._typed() == other._typed()

    def __hash__(self) -> int:
        return hash(self._typed())

    def _typed(self) -> tuple[object, ...]:
        operands = self.operand if isinstance(self.operand, tuple) else (self.operand,)
        return self.op, *((isinstance(operand, bool), operand) for operand in operands)


class Predicate(msgspec.Struct, frozen=True):
    """All of its comparisons must hold. ``instants``: the value is ISO text that the schema declares a timestamp."""

    comparisons: tuple[Comparison, ...]
    instants: bool = False


class Path(msgspec.Struct, frozen=True):
    """A path into a message: a root object and the keys below it, for example properties / cart / total."""

    root: Literal["properties", "context", "traits"]
    keys: tuple[str, ...]


class Where(msgspec.Struct, frozen=True):
    """One entry of ``where``: the value at the path satisfies the predicate."""

    path: Path
    predicate: Predicate


class EventModel(msgspec.Struct, frozen=True):
    """Which messages are an event of this name.

    Args:
        name: the name that definitions use.
        type: the call type of the messages.
        raw_name: for track the ``event`` field, for page and screen the ``name`` field (None: any); None for the others.
        where: further conditions on the message, all of which hold.
    """

    name: str
    type: CallType
    raw_name: str | None
    where: tuple[Where, ...] = ()


class Window(msgspec.Struct, frozen=True):
    """Which events an aggregate looks at.

    Args:
        kind: ``ever``, ``duration``, ``session``, ``day``, ``week`` or ``month``.
        ms: the length of a duration.
        timezone: of a calendar window: an IANA name, or a value of the person with that name, ``profile``.
    """

    kind: Literal["ever", "duration", "session", "day", "week", "month"] = "ever"
    ms: int = 0
    timezone: str = ""


class AggregateValue(msgspec.Struct, frozen=True):
    """``count``, ``sum``, ``avg``, ``min``, ``max``, ``distinct``, ``first`` or ``last`` of events of a model.

    Args:
        model: which messages.
        where: what they must satisfy.
        function: see above.
        path: of the property; None for ``count``.
        instants: whether the schema calls the property a timestamp.
        window: which of them.
    """

    model: EventModel
    where: tuple[Where, ...]
    function: str
    path: Path | None
    instants: bool
    window: Window


class AggregateCondition(msgspec.Struct, frozen=True):
    """A value of events satisfies a predicate; also a computed trait, which is such a value by name."""

    value: AggregateValue
    predicate: Predicate
    span: Span | None = None


class Step(msgspec.Struct, frozen=True):
    """Events of a model that satisfy ``where``; ``by``: the path of the value that has to be the same in all of them."""

    model: EventModel
    where: tuple[Where, ...]
    by: Path | None = None
    by_instants: bool = False


class SequenceCondition(msgspec.Struct, frozen=True):
    """One event for each step, one after the other.

    Args:
        steps: in their order.
        window: all of them are inside.
        span_ms: the last comes sooner than this after the first; None: whenever.
        gap_ms: each comes at least so long after the one before.
    """

    steps: tuple[Step, ...]
    window: Window
    span_ms: int | None = None
    gap_ms: int = 0
    span: Span | None = None


class AbsentCondition(msgspec.Struct, frozen=True):
    """The newest ``after`` of some value of ``by`` is ``for_ms`` ago or longer, and no ``absent`` followed it."""

    absent: Step
    after: Step
    for_ms: int
    window: Window
    span: Span | None = None


class NearCondition(msgspec.Struct, frozen=True):
    """The person is inside of a circle, by a position that is fresh. Degrees, meters, milliseconds."""

    model: EventModel
    where: tuple[Where, ...]
    lat: float
    lon: float
    radius_m: float
    leave_m: float
    fresh_ms: int
    span: Span | None = None


class DuringCondition(msgspec.Struct, frozen=True):
    """The local wall clock is in [from, to) on some days of the week, 0 (Monday) to 6; milliseconds of the day."""

    days: tuple[int, ...]
    from_ms: int
    to_ms: int
    timezone: str
    span: Span | None = None


class EventCondition(msgspec.Struct, frozen=True):
    """How often events of a model that satisfy ``where`` happened within a window (None: ever)."""

    model: EventModel
    where: tuple[Where, ...]
    times: Predicate
    within_ms: int | None
    span: Span | None = None


class TraitCondition(msgspec.Struct, frozen=True):
    """The current value of a trait of identify calls. ``keys``: the trait's name, then keys inside its value."""

    keys: tuple[str, ...]
    predicate: Predicate
    span: Span | None = None


class AttributeCondition(msgspec.Struct, frozen=True):
    """The current value of a column of the profile's row in a warehouse table."""

    table: str
    column: str
    predicate: Predicate
    span: Span | None = None


class AudienceCondition(msgspec.Struct, frozen=True):
    """Member of another audience."""

    name: str
    span: Span | None = None


class All(msgspec.Struct, frozen=True):
    """Each of the conditions holds; never empty."""

    conditions: tuple[Condition, ...]
    span: Span | None = None


class Any(msgspec.Struct, frozen=True):
    """One of the conditions holds; never empty."""

    conditions: tuple[Condition, ...]
    span: Span | None = None


class Not(msgspec.Struct, frozen=True):
    """None of the conditions holds (``none:`` in YAML); never empty."""

    conditions: tuple[Condition, ...]
    span: Span | None = None


Condition: TypeAlias = (
    EventCondition
    | AggregateCondition
    | SequenceCondition
    | AbsentCondition
    | NearCondition
    | DuringCondition
    | TraitCondition
    | AttributeCondition
    | AudienceCondition
    | All
    | Any
    | Not
)


class Audience(msgspec.Struct, frozen=True):
    """A named condition. ``start_empty``: a new audience does not wait for its windows to be covered."""

    name: str
    condition: Condition
    description: str = ""
    start_empty: bool = False
    span: Span | None = None


class Guard(msgspec.Struct, frozen=True):
    """What a refresh of a table may do without a confirmation, as shares from 0 to 1.

    Args:
        rows_lost: of the rows of the snapshot before.
        cells_changed: of the values of used columns, in rows that both snapshots have.
    """

    rows_lost: float = 0.2
    cells_changed: float = 0.5


class Incremental(msgspec.Struct, frozen=True):
    """How a table is read where a refresh asks its source for new rows only.

    Args:
        column: of whole numbers or instants, which rises whenever a row is written.
        deleted: a column of truth values: where it is true there is no such row any more; None: no column says so.
        full_ms: how long after a full refresh the next one is due; None: only when it is asked for.
        overlap_ms: so much before the last instant is read again, for rows that were committed late.
    """

    column: str
    deleted: str | None = None
    full_ms: int | None = None
    overlap_ms: int = 60_000


class Origin(msgspec.Struct, frozen=True):
    """Which system rows come from that are not in a local file. Texts name environment variables as ``${NAME}``.

    Args:
        kind: the system, a key of ``opportune.audiences.source_file.SYSTEMS``; its place is the table's ``source``.
        query: the SQL whose result is the table, where the system takes one.
        options: of the system: of a file system, a driver, a catalogue.
    """

    kind: str
    query: str | None = None
    options: dict[str, str] = {}


class ComputedTrait(msgspec.Struct, frozen=True):
    """A value of events with a name; it hides the trait of identify calls of that name."""

    name: str
    value: AggregateValue
    description: str = ""
    span: Span | None = None


class Table(msgspec.Struct, frozen=True):
    """A warehouse table.

    Args:
        name: the name that definitions use.
        source: a Parquet, Arrow IPC or CSV file, relative to the project directory; or a place in the system of
            ``origin``: a URL, a connection, a table's name.
        key: the key column.
        namespace: the identifier namespace of the key (``user_id`` unless said otherwise).
        columns: declared types of columns, by name; columns not named here take the file's own type.
        order_by: of several rows with one key the greatest value in this column holds; None: such a table is refused.
        origin: None: a local file.
        refresh_ms: how long after a refresh the next one begins; None: only when it is asked for.
        guard: what a refresh may do unasked.
        incremental: None: every refresh reads all rows.
        normalise, region: how the namespace writes its values; see ``opportune.identifiers.Namespace``.
        blocked: the values that stand for nobody; see ``opportune.identifiers.IdentitySettings``.
        indexes: columns by whose values the API finds rows.
    """

    name: str
    source: str
    key: str
    namespace: str = "user_id"
    columns: dict[str, ValueType] = {}
    order_by: str | None = None
    origin: Origin | None = None
    refresh_ms: int | None = None
    guard: Guard = Guard()
    incremental: Incremental | None = None
    normalise: Normalise = "text"
    region: str | None = None
    blocked: tuple[str, ...] = BLOCKED
    indexes: tuple[str, ...] = ()


def meaning(node: Condition) -> Condition:
    """The node without the positions of its text, so that equal meaning compares and hashes equal."""
    if isinstance(node, All | Any | Not):
        return type(node)(tuple(meaning(child) for child in node.conditions))
    return msgspec.structs.replace(node, span=None)
