"""Conditions as generated statements: the value now, and the earliest instant at which it can change by itself.

Owns: ``Emitter``, which writes for a condition the lines that set two variables: ``v`` its value and ``x`` a lower bound
of its next change. The algebra (DESIGN.md section 4): ``all`` when true changes with the first of its children, when
false not before the last of the false ones; ``any`` is the dual; ``none`` negates.
Names in the generated code: ``now``; ``r3_1`` and ``n3_1``, the instants of feature 1 of group 3 and how many (or the
number itself); ``t2`` the value of trait 2; ``row`` the warehouse row; ``v7``, ``x7`` of audience 7.
Invariant: a condition that time alone cannot change is one expression and has no ``x``.
Not here: which audiences are evaluated when, and what happens to a changed one (opportune.audiences.compiler).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any as Anything

from opportune.audiences import predicate as predicates
from opportune.audiences.plan import Plan, Steps, steps
from opportune.audiences.schema import (
    All,
    Any,
    AttributeCondition,
    AudienceCondition,
    Condition,
    EventCondition,
    Not,
    Predicate,
    TraitCondition,
)

STEPS_INLINE = 16
"""A predicate on counts with more steps than this is looked up in a table."""


class Names:
    """Constants of the generated module: predicates and tables of counts, each once."""

    def __init__(self) -> None:
        self.values: dict[str, Anything] = {}
        self.known: dict[tuple[str, object], str] = {}

    def name(self, prefix: str, key: object, make: Callable[[], Anything]) -> str:
        """The name of a constant, made on first use."""
        name = self.known.get((prefix, key))
        if name is None:
            name = self.known[prefix, key] = f"{prefix}{len(self.known)}"
            self.values[name] = make()
        return name

    def predicate(self, predicate: Predicate, variable: str, *, parsed: bool = False) -> str:
        """An expression that tests a variable."""
        name = self.name("p", (predicate, parsed), lambda: predicates.function(predicate, parsed=parsed))
        return predicates.inline(predicate, variable, name)


class Emitter:
    """Writes the statements of conditions.

    Args:
        plan: the plan that they belong to.
        names: takes the constants.
        lines: takes the statements.
        empty: whether the profile has no events and no traits yet: what they decide is decided here.
    """

    def __init__(self, plan: Plan, names: Names, lines: list[str], *, empty: bool = False) -> None:
        self.plan = plan
        self.names = names
        self.lines = lines
        self.empty = empty
        self.fresh = 0
        self.decided: dict[int, str] = {}
        self.audience_timed: dict[int, bool] = {}
        for number in plan.order:
            self.audience_timed[number] = self.timed(plan.audiences[number].condition)

    def timed(self, condition: Condition) -> bool:
        """Whether time alone can change the condition."""
        if isinstance(condition, EventCondition):
            return condition.within_ms is not None and len(steps(condition.times).truths) > 1 and not self.empty
        if isinstance(condition, AudienceCondition):
            return self.audience_timed[self.plan.numbers[condition.name]]
        if isinstance(condition, All | Any | Not):
            return any(self.timed(child) for child in condition.conditions)
        return False

    def expression(self, condition: Condition) -> str:
        """A condition that is not timed, as an expression; ``True`` and ``False`` where it is decided."""
        if isinstance(condition, EventCondition):
            return self._count(condition)
        if isinstance(condition, AudienceCondition):
            number = self.plan.numbers[condition.name]
            return self.decided.get(number, f"v{number}")
        if isinstance(condition, TraitCondition):
            return self._trait(condition)
        if isinstance(condition, AttributeCondition):
            return self._attribute(condition)
        parts = [self.expression(child) for child in condition.conditions]
        if isinstance(condition, All):
            return joined(parts, "and", "False", "True")
        either = joined(parts, "or", "True", "False")
        if isinstance(condition, Any):
            return either
        return {"True": "False", "False": "True"}.get(either, f"(not {either})")

    def _count(self, condition: EventCondition) -> str:
        table = steps(condition.times)
        if self.empty or len(table.truths) == 1:
            return str(table.truths[0])
        group, feature = self.plan.feature(condition)
        return self._holds(table, f"n{group.number}_{feature.number}")

    def _holds(self, table: Steps, count: str) -> str:
        if len(table.truths) == 2:
            return f"{count} {'>=' if table.truths[1] else '<'} {table.starts[1]}"
        if len(table.truths) > STEPS_INLINE:
            return f"{self.names.name('s', table, lambda: table.holds)}({count})"
        text = str(table.truths[0])
        for start, truth in zip(table.starts[1:], table.truths[1:], strict=True):
            text = f"({truth} if {count} >= {start} else {text})"
        return text

    def _trait(self, condition: TraitCondition) -> str:
        if self.empty:
            return str(predicates.function(condition.predicate)(None))
        variable = f"t{self.plan.traits.index(condition.keys[0])}"
        if len(condition.keys) == 1:
            return self.names.predicate(condition.predicate, variable)
        keys = condition.keys[1:]
        name = self.names.name("p", (condition.predicate, False), lambda: predicates.function(condition.predicate))
        return f"{name}(walk({variable}, {keys!r}))"

    def _attribute(self, condition: AttributeCondition) -> str:
        """``row`` is None, or by table (in order of name) that table's row: a tuple of the used columns, or None."""
        missing = predicates.function(condition.predicate, parsed=True)(None)
        tables = sorted(self.plan.columns)
        row = "row" if len(tables) == 1 else f"row[{tables.index(condition.table)}]"
        column = self.plan.columns[condition.table].index(condition.column)
        test = self.names.predicate(condition.predicate, f"{row}[{column}]", parsed=True)
        if missing:
            return f"({row} is None or {test})"
        return f"({row} is not None and {test})"

    def emit(self, condition: Condition, v: str, x: str, indent: str) -> None:
        """Writes the lines that set ``v`` and ``x`` for a condition."""
        if not self.timed(condition):
            self.lines.append(f"{indent}{v} = {self.expression(condition)}; {x} = NEVER")
        elif isinstance(condition, EventCondition):
            self._window(condition, v, x, indent)
        elif isinstance(condition, AudienceCondition):
            number = self.plan.numbers[condition.name]
            self.lines.append(f"{indent}{v} = v{number}; {x} = x{number}")
        elif isinstance(condition, All):
            self._every(condition.conditions, v, x, indent)
        elif isinstance(condition, Any):
            self._either(condition.conditions, v, x, indent)
        elif isinstance(condition, Not):
            self._either(condition.conditions, v, x, indent)
            self.lines.append(f"{indent}{v} = not {v}")

    def guard(self, condition: Condition) -> tuple[str, bool] | None:
        """A condition that is "at least so many within", alone or beside what is not timed, as one expression.

        Returns:
            The expression, which sets ``x`` where it is true, and whether it is timed; None for other shapes. While it
            is false, time alone cannot make it true.
        """
        if not self.timed(condition):
            return self.expression(condition), False
        children = condition.conditions if isinstance(condition, All) else (condition,)
        timed = [child for child in children if self.timed(child)]
        if len(timed) != 1 or not isinstance(timed[0], EventCondition):
            return None
        table = steps(timed[0].times)
        if table.truths != (False, True):
            return None
        rest = [self.expression(child) for child in children if child is not timed[0]]
        return joined([*rest, self._at_least(timed[0], table.starts[1], "x")], "and", "False", "True"), True

    def _at_least(self, condition: EventCondition, least: int, x: str) -> str:
        """That at least so many events are in the window; then ``x`` is the instant from which they are fewer."""
        group, feature = self.plan.feature(condition)
        key = f"{group.number}_{feature.number}"
        return f"n{key} >= {least} and ({x} := r{key}[-{least}] + {condition.within_ms}) > now"

    def _window(self, condition: EventCondition, v: str, x: str, indent: str) -> None:
        """The greatest step that is reached decides; it is left when too few events remain for it."""
        table = steps(condition.times)
        if len(table.truths) > STEPS_INLINE:
            group, feature = self.plan.feature(condition)
            holds = self.names.name("s", table, lambda: table.holds)
            ring = f"r{group.number}_{feature.number}"
            self.lines.append(f"{indent}{v}, {x} = counted({ring}, now, {condition.within_ms}, {holds})")
            return
        word = "if"
        for start, truth in reversed(list(zip(table.starts[1:], table.truths[1:], strict=True))):
            self.lines.append(f"{indent}{word} {self._at_least(condition, start, x)}: {v} = {truth}")
            word = "elif"
        self.lines.append(f"{indent}else: {v} = {table.truths[0]}; {x} = NEVER")

    def _parts(self, conditions: tuple[Condition, ...]) -> tuple[list[str], list[Condition]]:
        fixed = [self.expression(child) for child in conditions if not self.timed(child)]
        return fixed, [child for child in conditions if self.timed(child)]

    def _pair(self) -> tuple[str, str]:
        self.fresh += 1
        return f"w{self.fresh}", f"y{self.fresh}"

    def _every(self, conditions: tuple[Condition, ...], v: str, x: str, indent: str) -> None:
        """False: not before the last of the false ones; one that time cannot make true ends the search."""
        fixed, timed = self._parts(conditions)
        test = joined(fixed, "and", "False", "True")
        self.lines += [f"{indent}{v} = {test}; {x} = NEVER", f"{indent}if {v}:"]
        inner = indent + " "
        for child in timed:
            w, y = self._pair()
            self.emit(child, w, y, inner)
            self.lines += [
                f"{inner}if not {w}: {x} = {y} if {v} or {y} > {x} else {x}; {v} = False",
                f"{inner}elif {v} and {y} < {x}: {x} = {y}",
            ]

    def _either(self, conditions: tuple[Condition, ...], v: str, x: str, indent: str) -> None:
        """True: not before the last of the true ones; false: not before the first of all."""
        fixed, timed = self._parts(conditions)
        test = joined(fixed, "or", "True", "False")
        self.lines += [f"{indent}{v} = {test}; {x} = NEVER", f"{indent}if not {v}:"]
        inner = indent + " "
        for child in timed:
            w, y = self._pair()
            self.emit(child, w, y, inner)
            self.lines += [
                f"{inner}if {w}: {x} = {y} if not {v} or {y} > {x} else {x}; {v} = True",
                f"{inner}elif not {v} and {y} < {x}: {x} = {y}",
            ]


def joined(parts: list[str], word: str, absorbing: str, neutral: str) -> str:
    """Parts joined by ``and`` or ``or``, with what is decided already left out."""
    if absorbing in parts:
        return absorbing
    rest = [part for part in parts if part != neutral]
    if not rest:
        return neutral
    return rest[0] if len(rest) == 1 else f"({f' {word} '.join(rest)})"
