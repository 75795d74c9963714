"""Conditions as generated statements: the value now, and the earliest instant at which it can change by itself.

Owns: ``Emitter``, which writes for a condition the lines that set two variables: ``v`` its value and ``x`` a lower bound
of its next change. The algebra: ``all`` when true changes with the first of its children, when false not before any
one of the false ones; ``any`` is the dual; ``none`` negates.
An audience that is referred to is read from the memberships, ``m``: it is evaluated before those that refer to it
wherever it can change, and its timers evaluate them too; so it has no ``x`` here.
Names in the generated code: ``now``; ``r3_1`` and ``n3_1``, the instants of feature 1 of group 3 and how many (or the
number itself); ``t2`` the value of trait 2; ``row`` the warehouse row.
A group of features that is not the event's own is opened only where the condition's value depends on it by then.
Not here: which audiences are evaluated when, and what happens to a changed one (opportune.audiences.compiler).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any as Anything

from opportune.audiences import predicate as predicates
from opportune.audiences.general import General, of_nothing
from opportune.audiences.plan import TRAITS, Plan, leaves_of
from opportune.audiences.schema import (
    All,
    Any,
    AttributeCondition,
    AudienceCondition,
    Condition,
    DuringCondition,
    EventCondition,
    Not,
    Predicate,
    TraitCondition,
)
from opportune.audiences.sources import general
from opportune.audiences.steps import Steps, steps

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

    Attributes:
        scope: what has a variable where the next statement goes: places of features, names of traits, and as ``int`` the
            groups that are open.
        decided: of audiences that are decided (``empty``): their value.
    """

    def __init__(self, plan: Plan, names: Names, lines: list[str], *, empty: bool = False) -> None:
        self.plan = plan
        self.names = names
        self.lines = lines
        self.empty = empty
        self.fresh = 0
        self.scope: set[object] = set()
        self.decided: dict[int, str] = {}

    def timed(self, condition: Condition) -> bool:
        """Whether time alone can change the condition, other than through an audience that it refers to."""
        if isinstance(condition, EventCondition):
            return condition.within_ms is not None and len(steps(condition.times).truths) > 1 and not self.empty
        if isinstance(condition, All | Any | Not):
            return any(self.timed(child) for child in condition.conditions)
        return general(condition)

    def local(self, condition: Condition) -> bool:
        """Whether everything that the condition reads has a variable."""
        return self.empty or all(
            not general(leaf) and (self._key(leaf) is None or self._key(leaf) in self.scope)
            for leaf in leaves_of(condition)
        )

    def _key(self, leaf: Condition) -> object:
        if general(leaf):
            return None
        return leaf.keys[0] if isinstance(leaf, TraitCondition) else self.plan.place(leaf)

    def prepare(self, leaves: Iterable[Condition], indent: str) -> None:
        """Writes the lines that give variables to what conditions read and that has none yet."""
        for leaf in leaves:
            key = self._key(leaf)
            if key is None or key in self.scope:
                continue
            self.scope.add(key)
            if isinstance(leaf, TraitCondition):
                self.open(TRAITS, indent)
                index = self.plan.traits.index(leaf.keys[0])
                self.lines.append(f"{indent}t{index} = T.get({leaf.keys[0]!r}, no_trait)[1]")
                continue
            group, number = self.plan.place(leaf) or (0, 0)
            self.open(group, indent)
            name = f"{group}_{number}"
            if self.plan.groups[group].windowed(number):
                self.lines.append(f"{indent}r{name} = F{group}[{number}]; n{name} = len(r{name})")
            else:
                self.lines.append(f"{indent}n{name} = F{group}[{number}]")

    def open(self, group: int, indent: str) -> None:
        """Writes the lines that open a group, where it is not open yet."""
        if group not in self.scope:
            self.scope.add(group)
            self.lines += opening(self.plan, group, indent)

    def expression(self, condition: Condition) -> str:
        """A condition that is local and not timed, as an expression; ``True`` and ``False`` where it is decided."""
        if isinstance(condition, EventCondition):
            return self._count(condition)
        if isinstance(condition, AudienceCondition):
            number = self.plan.numbers[condition.name]
            return self.decided.get(number, f"({number} in m)")
        if isinstance(condition, TraitCondition):
            return self._trait(condition)
        if isinstance(condition, AttributeCondition):
            return self._attribute(condition)
        if not isinstance(condition, All | Any | Not):
            return str(of_nothing(condition))
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
        if not self.timed(condition) and self.local(condition):
            self.lines.append(f"{indent}{v} = {self.expression(condition)}; {x} = NEVER")
        elif isinstance(condition, All):
            self._series(condition.conditions, v, x, indent, every=True)
        elif isinstance(condition, Any | Not):
            self._series(condition.conditions, v, x, indent, every=False)
            if isinstance(condition, Not):
                self.lines.append(f"{indent}{v} = not {v}")
        elif general(condition):
            General(self).emit(condition, v, x, indent)
        else:
            self.prepare([condition], indent)
            if isinstance(condition, EventCondition) and self.timed(condition):
                self._window(condition, v, x, indent)
            else:
                self.lines.append(f"{indent}{v} = {self.expression(condition)}; {x} = NEVER")

    def guard(self, condition: Condition) -> tuple[str, bool] | None:
        """A condition that is "at least so many within", alone or beside what is not timed, as one expression.

        Returns:
            The expression, which sets ``x`` where it is true, and whether it is timed; None for other shapes. While it
            is false, time alone cannot make it true.
        """
        if not self.local(condition):
            return None
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

    def _series(self, conditions: tuple[Condition, ...], v: str, x: str, indent: str, *, every: bool) -> None:
        """``all`` or ``any``, child after child: what is fixed, what is at hand, and what has to be read for it.

        ``all`` when false does not change before the last of the false ones does, ``any`` when true not before the last
        of the true ones. What is not at hand is read only while nothing has decided; it can only make ``x`` later.
        """
        fixed = [child for child in conditions if not self.timed(child) and self.local(child)]
        others = sorted((child for child in conditions if child not in fixed), key=self._cost)
        word, absorbing, neutral = ("and", "False", "True") if every else ("or", "True", "False")
        test = joined([self.expression(child) for child in fixed], word, absorbing, neutral)
        self.lines.append(f"{indent}{v} = {test}; {x} = NEVER")
        undecided, decides = (v, "not ") if every else (f"not {v}", "")
        if not others:
            return
        self.lines.append(f"{indent}if {undecided}:")
        inner, before, first = indent + " ", set(self.scope), True
        for child in others:
            self.fresh += 1
            w, y = f"w{self.fresh}", f"y{self.fresh}"
            at = inner
            if not first:
                self.lines.append(f"{inner}if {undecided}{' or ' + x + ' < NEVER' if self.local(child) else ''}:")
                at = inner + " "
            first = False
            self.emit(child, w, y, at)
            self.lines += [
                f"{at}if {decides}{w}: {x} = {y} if {undecided} or {y} > {x} else {x}; {v} = {not every}",
                f"{at}elif ({undecided}) and {y} < {x}: {x} = {y}",
            ]
            self.scope = set(before)

    def _cost(self, condition: Condition) -> tuple[bool, bool, bool]:
        """Clocks last: where something else decides that only an event can change, nobody waits for the clock."""
        rising = isinstance(condition, EventCondition) and steps(condition.times).truths == (False, True)
        return isinstance(condition, DuringCondition), not self.local(condition), not rising


def opening(plan: Plan, group: int, indent: str) -> list[str]:
    """The lines that read a group's features from their bytes at first use."""
    if group == TRAITS:
        return [
            f"{indent}T = G[{TRAITS}]",
            f"{indent}if T.__class__ is not dict_class: T = G[{TRAITS}] = {{}} if T is None else decode_traits(T)",
        ]
    fresh = "[" + ", ".join("[]" if f.windowed else "0" for f in plan.groups[group].features.values()) + "]"
    return [
        f"{indent}F{group} = G[{group}]",
        f"{indent}if F{group}.__class__ is not list_class: "
        f"F{group} = G[{group}] = {fresh} if F{group} is None else unpack(F{group})",
    ]


def joined(parts: list[str], word: str, absorbing: str, neutral: str) -> str:
    """Parts joined by ``and`` or ``or``, with what is decided already left out."""
    if absorbing in parts:
        return absorbing
    rest = [part for part in parts if part != neutral]
    if not rest:
        return neutral
    return rest[0] if len(rest) == 1 else f"({f' {word} '.join(rest)})"
