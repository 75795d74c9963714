"""With the limits squeezed to 8, every membership is within the stated error of the reference evaluator's.

Random projects over the whole language, and logs in which one person does most: hops, sketches and sequences that lost events are
met in most examples. Where nobody has too many events the only membership that is possible is the exact one.
Not here: what is possible (tests.oracle.tolerant), the exact comparison (tests.model.test_language_equals_oracle).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import event, given, settings, target

from flows.loop import Loop
from flows.replay import Replay
from opportune.features import limits
from opportune.features.limits import Limits
from tests.language.kinds import KNOWN
from tests.model.living import lived
from tests.model.logs import CLOSE_MS, CROWDED, Life, lives, messages
from tests.model.test_engine_equals_oracle import ROWS_MS, WALL_MS, ends, loaded
from tests.model.test_language_equals_oracle import load
from tests.model.written import Said, rows, written
from tests.oracle import Tables
from tests.oracle.engine import told, used_tables
from tests.oracle.history import Log, Record
from tests.oracle.reading import read_project
from tests.oracle.tolerant import HOPS, LIMIT, Tolerant, outside

pytestmark = pytest.mark.timeout(600)
CONDITIONS = frozenset(KNOWN - {"during", "near", "refresh"})
"""Those without anything to bound have no place here."""
EXAMPLES = {"dev": 50, "ci": 300}.get(settings.get_current_profile_name(), 5_000)
"""An example takes a tenth of a second: the reference looks at every instant for every beginning of a window."""


@pytest.fixture(autouse=True, scope="module")
def squeezed() -> Iterator[None]:
    """Limits of 8."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "FULL", Limits(entries=LIMIT, hops=HOPS, sketches=HOPS))
        yield


@settings(max_examples=EXAMPLES)
@given(written(CONDITIONS), messages(60, CROWDED, CLOSE_MS), rows(), ends())
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
    assert outside(log, changes, last_ms) == []


@settings(max_examples=EXAMPLES)
@given(written(CONDITIONS), lives(60, CROWDED, CLOSE_MS), rows())
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
    assert outside(log, told(loop.changes), life.end_ms - 1) == []


def beyond(before: int) -> None:
    """Leads the search to examples in which much is beyond the limits."""
    more = sum(limits.coarsened + limits.dropped) - before
    event(f"beyond the limits: {more > 0}")
    target(min(more, 100))
