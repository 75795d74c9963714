from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from opportune.cli.check import check

ROOT = Path(__file__).resolve().parents[3]


def project(directory: Path, audience: str, **files: str) -> Path:
    for name, content in {"opportune.yml": "name: a\ntopics: {retention: ever}\n", **files}.items():
        (directory / name).write_text(content)
    (directory / "audiences").mkdir()
    (directory / "audiences" / "a.yml").write_text(audience)
    return directory


def test_a_right_project_has_a_summary() -> None:
    answer = CliRunner().invoke(check, [str(ROOT / "examples" / "shop")])
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.startswith("shop: all right\n")
    assert "audiences" in answer.stdout
    assert answer.stderr == ""


def test_errors_have_place_line_caret_and_hint(tmp_path: Path) -> None:
    directory = project(tmp_path, "name: a\nwhen:\n  event: X\n  witin: 10 minutes\n")
    answer = CliRunner().invoke(check, [str(directory)])
    assert answer.exit_code == 1
    assert answer.stdout == ""
    assert answer.stderr == (
        f"{directory}/audiences/a.yml:4:3: error: a condition on `event` has no key `witin`\n"
        "    witin: 10 minutes\n    ^\n  hint: did you mean `within`?\n\n1 error, 0 warnings\n"
    )


def test_warnings_are_no_failure(tmp_path: Path) -> None:
    directory = project(tmp_path, "name: a\nwhen: {event: X, times: '>= 0'}\n")
    answer = CliRunner().invoke(check, [str(directory)])
    assert answer.exit_code == 0
    assert "a: 1 warning\n" in answer.stdout
    assert ":2:25: warning: this always holds" in answer.stderr


def test_json(tmp_path: Path) -> None:
    directory = project(tmp_path, "name: a\nwhen: {event: X, times: '>= 0'}\n")
    answer = CliRunner().invoke(check, [str(directory), "--format", "json"])
    assert answer.exit_code == 0
    found = json.loads(answer.stdout)
    assert found["ok"] is True
    assert found["project"] == {"audiences": ["a"], "events": ["X"], "traits": [], "attributes": []}
    (warning,) = found["diagnostics"]
    assert (warning["severity"], warning["line"], warning["column"]) == ("warning", 2, 25)
    (directory / "opportune.yml").unlink()
    answer = CliRunner().invoke(check, [str(directory), "--format", "json"])
    assert answer.exit_code == 1
    found = json.loads(answer.stdout)
    assert (found["ok"], found["project"]) == (False, None)


def test_wrong_usage(tmp_path: Path) -> None:
    assert CliRunner().invoke(check, [str(tmp_path / "nowhere")]).exit_code == 2
    assert CliRunner().invoke(check, [str(tmp_path), "--format", "xml"]).exit_code == 2


def test_a_table_is_looked_into(tmp_path: Path) -> None:
    directory = project(
        tmp_path,
        "name: a\nwhen: {attribute: paln, is: free}\n",
        **{"warehouse.yml": "tables: {people: {source: people.csv, key: id}}\n", "people.csv": "id,plan\n1,free\n"},
    )
    answer = CliRunner().invoke(check, [str(directory)])
    assert answer.exit_code == 1
    assert "no table has a column `paln`" in answer.stderr
    assert "did you mean `plan`?" in answer.stderr
