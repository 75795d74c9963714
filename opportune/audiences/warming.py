"""How long audiences wait for what they have not seen.

Owns: from what a state has observed since when to the instant at which an audience's windows are covered; and the handlers
of a plan that begin with them then. An instant D after the feature began covers a window of D; a calendar window is covered
by its first unit that began later; what looks at all of a person's past is covered by no time.
Invariant: an audience is not evaluated up to that instant, and everybody is at it, by a timer.
Not here: what a state has observed (opportune.audiences.lineage), the code (opportune.audiences.compiler).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from opportune.audiences.plan import Handler, Plan
from opportune.audiences.schema import (
    AbsentCondition,
    AggregateValue,
    EventCondition,
    NearCondition,
    SequenceCondition,
    TraitValue,
    Window,
)
from opportune.audiences.sources import PROFILE, SESSION, Source
from opportune.features.calendar import DAY_MS, bounds
from opportune.profile import NEVER

WAKE = "wake"
"""The kind of the handlers that stand for the end of a wait."""
LONGEST_MS = {"day": DAY_MS, "week": 7 * DAY_MS, "month": 31 * DAY_MS}
HOUR_MS = 3_600_000
Since = Callable[[Source], int]


def wait(plan: Plan, waiting: Mapping[str, int]) -> None:
    """Lets audiences wait; for each instant at which some begin the plan gets one more handler, due then.

    Args:
        plan: to be compiled yet.
        waiting: by name, the instants at which what audiences see is complete, ``NEVER`` where no time completes it.
    """
    plan.waiting = {plan.numbers[name]: until_ms for name, until_ms in sorted(waiting.items())}
    for until_ms in sorted({until_ms for until_ms in plan.waiting.values() if until_ms < NEVER}):
        begin = {number for number, until in plan.waiting.items() if until == until_ms}
        audiences = tuple(number for number in plan.order if begin & set(plan.ordered({number})))
        plan.handlers.append(
            Handler(len(plan.handlers), (WAKE, None), (), traits=False, audiences=audiences, wakes_ms=until_ms)
        )


def covered(plan: Plan, since: Since) -> dict[int, int]:
    """From when each audience of a plan is complete, by number; 0 for what was always seen.

    Args:
        plan: the plan.
        since: from when a source is observed, 0 for always.
    """
    until: dict[int, int] = {}
    for number in plan.order:
        if plan.audiences[number].start_empty:
            until[number] = 0
            continue
        own = [
            covered_ms(plan, source, since(source))
            for leaf in plan.own_leaves(number)
            for source in plan.sources.of(leaf)
        ]
        until[number] = max([0, *own, *(until[other] for other in plan.references(number))])
    return until


def covered_ms(plan: Plan, source: Source, since_ms: int) -> int:
    """From when what a condition sees of a source is complete, where it is observed since an instant."""
    if not since_ms:
        return 0
    if isinstance(source, EventCondition):
        return NEVER if source.within_ms is None else since_ms + source.within_ms
    if isinstance(source, NearCondition):
        return since_ms + source.fresh_ms
    if isinstance(source, AggregateValue | SequenceCondition | AbsentCondition):
        return _window_ms(plan, source.window, since_ms)
    if isinstance(source, TraitValue):
        return NEVER
    return _window_ms(plan, Window("session"), since_ms) if source == SESSION else 0


def _window_ms(plan: Plan, window: Window, since_ms: int) -> int:
    if window.kind == "ever":
        return NEVER
    if window.kind == "duration":
        return since_ms + window.ms
    if window.kind == "session":
        # No time covers every session; one that goes on for longer is told from where it was first seen.
        return since_ms + plan.settings.clock.lateness_ms + plan.settings.session_gap_ms
    if window.timezone == PROFILE:
        # Zones begin their units at different instants: a whole unit covers each of them.
        return since_ms + LONGEST_MS[window.kind] + HOUR_MS
    return bounds(window.kind, since_ms, window.timezone)[1]
