"""A job goes on with other definitions over its state: from when an audience has seen enough, it is what the reference
evaluator makes of the whole log with the new definitions alone.

Generated projects A and B (B keeps, changes, drops and adds audiences of A), a log that is cut anywhere, kills before and in
the pass. Left out: sessions and positions that began before the change, for which docs/language.md states a bound.
Not here: single cases (tests.unit.flows.test_succession).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from flows.loop import Loop
from opportune.audiences.plan import Plan
from opportune.membership import MembershipChange
from opportune.profile import NEVER
from opportune.project import Project
from tests import oracle
from tests.model.living import lived
from tests.model.logs import Advance, Feed, Life, LogRecord, lives
from tests.model.test_engine_equals_oracle import ROWS_MS, loaded
from tests.model.test_language_equals_oracle import KINDS, load
from tests.model.written import Said, rows, written
from tests.oracle import Record, Tables
from tests.oracle.builders import DAY_0
from tests.oracle.engine import told, used_tables
from tests.oracle.reading import read_project

pytestmark = pytest.mark.timeout(600)
DAY_MS = 86_400_000
Files = dict[str, Said]
Member = tuple[str, str]


@st.composite
def changes(draw: st.DrawFn) -> tuple[Files, Files]:
    """The files before and after."""
    before, other = draw(written(KINDS)), draw(written(KINDS))
    # A person's last instant depends on what the definitions use; here no event is too late by it.
    before["opportune.yml"] |= {"clock": {"lateness": "24 hours"}}
    old, new = before["audiences/all.yml"], other["audiences/all.yml"]
    audiences: list[Said] = []
    for number in range(draw(st.integers(1, max(len(old), len(new))))):
        choice: list[Said] = [files[number] for files in (old, new) if number < len(files)]
        chosen: Said = draw(st.sampled_from(choice))
        audiences.append(chosen)
    used = json.dumps(audiences)
    free = [one for one in audiences if f'"audience": "{one["name"]}"' not in used]
    drop: bool = draw(st.booleans())
    if len(audiences) > 1 and free and drop:
        audiences.remove(draw(st.sampled_from(free)))
    after = before | {"audiences/all.yml": closed(audiences) or old}
    # Whether a name is a computed trait decides which comparisons are right.
    if ("traits/all.yml" in before) != ("traits/all.yml" in other):
        after["audiences/all.yml"] = closed([one for one in old if one in audiences]) or old
    elif "traits/all.yml" in other and draw(st.booleans()):
        after["traits/all.yml"] = other["traits/all.yml"]
    return before, after


def closed(audiences: list[Said]) -> list[Said]:
    """Those that name no audience that is not there; each names earlier ones only."""
    kept: list[Said] = []
    for one in audiences:
        named = set(re.findall(r'"audience": "(\w+)"', json.dumps(one)))
        if named <= {each["name"] for each in kept}:
            kept.append(one)
    return kept


def without_ids(life: Life) -> Life:
    """Which message ids count as seen depends on the definitions of the time: here none has one."""
    steps = [
        Feed(tuple(_plain(record) for record in step.records)) if isinstance(step, Feed) else step
        for step in life.steps
    ]
    return Life(tuple(steps), life.end_ms)


def _plain(record: LogRecord) -> LogRecord:
    raw = record.raw.replace(b'"messageId"', b'"message"')
    return LogRecord(record.partition, record.offset, record.arrival_ms, raw)


def is_bounded(project: Project, name: str) -> bool:
    """Whether an audience looks at sessions or positions, itself or by one that it names."""
    plan = Plan(project)
    return any(word in repr(leaf) for leaf in plan.leaves(plan.numbers[name]) for word in ("session", "NearCondition"))


def members_at(found: list[oracle.Change], at: int) -> set[Member]:
    """Who is in which audience at an instant."""
    members: set[Member] = set()
    for change in found:
        if change.at <= at:
            member = change.profile, change.audience
            members = members | {member} if change.change == "entered" else members - {member}
    return members


def alternate(found: list[MembershipChange]) -> Iterator[str]:
    """What is wrong with the order of changes: of each person and audience entries and exits take turns, time goes on."""
    last: dict[Member, str] = {}
    at: dict[str, str] = {}
    for one in found:
        member = one.profile_id, one.audience
        if last.get(member, "exited") == one.change:
            yield f"{one.change} twice: {one}"
        if one.at < at.get(one.profile_id, ""):
            yield f"goes back: {one}"
        last[member], at[one.profile_id] = one.change, one.at


@settings(max_examples=settings().max_examples // 8)
@given(changes(), lives(), rows(), st.integers(0, 30), st.sampled_from((0, 0, 3 * DAY_MS)))
def test_from_when_it_has_seen_enough_an_audience_is_right(
    files: tuple[Files, Files], life: Life, tables: Tables, cut: int, more_ms: int
) -> None:
    life = without_ids(life)
    before, after = (load(one) for one in files)
    loop = Loop(before, 2, tables=loaded(before, tables), began_ms=ROWS_MS)
    records: list[Record] = []
    seen_ms = DAY_0
    for number, fed in enumerate(lived(loop, Life(life.steps, life.end_ms))):
        records += fed
        step = life.steps[number]
        seen_ms = max([seen_ms, *(each.arrival_ms or 0 for each in fed)])
        seen_ms = max(seen_ms, step.time_ms) if isinstance(step, Advance) else seen_ms
        if number == min(cut, len(life.steps) - 1):
            # Tables that are read as before stay; others are put in force anew, for everybody at once.
            loop.deploy(after, None if Plan(before).columns == Plan(after).columns else loaded(after, tables))
            changed_ms = seen_ms
    if not life.steps:
        return
    end_ms = life.end_ms + more_ms
    loop.advance(end_ms)
    used = used_tables(before, tables) | used_tables(after, tables)  # type: ignore[operator]  # both are dicts
    expected = oracle.live(read_project(files[1]), records, end_ms, used, ROWS_MS)
    ours = sorted(told(loop.changes))
    plan = loop.compiled.plan
    waiting = {plan.audiences[number].name: until_ms for number, until_ms in plan.waiting.items()}
    assert list(alternate(loop.changes)) == []
    for audience in (one.name for one in after.audiences):
        until_ms = max(waiting.get(audience, 0), changed_ms)
        bounded = audience in waiting and is_bounded(after, audience)
        event(
            f"{'never' if until_ms >= NEVER else 'waits' if audience in waiting else 'at once'}{' bounded' * bounded}"
        )
        if until_ms >= end_ms or bounded:
            continue
        mine = [one for one in ours if one.audience == audience]
        right = [one for one in expected.changes if one.audience == audience]
        assert members_at(mine, until_ms) == members_at(right, until_ms)
        later = [[one[:-1] for one in some if one.at > until_ms] for some in (mine, right)]
        assert later[0] == later[1]
    gone = {one.audience for one in ours} - {one.name for one in after.audiences}
    assert not [member for member in members_at(ours, end_ms) if member[1] in gone]
