"""The house itself: what README promises exists, files stay readable, nothing of one machine is in them."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

from opportune.cli.main import COMMANDS, main
from tests.conftest import ROOT

TEXTS = {".py", ".md", ".toml", ".yml", ".yaml", ".json", ".xml", ".sh", ".lock", ".csv", ".txt", ""}
LINES_MAX = 400
MARKDOWN = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def _files() -> Iterator[Path]:
    """What git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.suffix in TEXTS and path.is_file():
            yield path


def _commands(document: Path) -> list[str]:
    """The commands of a document's shell blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", document.read_text(), re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("document", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_documents_exist(document: Path) -> None:
    for command in _commands(document):
        program, *words = command.split()
        if program == "make":
            done = subprocess.run(
                ["make", "--dry-run", *words[:1]], cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        elif program.removeprefix(".venv/bin/") == "opportune":
            assert words[0] in COMMANDS, f"{document.name}: {command}"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_tells_its_arguments(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def test_readme_names_its_two_commands() -> None:
    assert _commands(ROOT / "README.md")[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("document", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_no_file_is_too_long() -> None:
    sources = [path for path in _files() if path.suffix == ".py"]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources}
    assert {name: length for name, length in lengths.items() if length > LINES_MAX} == {}


def test_nothing_of_one_machine_is_in_a_file() -> None:
    # Spelt in pieces, so that this file does not find itself.
    places = [
        "/ho" + "me/",
        "/ro" + "ot/",
        "/wo" + "rk/",
        "/tmp/" + "v3",
        "py" + "pi.org",
        "python" + "hosted",
        "maven" + ".org",
    ]
    found = [
        f"{path.relative_to(ROOT)}: {place}"
        for path in _files()
        for place in places
        if place in path.read_text(errors="replace")
    ]
    assert found == []


def test_the_lock_file_has_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text()
    locked = {name.lower(): release for name, release in re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE)}
    wanted = [Requirement(text) for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]
    assert [str(each) for each in wanted if not each.specifier.contains(locked.get(_key(each), "0"))] == []
    assert "://" not in lock
    assert all("--hash=sha256:" in entry for entry in re.split(r"^(?=[\w.-]+==)", lock, flags=re.MULTILINE)[1:])


def _key(requirement: Requirement) -> str:
    return re.sub(r"[-_.]+", "-", requirement.name).lower()
