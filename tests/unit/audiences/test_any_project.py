"""A project with a mistake anywhere, in files of any kind: ``check`` compiles it or says where it is wrong; never a traceback.

Mutations of the trees of examples/gallery and examples/shop: a part goes, comes twice, is renamed, or is another part of any file. So
most of a file stays right, and the deeper readers, the passes over the whole and the compiler are reached.
Not here: mutations of bytes, and trees out of nothing (tests.unit.audiences.test_any_input).
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from flows.replay import Replay
from opportune.audiences.loader import load
from opportune.cli.check import check, columns_of
from opportune.compiled import Compiled

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
PROJECTS = ("gallery", "shop")
Tree: TypeAlias = Any
TREES: dict[Path, list[Tree]] = {
    path.relative_to(EXAMPLES): list(YAML(typ="safe", pure=True).load_all(path.read_text(encoding="utf-8")))
    for project in PROJECTS
    for path in sorted((EXAMPLES / project).rglob("*.yml"))
}
PLACE = re.compile(r"\.yml:[1-9]\d*:[1-9]\d*: error: .")
MESSAGES = [
    json.dumps(
        {
            "type": "track",
            "event": event,
            "userId": f"u{number % 3}",
            "timestamp": f"2026-03-02T12:{number:02d}:00Z",
            "properties": {"category": "shoes", "total": 5, "cart_id": "c", "lat": 48.85, "lon": 2.35, "query": "tent"},
        }
    ).encode()
    for number, event in enumerate(["Product Viewed", "Order Completed", "Product Added", "Location Updated"] * 4)
]
STRANGE: tuple[Tree, ...] = (
    None,
    True,
    "",
    "a",
    0,
    -1,
    10**30,
    Decimal("0.1"),
    "10 minutes",
    ">= 3",
    "2024-01-01",
    [],
    {},
    [[]],
    {"": None},
)


def parts(tree: Tree) -> Iterator[tuple[Tree, Any]]:
    """Each place in a tree: the mapping or list, and the key or index."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from parts(tree[key])


CORPUS = [holder[key] for documents in TREES.values() for holder, key in parts(documents)] + list(STRANGE)
KEYS = sorted({key for documents in TREES.values() for holder, key in parts(documents) if isinstance(key, str)})


def changed(random: Random, documents: list[Tree]) -> None:
    """Makes one mistake."""
    places = list(parts(documents))
    if not places:
        documents.append(deepcopy(random.choice(CORPUS)))
        return
    holder, key = random.choice(places)
    what = random.choice(("goes", "renamed", "misspelt", "another", "another", "twice", "wrapped"))
    if what == "goes":
        del holder[key]
    elif what in ("renamed", "misspelt") and isinstance(holder, dict):
        name = str(key)
        at = random.randrange(len(name) + 1)
        holder[random.choice(KEYS) if what == "renamed" else name[:at] + name[at + 1 :]] = holder.pop(key)
    elif what == "twice" and isinstance(holder, list):
        holder.insert(key, deepcopy(holder[key]))
    elif what == "wrapped":
        holder[key] = [holder[key]]
    else:
        holder[key] = deepcopy(random.choice(CORPUS))


def mistaken(seed: int) -> tuple[Path, list[Tree]]:
    """A file of one of the projects with one to three mistakes."""
    random = Random(seed)
    file = random.choice(sorted(TREES))
    documents = deepcopy(TREES[file])
    for _ in range(random.choice((1, 1, 2, 3))):
        changed(random, documents)
    return file, documents


@pytest.fixture(scope="module")
def copies() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        for project in PROJECTS:
            shutil.copytree(EXAMPLES / project, Path(name) / project)
        yield Path(name)


@settings(max_examples={"dev": 60, "ci": 400}.get(settings.get_current_profile_name(), 10_000))
@given(st.integers(0, 2**32 - 1).map(mistaken))
def test_mistakes(copies: Path, case: tuple[Path, list[Tree]]) -> None:
    file, documents = case
    right = (EXAMPLES / file).read_text(encoding="utf-8")
    # JSON is YAML; decimals keep their digits as texts of the kind that every reader has to refuse or take.
    (copies / file).write_text("\n---\n".join(json.dumps(each, default=str, indent=1) for each in documents))
    try:
        judge(copies / file.parts[0])
    finally:
        (copies / file).write_text(right, encoding="utf-8")


def judge(directory: Path) -> None:
    """The project is checked; a right one runs, a wrong one has errors with their places."""
    result = CliRunner().invoke(check, [str(directory), "--explain-plan"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code in (0, 1)
    if result.exit_code == 1:
        assert PLACE.search(result.output), result.output
        return
    project, _ = load(directory, columns_of)
    assert project is not None
    if Compiled(project).plan.columns:
        return  # whether the rows of a file are right is for another test (tests.unit.warehouse)
    one = Replay(project)
    changes = list(one.run(MESSAGES))
    assert one.result.events == len(MESSAGES), changes


@pytest.mark.parametrize("project", PROJECTS)
def test_what_is_changed_is_right_before(copies: Path, project: str) -> None:
    assert CliRunner().invoke(check, [str(copies / project)]).exit_code == 0
