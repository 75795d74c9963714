"""The examples of docs/language.md are what they say."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import msgspec
import pytest

from opportune.audiences.durations import duration_ms
from opportune.audiences.predicate_reader import OPERATORS
from opportune.settings import Settings
from tests.conftest import ROOT
from tests.unit.audiences.projects import problems

PAGE = (ROOT / "docs" / "language.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
TABLES = "tables: {customers: {source: c.csv, key: user_id, columns: {plan: string}}}\n"
LOYAL = "name: loyal\nwhen: {trait: x, is: y}\n"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split("\n", 1)[0])
def test_each_example_is_right(tmp_path: Path, example: str) -> None:
    files: dict[str, str | bytes] = {"warehouse.yml": TABLES, "audiences/loyal.yml": LOYAL}
    if example.startswith("tables:"):
        files["warehouse.yml"] = example
    elif "lifetime_value" in example:
        files["traits/a.yml"] = example
        files["audiences/a.yml"] = "name: a\nwhen: {trait: lifetime_value, is: '>= 100'}\n"
    elif example.startswith(("Cart", "Large")):
        files["events.yml"] = example
    elif example.startswith("name:"):
        files["audiences/a.yml"] = example
    elif example.startswith("when:"):
        files["audiences/a.yml"] = "name: a\n" + example
    else:
        files["audiences/a.yml"] = "name: a\nwhen:\n" + textwrap.indent(example, "  ")
    assert problems(tmp_path, files) == []


def test_every_operator_is_explained() -> None:
    table = PAGE.split("| operator | takes |")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+)`", table.replace("`true`", "").replace("`false`", ""))) == set(OPERATORS)


def test_its_durations_are_durations() -> None:
    table = PAGE.split("| form | examples |")[1].split("\n\n")[0]
    found = [text for row in table.splitlines()[2:] for text in re.findall(r"`([^`]+)`", row)]
    assert len(found) > 10
    assert all(duration_ms(text) for text in found)


def test_its_defaults_are_those_of_the_settings() -> None:
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| `([^`]+)` \|", PAGE, re.MULTILINE))
    settings = Settings()
    assert duration_ms(rows["session.gap"]) == settings.session_gap_ms
    assert duration_ms(rows["clock.lateness"]) == settings.clock.lateness_ms
    assert duration_ms(rows["clock.idle"]) == settings.clock.idle_ms
    assert duration_ms(rows["clock.mark"]) == settings.clock.mark_ms
    assert duration_ms(rows["clock.skew"]) == settings.clock.skew_ms
    assert duration_ms(rows["dedupe.period"]) == settings.dedupe.period_ms
    assert duration_ms(rows["erasure.remember"]) == settings.erasure.remember_ms
    assert duration_ms(rows["topics.mailbox_retention"]) == settings.topics.mailbox_retention_ms
    assert duration_ms(rows["topics.retention"]) == settings.topics.retention_ms
    assert duration_ms(rows["topics.watch"]) == settings.topics.watch_ms
    assert duration_ms(rows["epoch"]) == settings.epoch_ms
    assert duration_ms(rows["watchdog"]) == settings.watchdog_ms
    assert rows["kafka.bootstrap_servers"] == settings.kafka.bootstrap_servers
    numbers = {"topics.partitions": 12, "topics.replication": -1, "state.shards": 1, "event_bytes_max": 1_048_576}
    assert {key: int(rows[key]) for key in numbers} == numbers
    assert numbers["topics.partitions"] == settings.topics.partitions
    assert numbers["state.shards"] == settings.state.shards
    assert numbers["event_bytes_max"] == settings.event_bytes_max


def _keys_of_the_schema() -> set[str]:
    """The keys of opportune.yml as the schema has them, with a point between a section and its key."""
    whole = msgspec.json.decode((ROOT / "opportune" / "schemas" / "opportune.json").read_bytes())
    found = set()
    for name, schema in whole["properties"].items():
        forms = [
            whole["$defs"][form["$ref"].split("/")[-1]] if "$ref" in form else form
            for form in schema.get("anyOf", [schema])
        ]
        mappings = [each for each in forms if "properties" in each]
        found |= {f"{name}.{key}" for each in mappings for key in each["properties"]}
        if len(mappings) < len(forms):
            found.add(name)
    return found


@pytest.mark.parametrize(
    ("page", "heading"), [("language.md", "## Settings\n"), ("operations.md", "## Settings: opportune.yml\n")]
)
def test_the_settings_of_a_page_are_those_of_the_schema(page: str, heading: str) -> None:
    section = (ROOT / "docs" / page).read_text().split(heading)[1].split("\n## ")[0]
    found: set[str] = set()
    for row in re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE):
        first = ""
        for name in re.findall(r"`([a-z_.]+)`", row):
            first = name if not name.startswith(".") else first
            found.add(name if not name.startswith(".") else first.split(".")[0] + name)
    assert found == _keys_of_the_schema()
