"""The engine gives the changes of the reference evaluator on random projects that are written as YAML.

Of all kinds of conditions that the engine has (tests/language/pending.yml lists the others). The two share no reader:
the engine loads the files, the reference evaluator reads them by itself. Live runs have restarts and records that are
delivered again, so that what is kept of each kind is written and read back.
Not here: what is generated (tests.model.written, tests.model.logs).
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import event, given, target

from flows.loop import Loop
from flows.replay import Replay
from opportune.audiences.loader import load_project
from opportune.project import Project
from tests import oracle
from tests.language.kinds import KNOWN, pending
from tests.model.living import lived
from tests.model.logs import Life, lives, messages
from tests.model.test_engine_equals_oracle import ROWS_MS, WALL_MS, ends, loaded
from tests.model.written import Said, rows, written
from tests.oracle import Tables
from tests.oracle.engine import told, used_tables
from tests.oracle.reading import read_project

pytestmark = pytest.mark.timeout(600)
KINDS = frozenset(KNOWN - pending())


def load(files: dict[str, Said]) -> Project:
    """The project as the engine loads it."""
    with tempfile.TemporaryDirectory() as directory:
        for name, said in files.items():
            path = Path(directory) / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(said), encoding="utf-8")
        return load_project(Path(directory))


@given(written(KINDS), messages(), rows(), ends())
def test_replay(files: dict[str, Said], raws: list[bytes], tables: Tables, until_ms: int | None) -> None:
    project = load(files)
    expected = oracle.replay(read_project(files), raws, until_ms, used_tables(project, tables), WALL_MS)
    one = Replay(project, until_ms=until_ms, tables=loaded(project, tables), clock=lambda: WALL_MS)
    changes, result = list(one.run(raws)), one.result
    event(f"changes: {min(len(expected.changes), 10)}")
    target(min(len(expected.changes), 30))
    assert told(changes) == expected.changes
    assert result.refused == dict(expected.refused)
    assert result.duplicates == expected.duplicates


@given(written(KINDS), lives(), rows())
def test_live(files: dict[str, Said], life: Life, tables: Tables) -> None:
    project = load(files)
    loop = Loop(project, 2, tables=loaded(project, tables), began_ms=ROWS_MS)
    records = [record for fed in lived(loop, life) for record in fed]
    loop.advance(life.end_ms)
    expected = oracle.live(read_project(files), records, life.end_ms, used_tables(project, tables), ROWS_MS)
    event(f"changes: {min(len(expected.changes), 10)}")
    assert sorted(told(loop.changes)) == expected.changes
