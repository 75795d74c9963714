"""Stories of people who are known by several identifiers, played by a replay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.replay import replay
from opportune.audiences.loader import load_project
from state.warehouse import columns_of
from tests.language.stories import HERE, Story, stories
from tests.oracle.engine import told

STORIES = list(stories(HERE / "identity"))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.story)
def test_the_engine_tells_the_story(story: Story, tmp_path: Path) -> None:
    story.write(tmp_path)
    if story.limits:
        namespaces: dict[str, dict[str, object]] = {
            "user_id": {"path": "userId"},
            "anonymous_id": {"path": "anonymousId", "shared": True},
        }
        limited = {name: {**one, "limit": story.limits.get(name, 1)} for name, one in namespaces.items()}
        (tmp_path / "identity.yml").write_text(json.dumps({"namespaces": limited}))
    result = replay(load_project(tmp_path, columns_of), story.records(), until_ms=story.until_ms())
    assert story.tell(told(result.changes)) == story.expected()
    assert result.refused == story.refused
