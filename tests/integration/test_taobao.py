"""Real behaviour of 59,488 people: a replay gives the reference evaluator's changes, all of them, step for step.

Not here: how the data becomes messages (tests.integration.taobao), the definitions (tests/projects/taobao).
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from flows.replay import replay
from opportune.audiences.loader import load_project
from opportune.project import Project
from tests import oracle
from tests.integration import taobao
from tests.oracle import Outcome
from tests.oracle.engine import told, warehouse

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not taobao.BEHAVIOUR.exists(), reason=f"{taobao.BEHAVIOUR} is not there (OPPORTUNE_SHARED_DATA)"
    ),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with its table."""
    made = tmp_path_factory.mktemp("taobao") / "project"
    shutil.copytree(taobao.PROJECT, made)
    taobao.write_customers(made / "customers.csv")
    return made


@pytest.fixture(scope="module")
def project(directory: Path) -> Project:
    """The definitions."""
    return load_project(directory)


@pytest.fixture(scope="module")
def raws() -> list[bytes]:
    """All records in arrival order."""
    return list(taobao.messages())


@pytest.fixture(scope="module")
def expected(project: Project, raws: list[bytes]) -> Outcome:
    """What the reference evaluator says."""
    return oracle.replay(project, raws, tables=taobao.tables())


def test_the_definitions_are_worth_the_comparison(project: Project, expected: Outcome) -> None:
    happened = Counter((change.audience, change.change) for change in expected.changes)
    by_time = Counter(
        change.audience for change in expected.changes if (change.change, change.cause) == ("exited", "time")
    )
    names = [audience.name for audience in project.audiences]
    assert len(names) >= 12
    few = [name for name in names if min(happened[name, "entered"], happened[name, "exited"]) < 100]
    assert few == []
    assert sum(by_time[name] >= 100 for name in names) >= 6


def test_replay_equals_the_reference_evaluator(
    project: Project, directory: Path, raws: list[bytes], expected: Outcome
) -> None:
    result = replay(project, raws, tables=warehouse(project, directory))
    changes = told(result.changes)
    differing = next((pair for pair in zip(changes, expected.changes, strict=False) if pair[0] != pair[1]), None)
    assert differing is None
    assert len(changes) == len(expected.changes)
    assert result.refused == dict(expected.refused)
    assert result.duplicates == expected.duplicates
