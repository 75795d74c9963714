"""Which memberships the stated error allows, for people who have more events than are kept one by one.

Owns: ``Tolerant``, the conditions as sets of possible values, and ``outside``, the instants at which somebody's membership is
none of them. The error is that of docs/language.md, "Limits": with more than ``LIMIT`` events of a feature an aggregate of a
duration is that of a window that is longer by less than an ``HOPS``th, a sequence that of the newest events, and an absence
with more values of ``by`` is either. With fewer events the only possible value is the exact one.
Parts of a condition are taken as if their errors had nothing to do with each other, so a set may be larger than need be.
Not here: exact values (tests.oracle.evaluator), what a log is (tests.oracle.history).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from typing import TypeAlias

from tests.oracle import patterns
from tests.oracle.evaluator import CALENDAR, Definitions, World, by, fill, instants_of_time
from tests.oracle.history import Change, Log, Person
from tests.oracle.messages import values
from tests.oracle.predicates import Reached, holds
from tests.oracle.tree import (
    Absent,
    Aggregate,
    All,
    AnyOf,
    Condition,
    Definition,
    Holds,
    Member,
    Neither,
    Predicate,
    Sequence,
    Trait,
    Value,
    Window,
)
from tests.oracle.windows import Seen, aggregate, inside

LIMIT = 8
"""Entries that the engine keeps one by one in these tests."""
LEAST = 7
"""Entries that are left of a sequence after the oldest eighth went."""
HOPS = 8
Possible: TypeAlias = frozenset[bool]
May: TypeAlias = Callable[[World], Possible]
Options: TypeAlias = Callable[[World], list[list[Reached]]]
KEPT_MS = {"day": 3 * 86_400_000, "week": 9 * 86_400_000, "month": 33 * 86_400_000}
QUARTER_MS = 900_000


class Tolerant(Definitions):
    """All audiences of a project as sets of possible values of a world.

    Args:
        definition: the project.
    """

    def __init__(self, definition: Definition) -> None:
        super().__init__(definition)
        self.late_ms: set[int] = set()
        self.possible = {name: self.may(condition) for name, condition in definition.audiences.items()}

    def may(self, condition: Condition) -> May:
        """A condition as a function of a world to its possible values."""
        match condition:
            case All(conditions):
                parts = [self.may(each) for each in conditions]
                return lambda world: combined(all, [part(world) for part in parts])
            case AnyOf(conditions):
                parts = [self.may(each) for each in conditions]
                return lambda world: combined(any, [part(world) for part in parts])
            case Neither(conditions):
                parts = [self.may(each) for each in conditions]
                return lambda world: frozenset(not each for each in combined(any, [part(world) for part in parts]))
            case Member(audience):
                return lambda world: self.possible_of(audience, world)
            case Holds(value, predicate):
                return self.may_hold(value, predicate)
            case Sequence():
                return self.may_follow(condition)
            case Absent():
                return self.may_lack(condition)
        test = self.test(condition)
        return lambda world: frozenset((test(world),))

    def possible_of(self, audience: str, world: World) -> Possible:
        """The possible values of an audience, which may come later in the project than who refers to it."""
        return self.possible[audience](world)

    def may_hold(self, value: Value, predicate: Predicate) -> May:
        """A predicate of the possible values, with the possible operands."""
        options = self.options(value)
        operands = [self.options(each.operand) for each in predicate.comparisons if isinstance(each.operand, Value)]

        def may(world: World) -> Possible:
            found = set()
            for chosen in product(*(operand(world) for operand in operands)):
                filled = fill(predicate, list(chosen))
                found |= {filled is not None and holds(filled, option) for option in options(world)}
            return frozenset(found)

        return may

    def options(self, value: Value) -> Options:
        """The possible values of an aggregate, or the one of anything else."""
        if isinstance(value, Trait) and self.is_computed(value) and len(value.keys) == 1:
            return self.options(self.computed[value.keys[0]])
        if not isinstance(value, Aggregate):
            get = self.get(value)
            return lambda world: [get(world)]
        path, window, function = value.path, value.window, value.function
        read = (lambda message: ()) if path is None else (lambda message: values(message, path))
        hop_ms = hop_of(function, window)
        self.late_ms |= {window.ms + hop_ms} if window.kind == "duration" else set()
        number = self.probe(value.event, read, *self.delays(window))

        def options(world: World) -> list[list[Reached]]:
            first_ms, seen = world.first_ms(window), world.seen[number]
            firsts = {first_ms}
            if first_ms is not None and hop_ms and entries(function, seen) > LIMIT:
                firsts |= {each.time_ms for each in seen if first_ms - hop_ms < each.time_ms < first_ms}
            return [aggregate(function, inside(seen, first, world.now_ms)) for first in firsts]

        return options

    def may_follow(self, condition: Sequence) -> May:
        """A sequence of all events, or of the newest alone."""
        delays_ms, window = self.delays(condition.window), condition.window
        paths = condition.by or (None,) * len(condition.steps)
        numbers = [self.probe(step, by(path), *delays_ms) for step, path in zip(condition.steps, paths, strict=True)]
        an_event = len(condition.steps) if condition.by else 1

        def may(world: World) -> Possible:
            steps = [world.events(number, window) for number in numbers]
            exact = patterns.sequence(condition, steps)
            times = sorted({(each.time_ms, each.arrival) for number in numbers for each in world.seen[number]})
            if len(times) * an_event <= LIMIT:
                return frozenset((exact,))
            # Of those of one instant nobody says which went first.
            lost_ms = times[-(LEAST // an_event) - 1][0]
            newest = [[each for each in seen if each.time_ms > lost_ms] for seen in steps]
            return frozenset((exact, patterns.sequence(condition, newest)))

        return may

    def may_lack(self, condition: Absent) -> May:
        """An absence; with too many values of ``by`` it may be either."""
        test = self.test(condition)
        if not condition.by:
            return lambda world: frozenset((test(world),))
        pairs = zip((condition.missing, condition.after), condition.by, strict=True)
        numbers = [self.probe(event, by(path)) for event, path in pairs]

        def may(world: World) -> Possible:
            keys = {str(each.read) for number in numbers for each in world.seen[number]}
            return frozenset((test(world), not test(world)) if len(keys) > LIMIT else (test(world),))

        return may


def combined(how: Callable[[Iterable[bool]], bool], parts: list[Possible]) -> Possible:
    """``all`` or ``any`` of parts, of which each may be one or the other."""
    return frozenset((how(True in part for part in parts), how(False not in part for part in parts)))


def entries(function: str, seen: list[Seen]) -> int:
    """How many entries an aggregate has of events, at most."""
    return len(seen) if function == "count" else sum(len(each.read) for each in seen if isinstance(each.read, list))


def hop_of(function: str, window: Window) -> int:
    """By how much a window may be longer, exclusive, in milliseconds; 0: its value stays exact."""
    if window.kind == "duration" and function != "last":
        return -(-window.ms // HOPS)
    if window.kind in CALENDAR and function == "distinct":
        return QUARTER_MS * -(-KEPT_MS[window.kind] // (QUARTER_MS * HOPS))
    return 0


def outside(log: Log, changes: list[Change], last_ms: int) -> list[str]:
    """Where the memberships that the engine told are none that are possible.

    Args:
        log: with all of its records; made of ``Tolerant`` definitions.
        changes: what the engine told.
        last_ms: time goes on to here, inclusive.
    """
    log.refresh_until(last_ms)
    rows_ms = last_ms if log.first_ms is None else log.first_ms
    found: list[str] = []
    for profile, person in log.people.items():
        # An instant that was handed over in two parts may have two changes of one audience.
        theirs = sorted((one for one in changes if one.profile == profile.hex()), key=lambda one: one.version)
        found += _of_person(log.definitions, person, theirs, rows_ms, last_ms)
    return found


def _of_person(
    definitions: Definitions, person: Person, changes: list[Change], rows_ms: int, last_ms: int
) -> list[str]:
    assert isinstance(definitions, Tolerant), "made for the stated error"
    events = list(person.events)
    rows = [each._replace(at_ms=rows_ms) if each.at_ms is None else each for each in person.rows]
    in_force = [each.at_ms for each in rows if each.at_ms is not None]
    start_ms = min(in_force) if person.founded_ms is None else person.founded_ms
    had = {str(number): each.row for number, each in enumerate(rows) if each.row is not None}
    instants = {event.now_ms for event in events} | {change.at for change in changes} | set(in_force)
    instants |= set(instants_of_time(definitions, events, had, start_ms, last_ms))
    instants |= {event.time_ms + late_ms for event in events for late_ms in definitions.late_ms}
    world = World(definitions, {})
    members: set[str] = set()
    found = []
    for at in sorted(each for each in instants if start_ms <= each <= last_ms):
        world.enforce([each for each in rows if each.at_ms == at])
        while events and events[0].now_ms <= at:
            world.arrive(events.pop(0))
        while changes and changes[0].at <= at:
            change = changes.pop(0)
            (members.add if change.change == "entered" else members.discard)(change.audience)
        world.now_ms = at
        for name, possible in definitions.possible.items():
            world.answers.clear()
            if (name in members) not in possible(world):
                found.append(f"{at} {name}: {name in members}")
    return found + [f"{change} is before they exist, or after the end" for change in changes]
