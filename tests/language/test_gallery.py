"""The audiences of examples/gallery do what their stories say: for the reference evaluator, and for the engine."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from flows.replay import replay
from opportune.audiences.loader import load_project
from tests import oracle
from tests.conftest import ROOT
from tests.language.gallery import Played, stories
from tests.language.kinds import kinds_of, pending
from tests.oracle.engine import told, warehouse
from tests.oracle.reading import documents, read_directory

GALLERY = ROOT / "examples" / "gallery"
COLUMNS = ("user_id", "plan", "monthly_budget", "timezone")
DEFINITION = read_directory(GALLERY)
STORIES = list(stories(GALLERY))
LACKING = kinds_of([documents(path) for path in GALLERY.rglob("*.yml") if "stories" not in path.parts]) & pending()
each_story = pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)


@each_story
def test_reference_evaluator(story: Played) -> None:
    tables = story.tables(list(DEFINITION.namespaces))
    assert story.failures(oracle.replay(DEFINITION, story.records, story.end_ms, tables).changes) == []


@pytest.mark.xfail(bool(LACKING), reason=f"pending: {', '.join(sorted(LACKING))}", strict=True)
@each_story
def test_engine(story: Played, tmp_path: Path) -> None:
    shutil.copytree(GALLERY, tmp_path / "gallery")
    with (tmp_path / "gallery" / "warehouse" / "customers.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(story.rows.get("customers", []))
    project = load_project(tmp_path / "gallery")
    tables = warehouse(project, tmp_path / "gallery")
    assert story.failures(told(replay(project, story.records, until_ms=story.end_ms, tables=tables).changes)) == []


def test_each_audience_is_in_a_story_on_both_sides() -> None:
    assert len(DEFINITION.audiences) >= 15
    seen = {(each.kind, each.audience) for story in STORIES for each in story.expected}
    assert [name for name in DEFINITION.audiences if ("entered", name) not in seen] == []
    assert [name for name in DEFINITION.audiences if not {("exited", name), ("out", name)} & seen] == []


def test_names_of_stories_are_unique() -> None:
    assert len({story.name for story in STORIES}) == len(STORIES)
