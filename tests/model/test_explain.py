"""Explanations agree with the engine: who is in at an instant, and the instant at which that changes by itself."""

from __future__ import annotations

import pytest
from hypothesis import event, given, settings

from flows.replay import Replay
from flows.replay_changes import decode_emitted
from opportune.audiences.explain import Explainer
from opportune.audiences.explained import Explained
from opportune.event import instant_ms
from opportune.project import Project
from state.people import People
from state.person import decode_head, person_state
from tests.model.logs import messages
from tests.model.projects import projects, rows
from tests.model.test_engine_equals_oracle import loaded
from tests.model.test_language_equals_oracle import KINDS, load
from tests.model.written import Said, written
from tests.oracle import Tables
from tests.oracle.builders import DAY_0

LATER_MS = 4 * 366 * 86_400_000
"""Longer than any window."""
LATER_LANGUAGE_MS = 40 * 86_400_000
"""Longer than a month: hours of the wall clock change for ever."""


pytestmark = pytest.mark.timeout(600)


@settings(max_examples=settings().max_examples // 2)
@given(projects(), messages(), rows())
def test_explanations_agree_with_the_engine(project: Project, raws: list[bytes], tables: Tables) -> None:
    agrees(project, raws, tables)


@settings(max_examples=settings().max_examples // 4)
@given(written(KINDS), messages(), rows())
def test_explanations_of_the_whole_language_agree(files: dict[str, Said], raws: list[bytes], tables: Tables) -> None:
    agrees(load(files), raws, tables, later_ms=LATER_LANGUAGE_MS)


def agrees(project: Project, raws: list[bytes], tables: Tables, *, later_ms: int = LATER_MS) -> None:
    """Explains every audience for every person at the end of a log, and looks at what the engine did and will do."""
    given_tables = loaded(project, tables)
    now_replay = Replay(project, tables=given_tables, clock=lambda: DAY_0)
    now_replay.actor.indexed = True
    changes = [decode_emitted(one) for block in now_replay.run_blocks([raws]) for one in block]
    end_ms = now_replay.result.end_ms
    if end_ms is None:
        return
    inside = {(one.profile_id, one.audience): one.change == "entered" for one in changes}
    later = Replay(project, tables=given_tables, until_ms=end_ms + later_ms, clock=lambda: DAY_0)
    following: dict[tuple[str, str], int] = {}
    for block in later.run_blocks([raws]):
        for change in map(decode_emitted, block):
            if instant_ms(change.at) > end_ms:
                following.setdefault((change.profile_id, change.audience), instant_ms(change.at))
    plan = now_replay.compiled.plan
    store = now_replay.actor.settle()
    heads = {key: decode_head(value) for key, value in store.scan("profiles") if len(key) == 16}
    # An identifier that belongs to a profile of another identifier has a head that leads there.
    people = [key for key, head in heads.items() if not head.fate]
    event(f"people: {min(len(people), 5)}, changes to come: {min(len(following), 5)}")
    for profile in people:
        person = person_state(plan, store, profile, given_tables)
        assert person is not None
        explainer = Explainer(plan, person)
        for audience in plan.audiences:
            who = (profile.hex(), audience.name)
            explanation = explainer.explain(audience.name, end_ms)
            assert explanation.member == inside.get(who, False)
            assert explanation.member == (audience.name in person.members)
            said = explanation.next_change
            told_ms = None if said is None else instant_ms(said)
            assert (told_ms if told_ms is None or told_ms <= end_ms + later_ms else None) == following.get(who)
            if not explanation.member:
                assert lacks(explanation.condition)
        looked_up = People(now_replay.compiled, given_tables).find(store, profile, end_ms + 1)
        assert looked_up is not None
        for one in looked_up.memberships:
            until_ms = None if one.until_ms is None or one.until_ms > end_ms + later_ms else one.until_ms
            assert until_ms == following.get((profile.hex(), one.audience))


def lacks(part: Explained) -> bool:
    """Whether a tree says somewhere what is missing."""
    return bool(part.missing) or any(map(lacks, part.parts))
