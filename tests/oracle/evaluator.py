"""Whether a person is in each audience at an instant: the reference evaluator's conditions (LANGUAGE.md section 2).

Owns: the value of every condition in a world (E, T, A, now), and the list of instants at which one can change by time
alone. Obviously correct and slow: at every instant every audience is tested anew against everything that has arrived;
only what a person's traits and rows say by themselves is remembered while they stay as they are.
Not here: what arrived when (tests.oracle.history), windows and aggregates (tests.oracle.windows), what several events
say together (tests.oracle.patterns), predicates (tests.oracle.predicates).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import NamedTuple, TypeAlias

from tests.oracle import patterns
from tests.oracle.calendar import is_during, is_zone, jumps, start_of
from tests.oracle.messages import Message, is_event, is_named, position, single, values
from tests.oracle.predicates import Instant, Reached, holds, key, reach
from tests.oracle.tree import (
    Absent,
    Aggregate,
    All,
    AnyOf,
    Attribute,
    Comparison,
    Condition,
    Definition,
    During,
    Event,
    Holds,
    Member,
    Near,
    Neither,
    Path,
    Predicate,
    Sequence,
    Trait,
    Value,
    Window,
)
from tests.oracle.windows import Seen, aggregate, inside, newest_session

Scalar: TypeAlias = str | int | Decimal | bool | None
Test: TypeAlias = "Callable[[World], bool]"
Get: TypeAlias = "Callable[[World], list[Reached]]"
Row: TypeAlias = Mapping[str, Scalar]
"""Values of a warehouse row by column; an instant is milliseconds since the epoch."""
CALENDAR = ("day", "week", "month")
PROFILE = "profile"


class Occurrence(NamedTuple):
    """An event that was applied.

    Args:
        now_ms: the instant at which it was applied.
        batch: what was handed over together; all of one instant unless a live run was cut there.
        time_ms: its effective time.
        matched: what each probe that it passes reads of it, by number.
        traits: what it sets.
    """

    now_ms: int
    batch: int
    time_ms: int
    matched: Mapping[int, object]
    traits: dict[str, object]


@dataclass(frozen=True)
class Probe:
    """Which events a condition looks at, what it reads of each, and after what delays one can change the value."""

    event: Event
    read: Callable[[Message], object]
    delays_ms: tuple[int, ...]


class World:
    """What a condition looks at: the events of a person that have arrived, the rows, and now.

    Args:
        definitions: the audiences.
        rows: the person's rows by table.
    """

    def __init__(self, definitions: Definitions, rows: Mapping[str, Row]) -> None:
        self.definitions = definitions
        self.rows = rows
        self.now_ms = 0
        self.arrived = 0
        self.all: list[int] = []
        self.seen: list[list[Seen]] = [[] for _ in definitions.probes]
        self.traits: dict[str, tuple[int, object]] = {}
        self.answers: dict[str, bool] = {}
        self.known: dict[int, bool] = {}

    def arrive(self, event: Occurrence) -> None:
        """Takes an event in: to those that each probe sees, its traits where none is newer."""
        self.arrived += 1
        insort(self.all, event.time_ms)
        for number, read in event.matched.items():
            insort(self.seen[number], Seen(event.time_ms, self.arrived, read))
        for name, value in event.traits.items():
            if name not in self.traits or event.time_ms >= self.traits[name][0]:
                self.traits[name] = event.time_ms, value
                self.known.clear()

    def members(self, now_ms: int) -> frozenset[str]:
        """The names of the audiences that the person is in."""
        self.now_ms = now_ms
        self.answers.clear()
        return frozenset(name for name in self.definitions.tests if self.is_member(name))

    def is_member(self, name: str) -> bool:
        """Whether the condition of an audience holds."""
        if name not in self.answers:
            self.answers[name] = self.definitions.tests[name](self)
        return self.answers[name]

    def events(self, number: int, window: Window) -> list[Seen]:
        """What a probe sees inside a window, in order of event time, then arrival."""
        return inside(self.seen[number], self.first_ms(window), self.now_ms)

    def first_ms(self, window: Window) -> int | None:
        """The first instant inside a window, which goes on to now; None: ever."""
        if window.kind == "duration":
            return self.now_ms - window.ms + 1
        if window.kind == "session":
            return newest_session(self.all, self.now_ms, self.definitions.session_gap_ms)
        return start_of(window.kind, self.now_ms, self.zone(window.zone)) if window.kind in CALENDAR else None

    def zone(self, zone: str) -> str:
        """The zone itself; ``profile``: the trait ``timezone``, then the attribute, then the project's."""
        if zone != PROFILE:
            return zone
        for get in self.definitions.zone_values:
            found = get(self)
            if len(found) == 1 and not found[0].element and is_zone(found[0].value):
                return str(found[0].value)
        return self.definitions.timezone

    def trait(self, trait: Trait) -> list[Reached]:
        """The value with the greatest event time, of equal ones the last to arrive; null is no value."""
        _, value = self.traits.get(trait.keys[0], (0, None))
        return list(reach(value, trait.keys[1:]))

    def attribute(self, attribute: Attribute) -> list[Reached]:
        """The column of the person's row, if there is a row and it has a value there."""
        value = self.rows.get(attribute.table, {}).get(attribute.column)
        if value is None:
            return []
        if isinstance(value, int) and not isinstance(value, bool):
            return [Reached(Instant(value) if attribute.instants else Decimal(value), element=False)]
        return [Reached(value, element=False)]


