"""Two profiles that merge go on as one that had received the events of both, whatever kinds of conditions there are.

Instants differ from event to event, because of events of one instant in two profiles nobody knows which arrived first;
that the outcome does not depend on who wins is asserted of equal instants as well.
Not here: when profiles merge, and what becomes of their identifiers (flows.identity).
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from opportune.audiences.merge import merge_group
from opportune.audiences.plan import TRAITS
from opportune.compiled import Compiled
from opportune.profile import NEVER
from tests.model.logs import PROPERTIES
from tests.model.logs import TRAITS as TRAIT_VALUES
from tests.model.test_language_equals_oracle import load
from tests.model.written import Said, written
from tests.oracle.builders import DAY_0, encode
from tests.unit.opportune.people import Someone

pytestmark = pytest.mark.timeout(600)
DAY_MS = 86_400_000
"""Merged sessions are exact while none is longer than a late event may be late; logs here stay far below it."""
STEPS_MS = (1, 1, 1, 2, 3, 5, 9, 50, 59_999, 60_000, 1_800_000)
LATE_MS = (0, 0, 0, 0, 1, 2, 5, 10, 60_000)
CALLS: list[dict[str, object]] = [
    *[dict[str, object](type="track", event=name) for name in ("A", "A", "A", "B", "B", "C", "D")],
    {"type": "page", "name": "home"},
    {"type": "identify"},
]


@st.composite
def happenings(draw: st.DrawFn, *, apart: bool) -> list[tuple[bytes, int, int, bool]]:
    """Raw messages with effective time, arrival and whose they are; no two of one instant where they are to be apart."""
    now, taken, made = DAY_0, set[int](), []
    for _ in range(draw(st.integers(2, 14))):
        now += draw(st.sampled_from(STEPS_MS))
        at = now - draw(st.sampled_from(LATE_MS))
        while apart and at in taken:
            at -= 1
        taken.add(at)
        said = dict(draw(st.sampled_from(CALLS)))
        names = draw(st.lists(st.sampled_from(sorted(PROPERTIES)), max_size=4, unique=True))
        said["properties"] = {name: draw(st.sampled_from(PROPERTIES[name])) for name in names}
        traits = draw(st.lists(st.sampled_from(sorted(TRAIT_VALUES)), max_size=2, unique=True))
        if said["type"] == "identify":
            said["traits"] = {name: draw(st.sampled_from(TRAIT_VALUES[name])) for name in traits}
        made.append((encode(said), at, now, draw(st.booleans())))
    return made


def opened(someone: Someone, group: int) -> Any:
    """A group as the generated code opens it."""
    value = someone.profile.groups[group]
    if value is not None:
        return value
    if group == TRAITS:
        return {}
    return [[] if feature.windowed else 0 for feature in someone.compiled.plan.groups[group].features.values()]


def merged(winner: Someone, loser: Someone, now: int) -> Someone:
    """Somebody new who has what both have, evaluated at ``now``."""
    one = Someone(winner.compiled)
    plan = one.compiled.plan
    one.compiled.program.found(one.profile, now, one.changes, None)
    one.profile.groups = {
        group.number: merge_group(plan, group.number, opened(winner, group.number), opened(loser, group.number))
        for group in plan.groups
    }
    evaluate_all(one, now)
    return one


def evaluate_all(someone: Someone, now: int) -> None:
    """Evaluates all audiences, and finds all dues."""
    profile = someone.profile
    profile.dues = {}
    for number, evaluate in enumerate(someone.compiled.program.evaluate):
        due = evaluate(profile, now, someone.changes, None)
        assert due > now
        if due < NEVER:
            profile.dues[number] = due
    profile.due = min(profile.dues.values(), default=NEVER)
    profile.now = now


@given(written(), happenings(apart=True), st.integers(1, 14))
def test_a_merged_profile_goes_on_as_one_that_had_received_all(
    files: dict[str, Said], log: list[tuple[bytes, int, int, bool]], before: int
) -> None:
    files["opportune.yml"]["clock"] = {"lateness": "24 hours"}
    compiled = Compiled(load(files))
    whole, winner, loser = Someone(compiled), Someone(compiled), Someone(compiled)
    for raw, at, now, loses in log[:before]:
        whole.take(raw, at, now)
        (loser if loses else winner).take(raw, at, now)
    instant = log[:before][-1][2]
    one = merged(winner, loser, instant)
    event(f"members: {len(one.members())}")
    assert one.members() == whole.members()
    for raw, at, now, _ in log[before:]:
        one.wait(now)
        whole.wait(now)
        assert one.members() == whole.members()
        whole.take(raw, at, now)
        one.take(raw, at, now)
        assert one.members() == whole.members()
    for later in (1, 3, 50, 60_000, 2_000_000, DAY_MS, 40 * DAY_MS):
        one.wait(log[-1][2] + later)
        whole.wait(log[-1][2] + later)
        assert one.members() == whole.members()


@settings(max_examples=settings().max_examples // 4)
@given(written(), happenings(apart=False))
def test_it_does_not_matter_who_wins(files: dict[str, Said], log: list[tuple[bytes, int, int, bool]]) -> None:
    compiled = Compiled(load(files))
    winner, loser = Someone(compiled), Someone(compiled)
    for raw, at, now, loses in log:
        (loser if loses else winner).take(raw, at, now)
    kept = deepcopy((winner.profile.groups, loser.profile.groups))
    one, other = merged(winner, loser, log[-1][2]), merged(loser, winner, log[-1][2])
    assert (winner.profile.groups, loser.profile.groups) == kept
    assert one.members() == other.members()
    assert msgspec.msgpack.encode(one.profile.groups)
