"""A project directory becomes a project, or a list of everything that is wrong with it.

Owns: which files there are and in which order they are read: opportune.yml, events.yml, warehouse.yml,
identity.yml, traits/*.yml, audiences/*.yml.
Invariant: ``load`` returns; whatever the files hold, it raises nothing.
Not here: the meaning of each file (the ``*_file`` readers beside this one), what definitions mean together (check).
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from opportune.audiences.aggregate_reader import AggregateReader
from opportune.audiences.audience_file import Audiences, read_audiences
from opportune.audiences.check import Definitions, check
from opportune.audiences.condition_reader import ConditionReader
from opportune.audiences.diagnostics import Diagnostic, Report, Unreadable, quoted, render
from opportune.audiences.events_file import read_events
from opportune.audiences.identity_file import read_identity
from opportune.audiences.schema import AttributeValue, Span
from opportune.audiences.settings_file import read_settings
from opportune.audiences.traits_file import Traits, read_traits
from opportune.audiences.warehouse_file import ColumnsOf, Tables, read_tables
from opportune.audiences.yaml_tree import Node, read_file
from opportune.errors import DefinitionError
from opportune.project import Project
from opportune.settings import Settings

FILES = ("opportune.yml", "events.yml", "warehouse.yml", "identity.yml")
FOLDERS = ("audiences", "traits", "stories")
_SINGULAR = {"audience": "audiences", "trait": "traits", "story": "stories"}


def load(directory: Path, columns_of: ColumnsOf | None = None) -> tuple[Project | None, list[Diagnostic]]:
    """Reads and checks a project.

    Args:
        directory: where opportune.yml is.
        columns_of: gives the columns of a warehouse table's file with their types, or raises DefinitionError
            (``state.warehouse.columns_of``); None takes only what warehouse.yml declares.

    Returns:
        The project, None if there is any error; and all errors and warnings, in order of file and place.
    """
    report = Report()
    name, settings = read_settings(_documents(directory / FILES[0], report, required=True), report)
    events = read_events(_documents(directory / FILES[1], report), report)
    identity = read_identity(_documents(directory / FILES[3], report), report)
    tables = read_tables(_documents(directory / FILES[2], report), directory, columns_of, report, identity)
    traits, aggregates = Traits(), AggregateReader(events, settings.timezone, report)
    for path in _trait_files(directory, report):
        read_traits(_told_empty(path, read_file(path, report), "computed trait", report), aggregates, traits, report)
    reader, found = ConditionReader(events, tables, traits, settings.timezone, report), Audiences()
    for path in _audience_files(directory, report):
        read_audiences(_told_empty(path, read_file(path, report), "audience", report), reader, found, report)
    _stray_files(directory, report)
    check(Definitions(found.by_name, found.references, found.complete, settings), report)
    if report.has_errors:
        return None, report.diagnostics()
    audiences = tuple(found.by_name[name] for name in sorted(found.by_name))
    computed = tuple(traits.by_name[name] for name in sorted(traits.by_name))
    project = Project(
        name, directory, settings, events.models, tables.tables, audiences, identity, computed, _timezone_column(tables)
    )
    return project, report.diagnostics()


def load_project(directory: Path, columns_of: ColumnsOf | None = None) -> Project:
    """The project of a directory; arguments as ``load``.

    Raises:
        DefinitionError: its text is the whole report.
    """
    project, diagnostics = load(directory, columns_of)
    if project is None:
        raise DefinitionError(render(diagnostics))
    return project


def settings_of(directory: Path) -> Settings:
    """The settings of a project whatever else is wrong with it; the defaults stand in for what cannot be read."""
    report = Report()
    return read_settings(_documents(directory / FILES[0], report, required=True), report)[1]


def _documents(path: Path, report: Report, *, required: bool = False) -> tuple[Node, ...] | None:
    if not _there(path):
        if required:
            report.error(
                Span(str(path), 1, 1),
                f"there is no {path.name} in {path.parent.absolute()}",
                f"make one with a line {quoted('name: shop')}",
            )
        return ()
    documents = read_file(path, report)
    if required and documents == ():
        report.error(Span(str(path), 1, 1), f"{path.name} is empty", f"it needs a line {quoted('name: shop')}")
    return documents


def _told_empty(path: Path, documents: tuple[Node, ...] | None, noun: str, report: Report) -> tuple[Node, ...] | None:
    """The documents of a file, with a warning where there are none."""
    if documents == ():
        report.warning(Span(str(path), 1, 1), f"there is no {noun} in this file", "write one, or remove the file")
    return documents


def _there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _audience_files(directory: Path, report: Report) -> list[Path]:
    folder = directory / "audiences"
    if not _there(folder):
        # Said by ``_stray_files``, where a directory of another name was meant.
        if any(_meant(path) == "audiences" for path in _listed(directory, report)):
            return []
        report.warning(Span(str(folder), 1, 1), "there are no audiences", "put one into audiences/NAME.yml")
        return []
    paths = _listed(folder, report)
    files = [path for path in paths if path.suffix == ".yml"]
    for path in paths:
        if path.suffix == ".yaml":
            report.error(Span(str(path), 1, 1), "audience files end in `.yml`", "rename it")
        elif path.suffix != ".yml" and path.is_dir():
            report.warning(Span(str(path), 1, 1), "directories inside of audiences/ are not read", "move its files up")
    if not files and paths == []:
        report.warning(Span(str(folder), 1, 1), "there are no audiences", "put one into audiences/NAME.yml")
    return files


def _trait_files(directory: Path, report: Report) -> list[Path]:
    folder = directory / "traits"
    if not _there(folder):
        return []
    paths = _listed(folder, report)
    for path in paths:
        if path.suffix == ".yaml":
            report.error(Span(str(path), 1, 1), "trait files end in `.yml`", "rename it")
    return [path for path in paths if path.suffix == ".yml"]


def _timezone_column(tables: Tables) -> AttributeValue | None:
    """The column ``timezone``, where one table alone has it."""
    try:
        column = tables.resolve("timezone", Report())
    except Unreadable:
        return None
    return AttributeValue(column.table, column.name, column.type == "timestamp")


def _stray_files(directory: Path, report: Report) -> None:
    for path in _listed(directory, report):
        start = Span(str(path), 1, 1)
        if (meant := _meant(path)) is not None:
            # Without any audience nothing else is worth reading, stories least of all.
            tell = report.error if meant == "audiences" and not _there(directory / meant) else report.warning
            tell(start, "this directory looks like a part of the project, and is not read", f"name it {quoted(meant)}")
        elif path.suffix == ".yaml" and f"{path.stem}.yml" in FILES:
            report.error(start, f"this file is not read: its name is {quoted(path.stem + '.yml')}", "rename it")
        elif path.suffix in (".yml", ".yaml") and path.name not in FILES:
            near = report.did_you_mean(path.name, FILES)
            if near:
                report.warning(start, "this file is not read", near)


def _meant(path: Path) -> str | None:
    """The directory of a project that another directory with YAML in it seems to be; None where it seems none."""
    if path.name in FOLDERS or not path.is_dir():
        return None
    near = _SINGULAR.get(path.name.casefold()) or next(
        iter(get_close_matches(path.name.casefold(), FOLDERS, n=1, cutoff=0.8)), None
    )
    try:
        return near if any(each.suffix in (".yml", ".yaml") for each in path.iterdir()) else None
    except OSError:
        return None


def _listed(directory: Path, report: Report) -> list[Path]:
    """The entries of a directory in order of name, hidden ones left out."""
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        report.error(
            Span(str(directory), 1, 1), f"the directory cannot be read: {error.strerror}", "check its permissions"
        )
        return []