class Definitions:
    """All audiences of a project as tests of a world, and what they look at.

    Args:
        definition: the project.
    """

    def __init__(self, definition: Definition) -> None:
        self.computed = definition.computed
        self.timezone = definition.timezone
        self.session_gap_ms = definition.session_gap_ms
        self.probes: list[Probe] = []
        self.traits: set[str] = set()
        self.zones: set[str] = set()
        self.clocks_ms: set[int] = set()
        self.sessions = False
        self.values = 0
        self.zone_values: list[Get] = []
        self.tests = {name: self.test(condition) for name, condition in definition.audiences.items()}
        # A computed trait is kept for look-ups too: what it looks at is used, whether or not an audience reads it.
        for name in definition.computed:
            self.get(Trait((name,)))
        if PROFILE in self.zones:
            self.zone_values = [self.get(Trait(("timezone",)))]
            if definition.timezone_column is not None:
                self.zone_values.append(self.get(definition.timezone_column))

    def test(self, condition: Condition) -> Test:
        """A condition as a function of a world."""
        match condition:
            case All() | AnyOf() | Neither():
                return self.combined(condition)
            case Member(audience):
                return lambda world: world.is_member(audience)
            case Holds(value, predicate):
                return self.holds(value, predicate)
            case Sequence():
                return self.sequence(condition)
            case Absent():
                return self.absent(condition)
            case Near(event=event, fresh_ms=fresh_ms):
                number = self.probe(event, position, fresh_ms)
                return lambda world: patterns.near(condition, world.events(number, Window()), world.now_ms)
            case During(zone=zone, from_ms=from_ms, to_ms=to_ms):
                self.zones.add(zone)
                self.clocks_ms |= {from_ms, to_ms}
                return lambda world: is_during(condition, world.now_ms, world.zone(zone))

    def combined(self, condition: All | AnyOf | Neither) -> Test:
        """Conditions that hold together, or one of them, or none."""
        parts = [self.test(each) for each in condition.conditions]
        if isinstance(condition, All):
            return lambda world: all(part(world) for part in parts)
        if isinstance(condition, AnyOf):
            return lambda world: any(part(world) for part in parts)
        return lambda world: not any(part(world) for part in parts)

    def holds(self, value: Value, predicate: Predicate) -> Test:
        """A predicate of a value; operands that are values of the person are looked up at every instant."""
        get = self.get(value)
        operands = [self.get(each.operand) for each in predicate.comparisons if isinstance(each.operand, Value)]
        if not operands and isinstance(value, Aggregate) and value.function == "count":
            suffices = cache(lambda count: holds(predicate, [Reached(count, element=False)]))
            return lambda world: suffices(get(world)[0].value)
        if not operands and isinstance(value, Trait | Attribute) and not self.is_computed(value):
            return self.remembered(lambda world: holds(predicate, get(world)))

        def test(world: World) -> bool:
            filled = fill(predicate, [operand(world) for operand in operands])
            return filled is not None and holds(filled, get(world))

        return test

    def is_computed(self, value: Value) -> bool:
        """Whether a value is a computed trait, which hides an identify trait of its name."""
        return isinstance(value, Trait) and value.keys[0] in self.computed

    def get(self, value: Value) -> Get:
        """A value of the person as a function of a world."""
        if isinstance(value, Attribute):
            return lambda world: world.attribute(value)
        if isinstance(value, Aggregate):
            path, window, function = value.path, value.window, value.function
            read = (lambda message: ()) if path is None else (lambda message: values(message, path))
            number = self.probe(value.event, read, *self.delays(window))
            return lambda world: aggregate(function, world.events(number, window))
        if self.is_computed(value):
            # A computed trait is a scalar: nothing is inside of it.
            return self.get(self.computed[value.keys[0]]) if len(value.keys) == 1 else lambda world: []
        self.traits.add(value.keys[0])
        return lambda world: world.trait(value)

    def sequence(self, condition: Sequence) -> Test:
        """Events of one person in order, for each value of ``by``."""
        delays_ms, window = self.delays(condition.window), condition.window
        paths = condition.by or (None,) * len(condition.steps)
        numbers = [self.probe(step, by(path), *delays_ms) for step, path in zip(condition.steps, paths, strict=True)]
        return lambda world: patterns.sequence(condition, [world.events(number, window) for number in numbers])

    def absent(self, condition: Absent) -> Test:
        """What did not follow, for some value of ``by``."""
        delays_ms, window = (condition.for_ms, *self.delays(condition.window)), condition.window
        missing_by, after_by = condition.by or (None, None)
        missing = self.probe(condition.missing, by(missing_by), *delays_ms)
        after = self.probe(condition.after, by(after_by), *delays_ms)
        return lambda world: patterns.absent(
            world.events(missing, Window()), world.events(after, window), condition.for_ms, world.now_ms
        )

    def delays(self, window: Window) -> tuple[int, ...]:
        """How long after an event a window of it can change by itself; notes what else it depends on."""
        if window.kind in CALENDAR:
            self.zones.add(window.zone)
        self.sessions |= window.kind == "session"
        return (window.ms,) if window.kind == "duration" else ()

    def probe(self, event: Event, read: Callable[[Message], object], *delays_ms: int) -> int:
        """The number of a new probe."""
        self.probes.append(Probe(event, read, delays_ms))
        return len(self.probes) - 1

    def remembered(self, test: Test) -> Test:
        """A test of a value, made once for as long as the person's traits stay as they are."""
        number = self.values
        self.values += 1

        def known(world: World) -> bool:
            if number not in world.known:
                world.known[number] = test(world)
            return world.known[number]

        return known

    def is_in_plan(self, message: Message) -> bool:
        """Whether some audience looks at the message: at its name, its traits, or at any event."""
        if self.sessions or (message.type == "identify" and self.traits):
            return True
        return any(is_named(message, probe.event.model) for probe in self.probes)

    def matched(self, message: Message) -> dict[int, object]:
        """What the probes whose model and ``where`` hold for the message read of it, by number."""
        return {
            number: probe.read(message) for number, probe in enumerate(self.probes) if is_event(message, probe.event)
        }


