"""Every story holds for the reference evaluator."""

from __future__ import annotations

from pathlib import Path

import pytest

from opportune.audiences.loader import load_project
from tests import oracle
from tests.language.stories import Story, stories

STORIES = list(stories())
each_story = pytest.mark.parametrize("story", STORIES, ids=lambda story: f"{story.file[:-4]}: {story.story}")


@each_story
def test_reference_evaluator(story: Story, tmp_path: Path) -> None:
    story.write(tmp_path)
    outcome = oracle.replay(load_project(tmp_path), story.records(), story.until_ms(), story.warehouse())
    assert story.tell(outcome.changes) == story.expected()
    assert dict(outcome.refused) == story.refused
