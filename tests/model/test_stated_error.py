"""With the limits squeezed to 8, every membership is within the stated error of the reference evaluator's.

Random projects over the whole language, and logs in which one person does most: hops, sketches and sequences that lost events are
met in most examples. Where nobody has too many events the only membership that is possible is the exact one.
Not here: what is possible (tests.oracle.tolerant), the exact comparison (tests.model.test_language_equals_oracle).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import event, given, settings, target
from hypothesis import strategies as st

from flows.loop import Loop
from flows.replay import Replay
from opportune.features import limits
from opportune.features.limits import Limits
from tests.language.kinds import KNOWN
from tests.model.living import lived
from tests.model.logs import CLOSE_MS, CROWDED, Life, lives, messages
from tests.model.test_engine_equals_oracle import ROWS_MS, WALL_MS, loaded
from tests.model.test_language_equals_oracle import load
from tests.model.written import Said, rows, written
from tests.oracle import Tables
from tests.oracle.builders import DAY_0
from tests.oracle.engine import told, used_tables
from tests.oracle.history import Log, Record
from tests.oracle.reading import read_project
from tests.oracle.tolerant import HOPS, LIMIT, Tolerant, outside

pytestmark = pytest.mark.timeout(600)
CONDITIONS = frozenset(KNOWN - {"during", "near", "refresh"})
"""Those without anything to bound have no place here."""
EXAMPLES = {"dev": 50, "ci": 500}.get(settings.get_current_profile_name(), 5_000)
"""An example takes a twentieth of a second: the reference looks at every instant for every beginning of a window."""


LENGTHS = ("10 ms", "50 ms", "10 seconds", "1 minute")
NEAR = {
    "sum": range(-3, 12),
    "avg": (0, 0.5, 1),
    "min": (-1, 0, 1),
    "max": (0, 1, 2),
    "first": (0, 1, 2),
    "distinct": range(1, 14),
}
"""Values that the aggregates of crowded logs pass again and again."""


@st.composite
def crowded(draw: st.DrawFn) -> dict[str, Said]:
    """A project whose audiences all depend on how many events there are in a window."""
    audiences: list[Said] = []
    for number in range(draw(st.integers(1, 4))):
        function = draw(st.sampled_from(sorted(NEAR)))
        path = draw(st.sampled_from(("q", "list"))) if function == "distinct" else "p"
        compared = {draw(st.sampled_from(("gte", "lt", "eq"))): draw(st.sampled_from(NEAR[function]))}
        within = draw(st.sampled_from(LENGTHS))
        when: Said = {"event": "A", function: path, "is": compared, "within": within}
        if draw(st.integers(0, 3)) == 0:
            when = {"trait": "n", "is": {"gte": draw(st.integers(4, 14))}}
        elif draw(st.integers(0, 4)) == 0:
            steps = draw(st.permutations([{"event": "A"}, {"event": "B"}]))
            when = {"sequence": steps, "within": within} | draw(st.sampled_from(({}, {"by": "q"})))
        audiences.append({"name": f"a{number}", "when": when})
    counted = {"name": "n", "event": "A", "count": True, "within": draw(st.sampled_from(LENGTHS))}
    return {"opportune.yml": {"name": "test"}, "audiences/all.yml": audiences, "traits/all.yml": [counted]}


PROJECTS = crowded() | crowded() | written(CONDITIONS)
ENDS = st.sampled_from([None, *(DAY_0 + after for after in (50, 30_000, 300_000, 300_000))])


@pytest.fixture(autouse=True, scope="module")
def squeezed() -> Iterator[None]:
    """Limits of 8."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "FULL", Limits(entries=LIMIT, hops=HOPS, sketches=HOPS))
        yield


@settings(max_examples=EXAMPLES)
@given(PROJECTS, messages(60, CROWDED, CLOSE_MS), rows(), ENDS)
def test_replay(files: dict[str, Said], raws: list[bytes], tables: Tables, until_ms: int | None) -> None:
    project = load(files)
    log = Log(read_project(files), used_tables(project, tables), until_ms, made=Tolerant)
    for raw in raws:
        log.take(Record(None, raw))
    before = sum(limits.coarsened + limits.dropped)
    one = Replay(project, until_ms=until_ms, tables=loaded(project, tables), clock=lambda: WALL_MS)
    changes = told(one.run(raws))
    beyond(before)
    last_ms = next(each for each in (until_ms, log.watermark_ms, WALL_MS) if each is not None)
    found = outside(log, changes, last_ms)
    assert not found, found


@settings(max_examples=EXAMPLES)
@given(PROJECTS, lives(60, CROWDED, CLOSE_MS), rows())
def test_live(files: dict[str, Said], life: Life, tables: Tables) -> None:
    project = load(files)
    before = sum(limits.coarsened + limits.dropped)
    loop = Loop(project, 2, tables=loaded(project, tables), began_ms=ROWS_MS)
    log = Log(read_project(files), used_tables(project, tables), first_ms=ROWS_MS, made=Tolerant)
    for fed in lived(loop, life):
        for record in fed:
            log.take(record)
    loop.advance(life.end_ms)
    beyond(before)
    found = outside(log, told(loop.changes), life.end_ms - 1)
    assert not found, found


def beyond(before: int) -> None:
    """Leads the search to examples in which much is beyond the limits."""
    more = sum(limits.coarsened + limits.dropped) - before
    event(f"beyond the limits: {more > 0}")
    target(min(more, 100))
