"""Which events a feature saw, in words: of an aggregate, a sequence, an absence.

Owns: reading the cells of those features for people, as far as they keep events one by one.
Not here: what the features say (opportune.features), the tree around it (opportune.audiences.explain).
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Any as Anything

from opportune.audiences.schema import AbsentCondition, SequenceCondition, Step
from opportune.audiences.sentences import literal, path_text
from opportune.event import iso_text
from opportune.features.absences import NONE, Absence
from opportune.features.aggregates import Aggregate
from opportune.features.entries import first_inside
from opportune.features.sequences import Sequence
from opportune.features.values import Code, value_of

INSTANTS_SHOWN = 20


def times_text(instants: Many[int], now_ms: int) -> str:
    """Instants in a line: without the date where it is today's."""
    today = iso_text(now_ms)[:10]
    texts = [iso_text(instant) for instant in instants]
    return ", ".join(text[11:-1].removesuffix(".000") if text.startswith(today) else text for text in texts)


def instants_of(kind: Aggregate, cell: list[Anything], now_ms: int, around: Anything) -> list[int]:
    """The instants of the events that an aggregate within a window looks at and that are kept one by one."""
    if kind.ever or not cell:
        return []
    times: list[int] = cell[0]
    inside = times[first_inside(times, kind.windowed.start(now_ms, around)[0]) :]
    return inside[:1] if kind.function in ("min", "max") else inside


def aggregate_text(kind: Aggregate, instants: Many[int], now_ms: int) -> str:
    """Which events those are, in words; empty where none is kept."""
    if not instants:
        return ""
    shown = instants[-INSTANTS_SHOWN:]
    newest = "the newest " if len(shown) < len(instants) else ""
    which = {"min": "", "max": "", "last": "", "distinct": "each value's newest"}
    more = which.get(kind.function, f"{len(instants)} event{'' if len(instants) == 1 else 's'}")
    return f"{', ' if more else ' '}{more}{' ' if more else ''}at {newest}{times_text(shown, now_ms)}"


def sequence_text(
    kind: Sequence, condition: SequenceCondition, cell: list[Anything], now_ms: int, around: Anything
) -> str:
    """How far a sequence has come: the longest beginning of it, of the latest such."""
    if cell == [1]:
        return "all of its steps, in order"
    key, reached = kind.furthest(cell, now_ms, around)
    of = _of(condition.steps[0], key)
    if not reached:
        return f"no {condition.steps[0].model.name}{of}"
    steps = [
        f"{step.model.name} at {times_text([t], now_ms)}" for step, t in zip(condition.steps, reached, strict=False)
    ]
    text = ", then ".join(steps) + of
    if len(reached) < len(condition.steps):
        text += f", then no {condition.steps[len(reached)].model.name}"
    return text


def absence_text(kind: Absence, condition: AbsentCondition, cell: list[Anything], now_ms: int, around: Anything) -> str:
    """What waits for something, or what came."""
    start, _ = kind.windowed.start(now_ms, around)
    pairs: dict[Code, list[int]] = cell[0] if cell else {}
    inside = {key: pair for key, pair in pairs.items() if pair[0] >= start}
    after, absent = condition.after.model.name, condition.absent.model.name
    if not inside:
        return f"no {after} in the window"
    waiting = {key: pair for key, pair in inside.items() if pair[1] < pair[0]} or inside
    # Of those that wait the first is the one that decides, of those that were answered the newest is.
    key = (min if waiting is not inside else max)(waiting, key=lambda each: (waiting[each][0], repr(each)))
    at, answered = waiting[key]
    text = f"{after} at {times_text([at], now_ms)}{_of(condition.after, key)}"
    if answered >= at and answered != NONE:
        return f"{text}, then {absent} at {times_text([answered], now_ms)}"
    return f"{text}, then no {absent}"


def _of(step: Step, key: Code | None) -> str:
    """Of which value of ``by``."""
    if step.by is None or key is None:
        return ""
    hashed = isinstance(key, str) and key.startswith("h")
    return f" ({path_text(step.by)} {'with a long value' if hashed else literal(value_of(key))})"
