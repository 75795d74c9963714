"""Whether a person is in each audience at an instant: the reference evaluator's conditions (LANGUAGE.md section 2).

Owns: the value of every condition in a world (E, T, A, now), and the list of instants at which one can change by time
alone. Obviously correct and slow: at every instant every audience is tested anew against everything that has arrived;
only what a person's traits and rows say by themselves is remembered while they stay as they are.
Not here: what arrived when (tests.oracle.history), predicates (tests.oracle.predicates).
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import cache
from typing import NamedTuple, TypeAlias

from opportune.audiences.schema import (
    All,
    Any,
    AttributeCondition,
    Audience,
    AudienceCondition,
    Condition,
    EventCondition,
    Not,
    TraitCondition,
)
from tests.oracle.messages import Message, is_named, satisfies
from tests.oracle.predicates import Instant, Reached, holds, reach

Value: TypeAlias = str | int | Decimal | bool | None
Test: TypeAlias = "Callable[[World], bool]"
Row: TypeAlias = Mapping[str, Value]
"""Values of a warehouse row by column; an instant is milliseconds since the epoch."""


class Occurrence(NamedTuple):
    """An event that was applied.

    Args:
        now_ms: the instant at which it was applied.
        batch: what was handed over together; all of one instant unless a live run was cut there.
        time_ms: its effective time.
        matched: numbers of the event conditions that count it.
        traits: what it sets.
    """

    now_ms: int
    batch: int
    time_ms: int
    matched: frozenset[int]
    traits: dict[str, object]


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
        self.times: list[list[int]] = [[] for _ in definitions.counted]
        self.traits: dict[str, tuple[int, object]] = {}
        self.answers: dict[str, bool] = {}
        self.known: dict[int, bool] = {}

    def arrive(self, event: Occurrence) -> None:
        """Takes an event in: its time among those that each condition counts, its traits where none is newer."""
        for number in event.matched:
            insort(self.times[number], event.time_ms)
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

    def count(self, number: int, within_ms: int | None) -> int:
        """How many events a condition counts: those at t with now - D < t <= now."""
        times = self.times[number]
        before = 0 if within_ms is None else bisect_right(times, self.now_ms - within_ms)
        return bisect_right(times, self.now_ms) - before

    def trait(self, condition: TraitCondition) -> list[Reached]:
        """The value with the greatest event time, of equal ones the last to arrive; null is no value."""
        _, value = self.traits.get(condition.keys[0], (0, None))
        return list(reach(value, condition.keys[1:]))

    def attribute(self, condition: AttributeCondition) -> list[Reached]:
        """The column of the person's row, if there is a row and it has a value there."""
        value = self.rows.get(condition.table, {}).get(condition.column)
        if value is None:
            return []
        if isinstance(value, int) and not isinstance(value, bool):
            return [Reached(Instant(value) if condition.predicate.instants else Decimal(value), element=False)]
        return [Reached(value, element=False)]


class Definitions:
    """All audiences of a project as tests of a world, and what they look at.

    Args:
        audiences: the project's audiences.
    """

    def __init__(self, audiences: tuple[Audience, ...]) -> None:
        self.counted: list[EventCondition] = []
        self.traits: set[str] = set()
        self.values = 0
        self.tests = {audience.name: self.test(audience.condition) for audience in audiences}

    def test(self, condition: Condition) -> Test:
        """A condition as a function of a world."""
        match condition:
            case All(conditions):
                parts = [self.test(each) for each in conditions]
                return lambda world: all(part(world) for part in parts)
            case Any(conditions):
                parts = [self.test(each) for each in conditions]
                return lambda world: any(part(world) for part in parts)
            case Not(conditions):
                parts = [self.test(each) for each in conditions]
                return lambda world: not any(part(world) for part in parts)
            case AudienceCondition(name):
                return lambda world: world.is_member(name)
            case EventCondition(times=times, within_ms=within_ms):
                number = len(self.counted)
                self.counted.append(condition)
                suffices = cache(lambda count: holds(times, [Reached(Decimal(count), element=False)]))
                return lambda world: suffices(world.count(number, within_ms))
            case TraitCondition(keys=keys, predicate=predicate):
                self.traits.add(keys[0])
                return self.remembered(lambda world: holds(predicate, world.trait(condition)))
            case AttributeCondition(predicate=predicate):
                return self.remembered(lambda world: holds(predicate, world.attribute(condition)))

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
        """Whether the message has a name that some audience counts, or is an identify call where traits are read."""
        if message.type == "identify" and self.traits:
            return True
        return any(is_named(message, leaf.model) for leaf in self.counted)

    def matched(self, message: Message) -> frozenset[int]:
        """The numbers of the event conditions whose model and ``where`` hold for the message."""
        return frozenset(
            number
            for number, leaf in enumerate(self.counted)
            if is_named(message, leaf.model) and satisfies(message, leaf.model.where) and satisfies(message, leaf.where)
        )


def instants_of_time(definitions: Definitions, events: list[Occurrence]) -> Iterator[int]:
    """All instants at which a membership can change although nothing arrives: where an event leaves a window."""
    for event in events:
        for number in event.matched:
            within_ms = definitions.counted[number].within_ms
            if within_ms is not None:
                yield event.time_ms + within_ms
