from __future__ import annotations

import time
from pathlib import Path

import pytest

from opportune.audiences.loader import load, load_project
from opportune.project import Project
from tests.unit.audiences.projects import problems, write

ROOT = Path(__file__).resolve().parents[3]
ONE = "name: a\nwhen: {trait: x, is: y}\n"


def test_the_example_has_neither_errors_nor_warnings() -> None:
    project, diagnostics = load(ROOT / "examples" / "shop")
    assert diagnostics == []
    assert project is not None
    assert project.name == "shop"
    assert len(project.audiences) == 14


def test_only_a_name_is_needed(tmp_path: Path) -> None:
    found = problems(tmp_path, {})
    assert found == ["audiences:1:1 warning: there are no audiences"]
    assert load_project(tmp_path).audiences == ()


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    project, found = load(tmp_path / "nowhere")
    assert project is None
    assert any(f"there is no opportune.yml in {tmp_path / 'nowhere'}" in one.message for one in found)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("audiences/b.yaml", ONE, "audiences/b.yaml:1:1 error: audience files end in `.yml`"),
        ("audiences/more/b.yml", ONE, "audiences/more:1:1 warning: directories inside of audiences/ are not read"),
        ("events.yaml", "A: {}\n", "events.yaml:1:1 error: this file is not read: its name is `events.yml`"),
        ("event.yml", "A: {}\n", "event.yml:1:1 warning: this file is not read"),
        ("traits/a.yaml", "name: a\n", "traits/a.yaml:1:1 error: trait files end in `.yml`"),
    ],
)
def test_files_that_are_not_read_are_not_passed_over(tmp_path: Path, name: str, content: str, expected: str) -> None:
    assert problems(tmp_path, {"audiences/a.yml": ONE, name: content}) == [expected]


def test_other_files_are_nobodys_business(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"audiences/a.yml": ONE, "audiences/.hidden.yml": "[", "audiences/notes.md": "x"}
    assert problems(tmp_path, {**files, "docker-compose.yml": "a: b\n", "stories/a.yml": "x\n"}) == []


def test_a_file_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "opportune.yml": "name: [\n",
        "events.yml": b"\xff",
        "warehouse.yml": "\ttables: {}\n",
        "audiences/a.yml": "name: a\nwhen: [{event: X}, {attribute: plan, is: free}, {trait: y}]\n",
    }
    found = problems(tmp_path, files)
    assert sorted(one.partition(":")[0] for one in found if " error: " in one) == [
        "audiences/a.yml",
        "events.yml",
        "opportune.yml",
        "warehouse.yml",
    ]
    assert [one for one in found if "compared with nothing" in one]
    assert not [one for one in found if "no table" in one or "does not declare" in one]


def thousand(directory: Path) -> Path:
    files: dict[str, str | bytes] = {
        "warehouse.yml": "tables: {people: {source: p.csv, key: id, columns: {plan: string}}}\n",
        "events.yml": "".join(f"Event {n}: {{properties: {{price: number}}}}\n" for n in range(200)),
    }
    for n in range(1_000):
        files[f"audiences/a{n:04}.yml"] = (
            f"name: a{n}\ndescription: number {n}\nwhen:\n  all:\n    - event: Event {n % 200}\n"
            f"      where: {{price: {{gte: {n}}}}}\n      times: '>= 3'\n      within: 10 minutes\n"
            f"    - attribute: plan\n      is: [free, pro]\n  none:\n    - event: Event {n % 7}\n      within: 1 day\n"
        )
    return write(directory, files)


def test_a_thousand_audiences_load_in_a_few_seconds(tmp_path: Path) -> None:
    thousand(tmp_path)
    began = time.process_time()
    project = load_project(tmp_path)
    seconds = time.process_time() - began
    assert isinstance(project, Project)
    assert len(project.audiences) == 1_000
    assert seconds < 15, f"{seconds:.1f} s of CPU; it takes about 2"


def test_a_thousand_mistakes_are_told_in_a_few_seconds(tmp_path: Path) -> None:
    thousand(tmp_path)
    for path in (tmp_path / "audiences").iterdir():
        path.write_text(path.read_text().replace("Event ", "Evnet x").replace("plan", "paln"))
    began = time.process_time()
    project, found = load(tmp_path)
    assert project is None
    assert len(found) >= 3_000
    assert time.process_time() - began < 30
