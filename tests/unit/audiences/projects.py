"""Projects as texts in a test: written into a directory, loaded, and what was found in short form."""

from __future__ import annotations

from pathlib import Path

from opportune.audiences.diagnostics import Diagnostic
from opportune.audiences.loader import load
from opportune.audiences.schema import Audience, Condition, Predicate
from opportune.audiences.warehouse_file import ColumnsOf
from opportune.project import Project

EVENTS = """\
Order Completed:
  properties: {total: number, coupon: string, at: timestamp, gift: boolean, sku: {path: products.sku, type: string}}
Cart Viewed: {type: page, name: Cart}
"""
WAREHOUSE = """\
tables:
  customers: {source: customers.csv, key: user_id, columns: {plan: string, mrr: number, since: timestamp, vip: boolean}}
"""


def write(directory: Path, files: dict[str, str | bytes]) -> Path:
    """Writes the files of a project; opportune.yml is added where it is not given."""
    for name, content in {"opportune.yml": "name: shop\ntopics: {retention: ever}\n", **files}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return directory


def short(found: Diagnostic, directory: Path) -> str:
    """A diagnostic as ``file:line:column severity: message``."""
    span = found.span
    return f"{Path(span.file).relative_to(directory)}:{span.line}:{span.column} {found.severity}: {found.message}"


def loaded(
    directory: Path, files: dict[str, str | bytes], columns_of: ColumnsOf | None = None
) -> tuple[Project | None, list[Diagnostic]]:
    """Writes and loads a project."""
    return load(write(directory, files), columns_of)


def problems(directory: Path, files: dict[str, str | bytes], columns_of: ColumnsOf | None = None) -> list[str]:
    """What is found in a project, in short form."""
    return [short(found, directory) for found in loaded(directory, files, columns_of)[1]]


def audience_problems(directory: Path, text: str, **files: str) -> list[str]:
    """What is found in one audience file beside the usual events and tables, without the file's name."""
    given: dict[str, str | bytes] = {"events.yml": EVENTS, "warehouse.yml": WAREHOUSE, **files}
    found = problems(directory, {**given, "audiences/a.yml": text})
    return [problem.removeprefix("audiences/a.yml:") for problem in found]


def audience(directory: Path, text: str) -> Audience:
    """The only audience of a file that must be right."""
    files: dict[str, str | bytes] = {"events.yml": EVENTS, "warehouse.yml": WAREHOUSE, "audiences/a.yml": text}
    project, found = loaded(directory, files)
    assert project is not None, [short(one, directory) for one in found]
    (only,) = project.audiences
    return only


def condition(directory: Path, when: str) -> Condition:
    """The condition of ``when: ...``, one line of flow style."""
    return audience(directory, f"name: a\nwhen: {when}\n").condition


def predicate(directory: Path, text: str, subject: str = "trait: x") -> Predicate:
    """The predicate of ``is: ...`` on a trait, or another subject."""
    found = condition(directory, f"{{{subject}, is: {text}}}")
    assert hasattr(found, "predicate")
    assert isinstance(found.predicate, Predicate)
    return found.predicate
