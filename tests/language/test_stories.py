"""Every story holds: for the reference evaluator, and for the engine in a replay; every sentence has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows import replay
from flows.replay_result import ReplayResult
from opportune.audiences.loader import load_project
from opportune.project import Project
from state.warehouse import WarehouseTable
from tests import oracle
from tests.language import work
from tests.language.coverage import pinned, sentences, without_story
from tests.language.kinds import KNOWN, kinds, pending
from tests.language.stories import Story, instant_of, stories, write_rows
from tests.oracle.engine import told, warehouse

STORIES = list(stories())
PENDING = pending()
WORK = work.read()


def name(story: Story) -> str:
    return f"{story.file[:-4]}: {story.story}"


def for_the_engine(story: Story) -> object:
    """The story as a parameter; one with a kind that the engine lacks must fail."""
    lacking = sorted(kinds(story) & PENDING)
    marks = [pytest.mark.xfail(reason=f"pending: {', '.join(lacking)}", strict=True)] if lacking else []
    return pytest.param(story, id=name(story), marks=marks)


@pytest.mark.parametrize("story", STORIES, ids=name)
def test_reference_evaluator(story: Story) -> None:
    definition, rows = story.definition(), story.warehouse()
    outcome = oracle.replay(definition, story.records(), story.until_ms(), rows, refreshes=story.refreshed())
    assert story.tell(outcome.changes) == story.expected()
    assert dict(outcome.refused) == story.refused


@pytest.mark.parametrize("story", [for_the_engine(story) for story in STORIES])
def test_engine(story: Story, tmp_path: Path) -> None:
    story.write(tmp_path)
    project = load_project(tmp_path)
    tables = warehouse(project, tmp_path)
    result = played(story, project, tables, tmp_path)
    assert story.tell(told(result.changes)) == story.expected()
    assert result.refused == story.refused
    assert {name: result.evaluated[name] for name in story.evaluated} == story.evaluated
    assert work.line(story, result.evaluated) == WORK.get(work.key(story)), "see tests.language.work"
    # Nothing touches these: they are looked at once of each person, when the person is new.
    assert all(result.evaluated[name] <= result.profiles for name in work.untouched(story))


def evaluated_of(story: Story, directory: Path) -> dict[str, int]:
    """How often each audience of a story is evaluated."""
    story.write(directory)
    project = load_project(directory)
    return played(story, project, warehouse(project, directory), directory).evaluated


def test_the_work_of_every_story_is_written_down() -> None:
    assert list(WORK) == [name(story) for story in STORIES]


def played(story: Story, project: Project, tables: dict[str, WarehouseTable], directory: Path) -> ReplayResult:
    """A replay of the story, with what comes into force on the way."""
    if not story.refreshes:
        return replay.replay(project, story.records(), until_ms=story.until_ms(), tables=tables, counting=True)
    engine: Any = replay
    refreshes = []
    for each in story.refreshes:
        write_rows(directory, each["rows"])
        refreshes.append(engine.Refresh(instant_of(each["at"]), warehouse(project, directory)))
    one = engine.Replay(project, until_ms=story.until_ms(), tables=tables, counting=True, refreshes=refreshes)
    one.result.changes = list(one.run(story.records()))
    result: ReplayResult = one.result
    return result


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
