"""Compiles a plan into straight-line Python: one function an event kind, nothing interpreted per event.

Owns: the generated module. For every handler of the plan

    fold_H(p, e, t, now, out) -> bool     puts an event at ``t`` into the features that take it, evaluates the audiences
                                          that a changed feature touches, and says whether the event was used
    evaluate_H(p, now, out, by) -> due    evaluates all audiences that the handler can touch

and ``found(p, now, out, by)``, which evaluates for a person without events the audiences that can hold for one.
Invariant: after ``fold_H`` the profile's dues are lower bounds again (opportune.profile).
Not here: conditions as statements (opportune.audiences.conditions), features and what they touch (.plan).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from decimal import Decimal
from itertools import groupby
from typing import Any

import msgspec
from msgspec import UNSET

from opportune.audiences.approximations import Approximations
from opportune.audiences.conditions import Emitter, Names, opening
from opportune.audiences.general import decided
from opportune.audiences.plan import ATTRIBUTES, TRAITS, Feature, Group, Handler, Plan, Role
from opportune.audiences.predicate import NUMBERS, walk
from opportune.audiences.schema import Condition, Path, TraitCondition, TraitValue, Where
from opportune.audiences.sources import SESSION, general
from opportune.audiences.steps import counted
from opportune.decode import EventType, decode_traits
from opportune.features.calendar import zone_name
from opportune.features.values import InstantValue
from opportune.profile import NEVER, Evaluate


class Program(msgspec.Struct):
    """A compiled plan.

    Args:
        source: the generated module, for those who want to read it.
        fold: by handler number; None for the handlers that no message has.
        evaluate: by handler number.
        found: evaluates a person who has no events.
        evaluated: how often each audience was evaluated, by number; counted only where asked for.
    """

    source: str
    fold: list[Callable[..., bool] | None]
    evaluate: list[Evaluate]
    found: Callable[..., None]
    evaluated: list[int]


def compile_plan(plan: Plan, event_type: EventType, *, counting: bool = False) -> Program:
    """Generates and compiles the code of a plan.

    Args:
        plan: the plan.
        event_type: where the decoder puts the values at paths.
        counting: whether to count evaluations, for tests.
    """
    writer = Writer(plan, event_type, counting=counting)
    for handler in plan.handlers:
        if handler.number != ATTRIBUTES and not handler.wakes_ms:
            writer.fold(handler)
        writer.evaluate(handler)
    writer.found()
    source = "\n".join(writer.lines) + "\n"
    namespace: dict[str, Any] = {
        **writer.names.values,
        "Decimal": Decimal,
        "NEVER": NEVER,
        "NUMBERS": NUMBERS,
        "UNSET": UNSET,
        "counted": counted,
        "decode_traits": decode_traits,
        "insort": insort,
        "marked": writer.approximations.marked,
        "list_class": list,
        "str_class": str,
        "traits_of": event_type.traits_of,
        "dict_class": dict,
        "nothing": event_type.nothing,
        **{f"no_{root}": empty for root, empty in event_type.empty.items()},
        "no_trait": (0, None, 0),
        "unpack": msgspec.msgpack.Decoder(list[Any]).decode,
        "walk": walk,
        "evaluated": [0] * len(plan.audiences),
        "InstantValue": InstantValue,
        "zone_name": zone_name,
    }
    for number, feature in ((group.number, each) for group in plan.groups for each in group.features.values()):
        if feature.kind is not None:
            namespace[f"put{number}_{feature.number}"] = feature.kind.put
            namespace[f"look{number}_{feature.number}"] = getattr(feature.kind, "look", None)
    exec(compile(source, "<plan>", "exec"), namespace)  # noqa: S102 - the source is ours; constants enter by repr
    numbers = range(len(plan.handlers))
    return Program(
        source,
        [namespace.get(f"fold_{number}") for number in numbers],
        [namespace[f"evaluate_{number}"] for number in numbers],
        namespace["found"],
        namespace["evaluated"],
    )


class Writer:
    """Writes the functions of a plan, line after line."""

    def __init__(self, plan: Plan, event_type: EventType, *, counting: bool) -> None:
        self.plan = plan
        self.event_type = event_type
        self.counting = counting
        self.names = Names()
        self.approximations = Approximations(plan)
        self.lines: list[str] = []
        self.values: dict[Path, str] = {}
        self.wakes_ms = 0
        self.emitter = Emitter(plan, self.names, self.lines)
        self.referenced = {child for number in plan.order for child in plan.references(number)}

    def fold(self, handler: Handler) -> None:
        """The function that takes one event of a handler's kind."""
        w = self.lines.append
        w(f"def fold_{handler.number}(p, e, t, now, out):")
        w(" G = p.groups; m = p.members; row = p.row; nx = NEVER")
        gates: dict[tuple[str, object], str] = {}
        wheres: dict[tuple[Where, ...], str] = {}
        used = ["s"] if handler.traits else []
        if handler.traits:
            self.lines += opening(self.plan, TRAITS, " ")
            self._set_traits(gates)
        self.values = self._matchers(handler, wheres)
        for group in handler.groups:
            used += [wheres[where] for where in self._wheres(handler, group)]
        if "True" not in used:
            w(f" if not ({' or '.join(dict.fromkeys(used))}): return False")
        for group in handler.groups:
            self.lines += opening(self.plan, group, " ")
            self._fold_group(handler, group, gates, wheres)
        self._audiences(handler, gates, " ")
        w(f" if nx < NEVER and nx < p.dues.get({handler.number}, NEVER):")
        w(f"  p.dues[{handler.number}] = nx")
        w("  if nx < p.due: p.due = nx")
        w(" return True")

    def _fold_group(
        self,
        handler: Handler,
        group: int,
        gates: dict[tuple[str, object], str],
        wheres: dict[tuple[Where, ...], str],
    ) -> None:
        """Puts the event into the features of a group that take it."""
        if self.plan.groups[group].kind[0] in ("own", "session"):
            self._fold_own(handler, self.plan.groups[group], gates, wheres)
            return
        features = list(self.plan.groups[group].features.values())
        taken = [wheres[feature.where] for feature in features]
        if "True" in taken or (len(handler.groups) == 1 and not handler.traits):
            self.lines.append(f" p.dirty.add({group})")
        else:
            self.lines.append(f" if {' or '.join(dict.fromkeys(taken))}: p.dirty.add({group})")
        for feature, gate in zip(features, taken, strict=True):
            gates["feature", (group, feature.number)] = gate
            self._insert(group, feature, gate)

    def _fold_own(
        self,
        handler: Handler,
        group: Group,
        gates: dict[tuple[str, object], str],
        wheres: dict[tuple[Where, ...], str],
    ) -> None:
        """Puts the event into the one feature of a group of its own."""
        number = group.number
        cell = f"F{number}[0]"
        if group.kind[0] == "session":
            gates["feature", (number, 0)] = "True"
            self.lines += [f" p.dirty.add({number})", f" put{number}_0({cell}, t, now)"]
            return
        gates["feature", (number, 0)] = f"k{number}"
        takes = [(1 << place, role) for place, role in enumerate(group.roles) if takes_part(role, handler)]
        bits = [f"({bit} if {wheres[role.where]} else 0)" for bit, role in takes]
        self.lines.append(f" k{number} = {' | '.join(bits)}")
        mine = [role for _, role in takes]
        values = [self.values[role.by] if role.by is not None and role in mine else "None" for role in group.roles]
        (feature,) = group.features.values()
        self.lines.append(f" if k{number}:")
        self.lines.append(f"  p.dirty.add({number})")
        self.lines.append(
            f"  put{number}_0({cell}, k{number}, ({', '.join(values)},), t, now, {self._sessions(feature)})"
        )

    def _sessions(self, feature: Feature) -> str:
        """The person's sessions, for a feature that needs them."""
        if not feature.sessions:
            return "None"
        group, number = self.plan.place(SESSION) or (0, 0)
        return f"F{group}[{number}]"

    def _wheres(self, handler: Handler, group: int) -> list[tuple[Where, ...]]:
        """What the features of a group ask of a handler's event."""
        taken = self.plan.groups[group]
        if taken.kind[0] == "own":
            return [role.where for role in taken.roles if takes_part(role, handler)]
        return [feature.where for feature in taken.features.values()]

    def evaluate(self, handler: Handler) -> None:
        """The function that evaluates all that a handler touches."""
        self.lines.append(f"def evaluate_{handler.number}(p, now, out, e):")
        self.wakes_ms = handler.wakes_ms
        if handler.wakes_ms:
            wakes_ms = handler.wakes_ms
            self.lines += [f" if now < {wakes_ms}: return {wakes_ms}", f" if now == {wakes_ms}: e = 'definition'"]
        self.lines.append(" G = p.groups; m = p.members; row = p.row; nx = NEVER")
        self._audiences(handler, None, " ")
        self.lines.append(" return nx")

    def found(self) -> None:
        """The function that evaluates a person without events and traits."""
        w = self.lines.append
        w("def found(p, now, out, e):")
        w(" G = p.groups; m = p.members; row = p.row; nx = NEVER")
        emitter = Emitter(self.plan, self.names, self.lines, empty=True)
        for number in self.plan.order:
            if self.plan.waiting.get(number) == NEVER:
                continue
            if number in self.plan.waiting or any(
                general(leaf) and not decided(leaf) for leaf in self.plan.own_leaves(number)
            ):
                self.emitter.scope = set()
                self._audience(number, " ")
                continue
            test = emitter.expression(self.plan.audiences[number].condition)
            if test in ("True", "False"):
                emitter.decided[number] = test
            else:
                w(f" v{number} = {test}")
                test = f"v{number}"
            if test != "False":
                self._count(number, " ")
                w(f" if {test} and {number} not in m: m.add({number}); out.append((p, {number}, True, now, e))")
        w(f" if nx < p.dues.get({ATTRIBUTES}, NEVER):")
        w(f"  p.dues[{ATTRIBUTES}] = nx")
        w("  if nx < p.due: p.due = nx")
        for number, wakes_ms in ((each.number, each.wakes_ms) for each in self.plan.handlers if each.wakes_ms):
            w(f" if now <= {wakes_ms}: p.dues[{number}] = {wakes_ms}; p.due = min(p.due, {wakes_ms})")

    def _set_traits(self, gates: dict[tuple[str, object], str]) -> None:
        """For each name the value with the greatest event time; a later arrival wins a tie."""
        w = self.lines.append
        w(" tr = e.traits")
        traits = self.event_type.context_traits("e.context")
        w(f" if tr is None: tr = {traits} if e.context is not None else None")
        w(" if tr is None: tr = nothing")
        w(" s = False")
        for index, name in enumerate(self.plan.traits):
            gates["trait", name] = f"c{index}"
            w(f" u = tr.{self.event_type.trait_field(name)}; c{index} = False")
            w(" if u is not UNSET:")
            w("  s = True")
            w(f"  if t >= T.get({name!r}, no_trait)[0]: T[{name!r}] = (t, u, e.arrival); c{index} = True")
        changed = " or ".join(gates.values())
        w(f" if {changed}: p.dirty.add({TRAITS})")

    def _matchers(self, handler: Handler, wheres: dict[tuple[Where, ...], str]) -> dict[Path, str]:
        """One variable for each distinct ``where``, over values that are read once; returns the values' variables."""
        groups = [self.plan.groups[group] for group in handler.groups]
        roles = [role for group in groups for role in group.roles if takes_part(role, handler)]
        asked = [where for group in handler.groups for where in self._wheres(handler, group)]
        values: dict[Path, str] = {}
        paths = dict.fromkeys(one.path for where in asked for one in where)
        paths |= dict.fromkeys(path for group in groups for f in group.features.values() for path in f.paths)
        paths |= dict.fromkeys(role.by for role in roles if role.by is not None)
        for root in dict.fromkeys(path.root for path in paths):
            self.lines.append(f" {root} = e.{root} or no_{root}")
        for path in paths:
            values[path] = f"d{len(values)}"
            self.lines.append(f" {values[path]} = {self.event_type.value(path)}")
        for where in asked:
            if not where:
                wheres[()] = "True"
            elif where not in wheres:
                tests = [self.names.predicate(one.predicate, values[one.path]) for one in where]
                wheres[where] = f"g{len(wheres)}"
                self.lines.append(f" g{len(wheres) - 1} = {' and '.join(tests)}")
        return values

    def _insert(self, group: int, feature: Feature, gate: str) -> None:
        w = self.lines.append
        cell = f"F{group}[{feature.number}]"
        if feature.kind is not None:
            values = [self.values[path] for path in feature.paths]
            taken = f"({', '.join(values)}), t" if len(values) > 1 else f"{values[0] if values else 'None'}, t, now"
            more = "" if len(values) > 1 else f", {self._sessions(feature)}"
            w(f" if {gate}: put{group}_{feature.number}({cell}, {taken}{more})")
            return
        if feature.cap == 0:
            return
        w(f" if {gate}:")
        if feature.windowed:
            w(f"  r = {cell}")
            w("  if not r or t >= r[-1]: r.append(t)")
            w("  else: insort(r, t)")
            w(f"  if len(r) > {feature.cap}: del r[0]")
        else:
            w(f"  if {cell} < {feature.cap}: {cell} += 1")

    def _audiences(self, handler: Handler, gates: dict[tuple[str, object], str] | None, indent: str) -> None:
        """Evaluates the handler's audiences, those behind the same gates together; without gates all of them."""
        opened: set[object] = {*handler.groups, *([TRAITS] if handler.traits else [])} if gates is not None else set()
        needed = {number: self._gates(number, gates) for number in handler.audiences} if gates is not None else {}
        ordered = tuple(number for number in handler.audiences if self.plan.waiting.get(number) != NEVER)
        if not self.referenced & set(ordered):
            ordered = tuple(sorted(ordered, key=lambda number: sorted(needed.get(number, ()))))
        for gate, numbers in groupby(ordered, key=lambda number: needed.get(number, frozenset())):
            if gates is not None and not gate:
                continue
            inner = indent
            if gates is not None and "True" not in gate:
                self.lines.append(f"{indent}if {' or '.join(sorted(gate))}:")
                inner = indent + " "
            together = list(numbers)
            self.emitter.scope = set(opened)
            own = {*handler.groups, *([TRAITS] if handler.traits else [])}
            for number in together:
                self.emitter.prepare([leaf for leaf in self.plan.own_leaves(number) if self._home(leaf) in own], inner)
            for number in together:
                self._audience(number, inner)

    def _home(self, leaf: Condition) -> int | None:
        """The group that a condition reads."""
        if isinstance(leaf, TraitCondition):
            return TRAITS
        place = self.plan.place(leaf)
        return None if place is None else place[0]

    def _gates(self, number: int, gates: dict[tuple[str, object], str]) -> frozenset[str]:
        found: set[str] = set()
        for leaf in self.plan.leaves(number):
            for source in self.plan.sources.of(leaf):
                if isinstance(source, TraitValue):
                    found.add(gates.get(("trait", source.keys[0]), ""))
                else:
                    place = self.plan.place(source)
                    if place is not None:
                        found.add(gates.get(("feature", place), ""))
        return frozenset(found - {""})

    def _count(self, number: int, indent: str) -> None:
        if self.counting:
            self.lines.append(f"{indent}evaluated[{number}] += 1")

    def _audience(self, number: int, indent: str) -> None:
        """The value of one audience, and the change if it is one; one that waits is left alone up to its instant."""
        w = self.lines.append
        until_ms = self.plan.waiting.get(number)
        if until_ms is not None:
            w(f"{indent}if now {'>=' if until_ms == self.wakes_ms else '>'} {until_ms}:")
            indent += " "
        self._count(number, indent)
        condition, emitter = self.plan.audiences[number].condition, self.emitter
        guard = emitter.guard(condition)
        if guard is None:
            scope = set(emitter.scope)
            emitter.emit(condition, "v", "x", indent)
            emitter.scope = scope
            w(f"{indent}if x < nx: nx = x")
            test = "v"
        else:
            test = guard[0]
        by = f"marked({number}, G, e)" if self.approximations.bounded(number) else "e"
        w(f"{indent}if {test}:")
        if guard is not None and guard[1]:
            w(f"{indent} if x < nx: nx = x")
        w(f"{indent} if {number} not in m: m.add({number}); out.append((p, {number}, True, now, {by}))")
        w(f"{indent}elif {number} in m: m.discard({number}); out.append((p, {number}, False, now, {by}))")


def takes_part(role: Role, handler: Handler) -> bool:
    """Whether a handler's events can be of a role."""
    return role.kind in (handler.kind, (handler.kind[0], None))
