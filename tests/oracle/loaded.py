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
    Aggregate,
    All,
    AnyOf,
    Attribute,
    Comparison,
    Condition,
    Definition,
    Event,
    Holds,
    Member,
    Model,
    Neither,
    Path,
    Predicate,
    Trait,
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


def _condition(node: schema.Condition) -> Condition:
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
            event = Event(Model(model.type, model.raw_name, _where(model.where)), _where(where))
            return Holds(Aggregate(event, "count", None, window), _predicate(times))
        case schema.TraitCondition(keys, predicate):
            return Holds(Trait(keys), _predicate(predicate))
        case schema.AttributeCondition(table, column, predicate):
            return Holds(Attribute(table, column, predicate.instants), _predicate(predicate))


def _where(entries: tuple[schema.Where, ...]) -> tuple[Where, ...]:
    return tuple(
        Where(Path(each.path.root, each.path.keys, each.predicate.instants), _predicate(each.predicate))
        for each in entries
    )


def _predicate(predicate: schema.Predicate) -> Predicate:
    comparisons = tuple(Comparison(each.op, each.operand) for each in predicate.comparisons)
    return Predicate(comparisons, predicate.instants)
