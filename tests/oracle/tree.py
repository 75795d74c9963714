"""What a project says, as the reference evaluator sees it: own nodes, so that nothing is shared with the engine.

Owns: conditions, values of a person, windows, event models, settings that have a meaning; all immutable.
Made from YAML by tests.oracle.reading, from loaded projects by tests.oracle.loaded.
Not here: what they mean (tests.oracle.evaluator), predicates (tests.oracle.predicates).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeAlias

Constant: TypeAlias = str | int | Decimal | bool


@dataclass(frozen=True)
class Comparison:
    """One comparison; the operand is a constant, a tuple of them, or a value of the person."""

    op: str
    operand: Constant | tuple[Constant, ...] | Value


@dataclass(frozen=True)
class Predicate:
    """All comparisons must hold. ``instants``: the schema says timestamp; then constants are milliseconds."""

    comparisons: tuple[Comparison, ...]
    instants: bool = False


@dataclass(frozen=True)
class Path:
    """Keys below ``properties``, ``context`` or ``traits`` of a message; ``instants``: declared a timestamp."""

    root: str
    keys: tuple[str, ...]
    instants: bool = False


@dataclass(frozen=True)
class Where:
    """The value at the path satisfies the predicate."""

    path: Path
    predicate: Predicate


@dataclass(frozen=True)
class Model:
    """Messages of a type, with a raw name (None: any), for which ``where`` holds."""

    type: str
    raw_name: str | None
    where: tuple[Where, ...] = ()


@dataclass(frozen=True)
class Event:
    """Events of a model that satisfy ``where``."""

    model: Model
    where: tuple[Where, ...] = ()


@dataclass(frozen=True)
class Window:
    """``kind``: ever, duration, session, day, week or month.

    Args:
        kind: see above.
        ms: the length of a duration.
        zone: an IANA name, or ``profile``, of a calendar window.
    """

    kind: str = "ever"
    ms: int = 0
    zone: str = "UTC"


@dataclass(frozen=True)
class Trait:
    """A trait by name and keys inside of its value; a computed one where there is one of that name."""

    keys: tuple[str, ...]


@dataclass(frozen=True)
class Attribute:
    """A column of the person's row; ``instants``: a timestamp."""

    table: str
    column: str
    instants: bool = False


@dataclass(frozen=True)
class Aggregate:
    """``function`` is count, or sum, avg, min, max, distinct, first, last of the values at ``path``."""

    event: Event
    function: str
    path: Path | None
    window: Window


Value: TypeAlias = Trait | Attribute | Aggregate


@dataclass(frozen=True)
class Holds:
    """A value of the person satisfies a predicate."""

    value: Value
    predicate: Predicate


@dataclass(frozen=True)
class Sequence:
    """One event for each step, in order. ``by``: for each step its path, or none at all."""

    steps: tuple[Event, ...]
    by: tuple[Path, ...]
    window: Window
    span_ms: int | None = None
    gap_ms: int | None = None


@dataclass(frozen=True)
class Absent:
    """``missing`` did not follow the newest ``after``. ``by``: the paths of both, in this order, or none."""

    missing: Event
    after: Event
    for_ms: int
    by: tuple[Path, ...]
    window: Window


@dataclass(frozen=True)
class Near:
    """The newest position is fresh and, with the leave distance, inside. Degrees, meters, milliseconds."""

    event: Event
    lat: float
    lon: float
    radius_m: float
    leave_m: float
    fresh_ms: int


@dataclass(frozen=True)
class During:
    """The local wall clock is in [from, to), milliseconds of the day; days 0 (Monday) to 6."""

    days: frozenset[int]
    from_ms: int
    to_ms: int
    zone: str


@dataclass(frozen=True)
class Member:
    """Member of another audience."""

    audience: str


@dataclass(frozen=True)
class All:
    """Each holds."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class AnyOf:
    """One of them holds."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Neither:
    """None of them holds."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = Holds | Sequence | Absent | Near | During | Member | All | AnyOf | Neither


@dataclass(frozen=True)
class Definition:
    """A whole project.

    Args:
        audiences: conditions by name.
        computed: computed traits by name.
        namespaces: the identifier namespace of the key of each table.
        timezone_column: where the attribute ``timezone`` is, if one table alone has it.
        timezone: the project's zone.
        session_gap_ms: milliseconds, like those below.
        lateness_ms: how late an event may be.
        dedupe_ms: for how long a message id counts once.
        event_bytes_max: larger records are refused.
    """

    audiences: Mapping[str, Condition]
    computed: Mapping[str, Aggregate] = field(default_factory=dict)
    namespaces: Mapping[str, str] = field(default_factory=dict)
    timezone_column: Attribute | None = None
    timezone: str = "UTC"
    session_gap_ms: int = 1_800_000
    lateness_ms: int = 86_400_000
    dedupe_ms: int = 86_400_000
    event_bytes_max: int = 1 << 20
