"""stories/*.yml: the stories of a project.

Owns: the files, the mapping around a timeline, and that names of stories are unique.
Invariant: ``load_stories`` returns; whatever the files hold, it raises nothing.
Not here: rows (opportune.audiences.story_rows), what a story means (opportune.story), playing it (flows.replay_story).
"""

from __future__ import annotations

from pathlib import Path

from opportune.audiences.diagnostics import Diagnostic, Report, Unreadable, listed, quoted
from opportune.audiences.fields import Fields, fields_of, kind, scalar_node, text_of
from opportune.audiences.schema import Span
from opportune.audiences.story_instants import FIRST_MS, story_instant
from opportune.audiences.story_rows import Timeline
from opportune.audiences.yaml_tree import MappingNode, Node, SequenceNode, read_file
from opportune.project import Project
from opportune.story import Row, Rows, Story

STORY_KEYS = ("story", "description", "start", "person", "warehouse", "timeline")
DIRECTORY = "stories"


def load_stories(project: Project) -> tuple[list[Story], list[Diagnostic]]:
    """Reads the stories of a project.

    Args:
        project: a valid one.

    Returns:
        Those that could be read, in order of file and place; and all errors and warnings.
    """
    report = Report()
    folder = project.directory / DIRECTORY
    stories: list[Story] = []
    names: dict[str, Span] = {}
    for path in _files(folder, report):
        for document in read_file(path, report) or ():
            for node in document.items if isinstance(document, SequenceNode) else (document,):
                story = _story(node, project, names, report)
                if story is not None:
                    stories.append(story)
    return stories, report.diagnostics()


def _files(folder: Path, report: Report) -> list[Path]:
    if not folder.exists():
        return []
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        report.error(Span(str(folder), 1, 1), f"the directory cannot be read: {error.strerror}", "see its permissions")
        return []
    for path in paths:
        if path.suffix == ".yaml":
            report.error(Span(str(path), 1, 1), "story files end in `.yml`", "rename it")
    return [path for path in paths if path.suffix == ".yml"]


def _story(node: Node, project: Project, names: dict[str, Span], report: Report) -> Story | None:
    if not isinstance(node, MappingNode):
        report.error(node.span, f"a story is a mapping with `story` and `timeline`, not {kind(node)}")
        return None
    fields = fields_of(node, "a story", STORY_KEYS, report, required=("story", "timeline"))
    assert fields is not None, "a mapping has fields"
    name = _name(fields, names, report)
    person_node = fields.get("person")
    person = text_of(person_node, "`person`", report) if person_node is not None else None
    timeline = Timeline(project, report, person, _start(fields, report))
    warehouse: dict[str, Rows] = {}
    if (tables := fields.get("warehouse")) is not None:
        warehouse = timeline.tables(tables)
    rows = _rows(fields, timeline, report)
    for asked, span in timeline.asked:
        if asked not in timeline.people:
            hint = report.did_you_mean(asked, timeline.people, f"people here: {listed(sorted(timeline.people)[:8])}")
            report.error(span, f"nobody in this story is called {quoted(asked)}", hint)
    described = fields.get("description")
    scalar = scalar_node(described, "`description`", report) if described is not None else None
    if name is None or not rows:
        return None
    return Story(name, scalar.text.strip() if scalar is not None else "", warehouse, rows, fields.key_span("story"))


def _name(fields: Fields, names: dict[str, Span], report: Report) -> str | None:
    node = fields.get("story")
    name = text_of(node, "`story`", report) if node is not None else None
    if name is None or node is None:
        return None
    name = " ".join(name.split())
    if name in names:
        first = names[name]
        report.error(node.span, f"the story {quoted(name)} is there twice", f"the first is {first.file}:{first.line}")
        return None
    names[name] = node.span
    return name


def _start(fields: Fields, report: Report) -> int:
    node = fields.get("start")
    text = text_of(node, "`start`", report) if node is not None else None
    if text is None or node is None:
        return FIRST_MS
    try:
        return story_instant(text, FIRST_MS)
    except Unreadable as error:
        report.unreadable(node.span, error)
        return FIRST_MS


def _rows(fields: Fields, timeline: Timeline, report: Report) -> tuple[Row, ...]:
    node = fields.get("timeline")
    if node is None:
        return ()
    if not isinstance(node, SequenceNode) or not node.items:
        report.error(node.span, f"`timeline` is a list of rows, not {kind(node)}", "one thing after the other")
        return ()
    rows = [row for row in map(timeline.row, node.items) if row is not None]
    if rows and not any(row.expectations or row.refused for row in rows):
        expected = "`in`, `out`, `entered`, `exited` or `members`"
        report.error(fields.key_span("timeline"), "the story expects nothing", f"say {expected} in a row")
    return tuple(rows)
