"""Every story holds: for the reference evaluator, and for the engine in a replay; every sentence has one."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.replay import replay
from opportune.audiences.loader import load_project
from tests import oracle
from tests.language.coverage import pinned, sentences, without_story
from tests.language.kinds import KNOWN, kinds, pending
from tests.language.stories import Story, stories
from tests.oracle.engine import told, warehouse

STORIES = list(stories())
PENDING = pending()


def name(story: Story) -> str:
    return f"{story.file[:-4]}: {story.story}"


def for_the_engine(story: Story) -> object:
    """The story as a parameter; one with a kind that the engine lacks must fail."""
    lacking = sorted(kinds(story) & PENDING)
    marks = [pytest.mark.xfail(reason=f"pending: {', '.join(lacking)}", strict=True)] if lacking else []
    return pytest.param(story, id=name(story), marks=marks)


@pytest.mark.parametrize("story", STORIES, ids=name)
def test_reference_evaluator(story: Story) -> None:
    outcome = oracle.replay(story.definition(), story.records(), story.until_ms(), story.warehouse())
    assert story.tell(outcome.changes) == story.expected()
    assert dict(outcome.refused) == story.refused


@pytest.mark.parametrize("story", [for_the_engine(story) for story in STORIES])
def test_engine(story: Story, tmp_path: Path) -> None:
    story.write(tmp_path)
    project = load_project(tmp_path)
    tables = warehouse(project, tmp_path)
    result = replay(project, story.records(), until_ms=story.until_ms(), tables=tables, counting=True)
    assert story.tell(told(result.changes)) == story.expected()
    assert result.refused == story.refused
    assert {name: result.evaluated[name] for name in story.evaluated} == story.evaluated


@pytest.mark.parametrize("story", STORIES, ids=name)
def test_it_names_sentences_of_the_page(story: Story) -> None:
    assert pinned(story)


def test_every_sentence_has_a_story() -> None:
    assert without_story(STORIES) == []
    assert len(set(sentences())) == len(sentences()) > 100


def test_names_of_stories_are_unique() -> None:
    assert len({name(story) for story in STORIES}) == len(STORIES) >= 150


def test_what_is_pending_is_a_kind() -> None:
    assert PENDING <= KNOWN
