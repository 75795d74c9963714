"""The JSON Schemas of the project's files: they know the keys that the readers know, and accept the example."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from opportune.audiences import (
    audience_file,
    condition_reader,
    events_file,
    settings_file,
    story_file,
    story_rows,
    traits_file,
    warehouse_file,
)
from opportune.audiences.diagnostics import Report, Unreadable
from opportune.audiences.durations import duration_ms
from opportune.audiences.predicate_reader import OPERATORS
from opportune.audiences.yaml_tree import MappingNode, Node, SequenceNode, read_file, read_text

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"
FILES = [path.relative_to(EXAMPLES) for path in sorted(EXAMPLES.rglob("*.yml"))]


def schema(name: str) -> Any:
    return json.loads((ROOT / "opportune" / "schemas" / f"{name}.json").read_text())


def plain(node: Node) -> Any:
    if isinstance(node, MappingNode):
        return {key.text: plain(value) for key, value in node.entries}
    if isinstance(node, SequenceNode):
        return [plain(item) for item in node.items]
    return node.value()


@pytest.mark.parametrize("name", ["opportune", "events", "warehouse", "audiences", "stories", "traits"])
def test_they_are_schemas(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_the_example_names_its_schema_and_satisfies_it(file: Path) -> None:
    path = EXAMPLES / file
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text())
    assert named is not None
    target = (path.parent / named[1]).resolve()
    assert target.parent == ROOT / "opportune" / "schemas"
    documents = read_file(path, Report())
    assert documents
    for document in documents:
        Draft202012Validator(json.loads(target.read_text())).validate(plain(document))


def test_their_keys_are_those_of_the_readers() -> None:
    audiences, events, tables = schema("audiences"), schema("events"), schema("warehouse")
    assert set(audiences["$defs"]["audience"]["properties"]) == set(audience_file.KEYS)
    forms = audiences["$defs"]["condition"]["anyOf"][1:]
    keys = {tuple(form["properties"]) for form in forms}
    assert keys == {*condition_reader.LEAF_KEYS.values(), condition_reader.COMBINATION_KEYS}
    assert list(audiences["$defs"]["predicate"]["anyOf"][2]["properties"]) == list(OPERATORS)
    assert audiences["$defs"]["predicate"] == events["$defs"]["predicate"]
    assert list(events["$defs"]["model"]["properties"]) == list(events_file.MODEL_KEYS)
    assert events["$defs"]["model"]["properties"]["type"]["enum"] == list(events_file.CALL_TYPES)
    assert set(schema("traits")["$defs"]["trait"]["properties"]) == set(traits_file.KEYS)
    assert set(tables["$defs"]["table"]["properties"]) == set(warehouse_file.TABLE_KEYS)


def test_the_keys_of_stories_are_those_of_their_reader() -> None:
    defined = schema("stories")["$defs"]
    assert set(defined["story"]["properties"]) == set(story_file.STORY_KEYS)
    assert set(defined["row"]["properties"]) == set(story_rows.ROW_KEYS)


def test_the_keys_of_settings_are_those_of_their_reader() -> None:
    properties = schema("opportune")["properties"]
    sections = {
        "clock": settings_file.CLOCK,
        "dedupe": settings_file.DEDUPE,
        "kafka": settings_file.KAFKA,
        "topics": settings_file.TOPICS,
        "state": settings_file.STATE,
    }
    for name, keys in sections.items():
        assert set(properties[name]["properties"]) == set(keys), name
    assert set(schema("opportune")["$defs"]["poison"]["properties"]) == set(settings_file.POISON)
    report = Report()
    whole = dict.fromkeys(properties)
    documents = read_text(json.dumps(whole), "f", report)
    settings_file.read_settings(documents, report)
    assert not [found for found in report.diagnostics() if "no key" in found.message]


@pytest.mark.parametrize(
    "text",
    ["90 seconds", "10m", "1.5 hours", "PT10M", "P1DT12H", "P1W", "50 ms", "10", "P1M", "P1Y", "PT", "P", "P1DT", "1 month", "1h 30m", "ten days"],
)  # fmt: skip
def test_their_durations_are_those_of_the_reader(text: str) -> None:
    pattern = schema("audiences")["$defs"]["duration"]["pattern"]
    try:
        readable = duration_ms(text) > 0
    except Unreadable:
        readable = False
    assert bool(re.search(pattern, text)) == readable


@pytest.mark.parametrize(
    "when",
    ["{event: X, sum: a, is: \">= 1\", within: month, timezone: profile}", "{sequence: [{event: A}, {event: B, where: {a: 1}}], within: 1 day, by: c, span: 1 h, gap: 1 m}",
     "{absent: {event: A}, after: {event: B}, for: 30 minutes, by: c, within: 1 day}", "{trait: x, is: {gt: {attribute: y}}}",
     "{near: {lat: 48.8566, lon: 2.3522}, radius: 200 m, leave: .3 km, fresh: 15 minutes, event: X}", '{during: {days: [mon], from: "22:00", to: "24:00"}}'],
)  # fmt: skip
def test_they_accept_the_whole_language(when: str) -> None:
    documents = read_text(f"name: a\nwhen: {when}\n", "f", Report())
    assert documents is not None
    Draft202012Validator(schema("audiences")).validate(plain(documents[0]))


@pytest.mark.parametrize(
    "when",
    ["{event: X, times: often}", "{event: X, within: 10}", "{all: []}", "{trait: x}", "{trait: x, is: {foo: 1}}", "{event: X, trait: y}", "free",
     "{event: X, sum: a}", "{event: X, sum: a, avg: b, is: 1}", "{event: X, sum: a, is: 1, times: 2}", "{event: X, is: 1}",
     "{sequence: [{event: A}]}", "{absent: {event: A}, after: {event: B}}", "{near: {lat: 91, lon: 0}, radius: 1 m, fresh: 1 m, event: X}",
     "{near: {lat: 0, lon: 0}, radius: 1, fresh: 1 m, event: X}", '{during: {from: "9:00"}}', "{during: {days: [today]}}",
     "{event: X, times: {gte: {trait: y}}}"],
)  # fmt: skip
def test_they_refuse_what_the_readers_refuse(when: str) -> None:
    documents = read_text(f"name: a\nwhen: {when}\n", "f", Report())
    assert documents is not None
    assert not Draft202012Validator(schema("audiences")).is_valid(plain(documents[0]))