def by(path: Path | None) -> Callable[[Message], object]:
    """Reads what events of one sequence or absence have in common; without ``by`` that is nothing."""
    return lambda message: ("", "") if path is None else single(message, path)


def fill(predicate: Predicate, operands: list[list[Reached]]) -> Predicate | None:
    """The predicate with values of the person as constants; None where one is missing: then it does not hold."""
    found = iter(operands)
    comparisons = []
    for each in predicate.comparisons:
        if not isinstance(each.operand, Value):
            comparisons.append(each)
            continue
        reached = next(found)
        if len(reached) != 1 or reached[0].element or key(reached[0].value) is None:
            return None
        comparisons.append(Comparison(each.op, reached[0].value))  # type: ignore[arg-type]  # a scalar, see above
    return Predicate(tuple(comparisons), predicate.instants)


def instants_of_time(
    definitions: Definitions, events: Iterable[Occurrence], rows: Mapping[str, Row], first_ms: int, last_ms: int
) -> Iterator[int]:
    """All instants at which a membership can change although nothing arrives, and some more."""
    zones = set(definitions.zones) - {PROFILE}
    if PROFILE in definitions.zones:
        zones.add(definitions.timezone)
        zones |= {str(value) for row in rows.values() for value in row.values() if is_zone(value)}
    for event in events:
        for number, read in event.matched.items():
            for delay_ms in definitions.probes[number].delays_ms:
                yield event.time_ms + delay_ms
            if PROFILE in definitions.zones and isinstance(read, list):
                zones |= {str(value) for value in read if is_zone(value)}
        if definitions.sessions:
            yield event.time_ms + definitions.session_gap_ms
        if PROFILE in definitions.zones and is_zone(event.traits.get("timezone")):
            zones.add(str(event.traits["timezone"]))
    for zone in zones:
        yield from jumps(zone, definitions.clocks_ms, first_ms, last_ms)
