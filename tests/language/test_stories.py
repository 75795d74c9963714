"""Every story holds: for the reference evaluator, and for the engine in a replay."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.replay import replay
from opportune.audiences.loader import load_project
from tests import oracle
from tests.language.stories import Story, stories
from tests.oracle.engine import told, warehouse

STORIES = list(stories())
each_story = pytest.mark.parametrize("story", STORIES, ids=lambda story: f"{story.file[:-4]}: {story.story}")


@each_story
def test_reference_evaluator(story: Story, tmp_path: Path) -> None:
    story.write(tmp_path)
    outcome = oracle.replay(load_project(tmp_path), story.records(), story.until_ms(), story.warehouse())
    assert story.tell(outcome.changes) == story.expected()
    assert dict(outcome.refused) == story.refused


@each_story
def test_engine(story: Story, tmp_path: Path) -> None:
    story.write(tmp_path)
    project = load_project(tmp_path)
    tables = warehouse(project, tmp_path)
    result = replay(project, story.records(), until_ms=story.until_ms(), tables=tables, counting=True)
    assert story.tell(told(result.changes)) == story.expected()
    assert result.refused == story.refused
    assert {name: result.evaluated[name] for name in story.evaluated} == story.evaluated
