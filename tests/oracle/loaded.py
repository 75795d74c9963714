"""From a project that the engine has loaded to the reference evaluator's tree.

Owns: the translation of nodes, one by one; generated projects of property tests come this way.
Invariant: a node of a kind that is not translated is an error, never left out. What is written in YAML can be read
without the engine instead (tests.oracle.reading), and the stories are.
Not here: what the nodes mean (tests.oracle.evaluator).
"""

from __future__ import annotations

from opportune.audiences import schema
from opportune.project import Project
from tests.oracle.tree import (
    Absent,
    Aggregate,
    All,
    AnyOf,
    Attribute,
    Comparison,
    Condition,
    Constant,
    Definition,
    During,
    Event,
    Holds,
    Member,
    Model,
    Near,
    Neither,
    Path,
    Predicate,
    Sequence,
    Trait,
    Value,
    Where,
    Window,
)


def definition_of(project: Project) -> Definition:
    """The tree of a loaded project."""
    settings = project.settings
    having = [name for name, table in project.tables.items() if "timezone" in table.columns]
    return Definition(
        audiences={audience.name: _condition(audience.condition) for audience in project.audiences},
        namespaces={name: table.namespace for name, table in project.tables.items()},
        timezone_column=Attribute(having[0], "timezone") if len(having) == 1 else None,
        timezone=settings.timezone,
        session_gap_ms=settings.session_gap_ms,
        lateness_ms=settings.clock.lateness_ms,
        dedupe_ms=settings.dedupe.period_ms,
        event_bytes_max=settings.event_bytes_max,
    )


def _condition(node: schema.Condition) -> Condition:  # noqa: PLR0911 - one case a kind of condition
    match node:
        case schema.All(conditions):
            return All(tuple(map(_condition, conditions)))
        case schema.Any(conditions):
            return AnyOf(tuple(map(_condition, conditions)))
        case schema.Not(conditions):
            return Neither(tuple(map(_condition, conditions)))
        case schema.AudienceCondition(name):
            return Member(name)
        case schema.EventCondition(model, where, times, within_ms):
            window = Window() if within_ms is None else Window("duration", within_ms)
            return Holds(Aggregate(_event(model, where), "count", None, window), _predicate(times))
        case schema.TraitCondition(keys, predicate):
            return Holds(Trait(keys), _predicate(predicate))
        case schema.AttributeCondition(table, column, predicate):
            return Holds(Attribute(table, column, predicate.instants), _predicate(predicate))
        case schema.AggregateCondition(value, predicate):
            return Holds(_value(value), _predicate(predicate))
        case schema.SequenceCondition(steps, window, span_ms, gap_ms):
            return Sequence(tuple(map(_step, steps)), _by(steps), _window(window), span_ms, gap_ms or None)
        case schema.AbsentCondition(absent, after, for_ms, window):
            return Absent(_step(absent), _step(after), for_ms, _by((absent, after)), _window(window))
        case schema.NearCondition(model, where, lat, lon, radius_m, leave_m, fresh_ms):
            return Near(_event(model, where), lat, lon, radius_m, leave_m, fresh_ms)
        case schema.DuringCondition(days, from_ms, to_ms, timezone):
            return During(frozenset(days), from_ms, to_ms, timezone)


def _value(value: schema.AggregateValue | schema.TraitValue | schema.AttributeValue) -> Value:
    match value:
        case schema.TraitValue(keys):
            return Trait(keys)
        case schema.AttributeValue(table, column, instants):
            return Attribute(table, column, instants)
        case schema.AggregateValue(model, where, function, path, instants, window):
            path_read = None if path is None else Path(path.root, path.keys, instants)
            return Aggregate(_event(model, where), function, path_read, _window(window))


def _event(model: schema.EventModel, where: tuple[schema.Where, ...]) -> Event:
    return Event(Model(model.type, model.raw_name, _where(model.where)), _where(where))


def _step(step: schema.Step) -> Event:
    return _event(step.model, step.where)


def _by(steps: tuple[schema.Step, ...]) -> tuple[Path, ...]:
    return tuple(Path(step.by.root, step.by.keys, step.by_instants) for step in steps if step.by is not None)


def _window(window: schema.Window) -> Window:
    return Window(window.kind, window.ms, window.timezone)


def _where(entries: tuple[schema.Where, ...]) -> tuple[Where, ...]:
    return tuple(
        Where(Path(each.path.root, each.path.keys, each.predicate.instants), _predicate(each.predicate))
        for each in entries
    )


def _predicate(predicate: schema.Predicate) -> Predicate:
    comparisons = tuple(Comparison(each.op, _operand(each)) for each in predicate.comparisons)
    return Predicate(comparisons, predicate.instants)


def _operand(comparison: schema.Comparison) -> Constant | tuple[Constant, ...] | Value:
    operand = comparison.operand
    if isinstance(operand, schema.TraitValue | schema.AttributeValue | schema.AggregateValue):
        return _value(operand)
    return operand
