"""``opportune warehouse``: refresh tables, see what they hold, and let through what the guard holds back.

Owns: the commands and what they print. A refresh publishes a snapshot beside the job's state; the job that runs on that
state directory sees it within a second and puts it in force. Exit codes of its own: ``refresh`` ends with 3 where the guard
holds a snapshot back and nothing else went wrong.
Not here: refreshing (state.warehouse), putting in force (flows.refresh).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, TypeVar

import click

from opportune.errors import DefinitionError, OpportuneError, StateError

if TYPE_CHECKING:
    from opportune.project import Project
    from state.warehouse import Figures, Refreshed, Refresher

F = TypeVar("F", bound=Callable[..., Any])
PARENT_LOOK_S = 1.0
WAREHOUSE = "warehouse"
"""Below the state directory."""


def _of_project(command: F) -> F:
    """The arguments that every command has."""
    directory = click.Path(exists=True, file_okay=False, path_type=Path)
    state = click.option(
        "--state", metavar="DIR", type=click.Path(path_type=Path), help="Instead of state.directory of opportune.yml."
    )
    return click.argument("directory", metavar="[DIR]", default=".", type=directory)(state(command))


def _of_tables(command: F) -> F:
    return click.option("--table", "names", metavar="NAME", multiple=True, help="Only this table; may be repeated.")(
        command
    )


@click.group()
def warehouse() -> None:
    """Warehouse tables: refresh them, see what they hold, confirm what is held back."""


@warehouse.command()
@_of_project
@_of_tables
@click.option("--dry-run", is_flag=True, help="Read and compare, publish nothing.")
@click.option("--unguarded", is_flag=True, help="Publish whatever the guard says.")
@click.option("--full", is_flag=True, help="Read all rows, also of incremental tables.")
@click.option("--no-wait", is_flag=True, help="Give up where another process refreshes the same table.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--with-parent", is_flag=True, hidden=True, help="End when the process that started this one is gone.")
def refresh(
    directory: Path,
    state: Path | None,
    names: tuple[str, ...],
    dry_run: bool,
    unguarded: bool,
    full: bool,
    no_wait: bool,
    quiet: bool,
    with_parent: bool,
) -> None:
    """Read the tables of the project in DIR and publish a snapshot of each that has changed.

    Exit code 3: a table is held back by its guard; `opportune warehouse confirm` lets it through.
    """
    from flows.exit_codes import HELD

    if with_parent:
        Thread(target=_end_with_parent, args=(os.getppid(),), name="parent-watch", daemon=True).start()
    errors: list[OpportuneError] = []
    held = False
    for one in _refreshers(directory, state, names):
        moves: list[str] = []
        look = _looking(directory, state, moves) if dry_run else _not_looking
        with _Progress(one.table.name, shown=not quiet) as progress:
            one.progress = progress.told
            try:
                done = one.refresh(dry_run=dry_run, unguarded=unguarded, full=full, wait=not no_wait, look=look)
            except OpportuneError as error:
                # The other tables are refreshed all the same.
                errors.append(error)
                continue
        held = held or done.outcome == "held" or one.shelf.held() is not None
        click.echo("\n".join([_said(one.table.name, done, dry_run=dry_run), *moves]))
    for failed in errors[:-1]:
        click.echo(str(failed), err=True)
    if errors:
        raise errors[-1]
    if held:
        sys.exit(HELD)


@warehouse.command()
@_of_project
@_of_tables
def status(directory: Path, state: Path | None, names: tuple[str, ...]) -> None:
    """Say what each table holds, how old it is, and how its last refresh ended."""
    from opportune.event import iso_text

    for one in _refreshers(directory, state, names):
        newest, held, last = one.shelf.newest(), one.shelf.held(), one.shelf.last()
        click.echo(f"{one.table.name}:")
        if newest is None:
            click.echo("  no snapshot yet")
        else:
            click.echo(f"  snapshot {newest.version}, read {iso_text(newest.refreshed_ms)} from {newest.source}")
            click.echo(f"  {newest.rows:,} rows, {newest.blocked_rows:,} left out, {newest.bytes:,} bytes")
            click.echo(f"  columns: {', '.join(f'{name} ({kind})' for name, kind in newest.columns.items()) or 'none'}")
            _say_watermark(one)
        if held is not None:
            click.echo(f"  HELD {held.version}: {held.held}")
            click.echo(f"  to let it through: opportune warehouse confirm {directory} --table {one.table.name}")
        if last is not None:
            click.echo(f"  last refresh {iso_text(last.at_ms)}: {last.outcome}, {last.seconds:.1f} s")
            if last.outcome != "failed" and last.error and held is None:
                click.echo("  it was held back, and let through by a confirmation since")
            elif last.error and held is None:
                click.echo(f"  {last.error}")


@warehouse.command()
@_of_project
@_of_tables
def diff(directory: Path, state: Path | None, names: tuple[str, ...]) -> None:
    """Say what a refresh would change, without publishing anything: rows, values, and who enters and exits.

    Each table is looked at alone, over the state of the job as it is now. What a refresh would hold back, or does, is told too.
    """
    for one in _refreshers(directory, state, names):
        moves: list[str] = []
        look = _looking(directory, state, moves)
        with _Progress(one.table.name, shown=True) as progress:
            one.progress = progress.told
            done = one.refresh(dry_run=True, look=look)
            if done.outcome == "unchanged" and done.manifest.held:
                look(one.shelf.held_path(done.manifest), done)
        click.echo(_said(one.table.name, done, dry_run=True))
        for column, count in (done.figures.cells if done.figures is not None else {}).items():
            if count:
                click.echo(f"  {column}: {count:,} values differ")
        if moves:
            click.echo("\n".join(moves))


@warehouse.command()
@_of_project
@_of_tables
def confirm(directory: Path, state: Path | None, names: tuple[str, ...]) -> None:
    """Let the snapshots through that the guard holds back."""
    found = [one for one in _refreshers(directory, state, names) if names or one.shelf.held() is not None]
    if not found:
        click.echo("nothing is held back")
    for one in found:
        manifest = one.shelf.confirm()
        click.echo(f"{one.table.name}: snapshot {manifest.version} may come into force")


def _say_watermark(one: Refresher) -> None:
    """How far the source of an incremental table was read, and when all of it was."""
    from opportune.event import iso_text

    newest = one.shelf.newest()
    mark = one.shelf.watermark(newest) if newest is not None else None
    if mark is not None:
        value = iso_text(mark.value) if mark.instants else f"{mark.value:,}"
        click.echo(f"  incremental: read up to {mark.column} {value}; all rows at {iso_text(mark.full_ms)}")


def _not_looking(_: Path, __: Refreshed) -> None:
    """Nobody asks who would enter and exit."""


def _looking(directory: Path, state: Path | None, told: list[str]) -> Callable[[Path, Refreshed], None]:
    """What looks at a new snapshot before it is published; it adds lines about people to ``told``."""

    def look(new: Path, done: Refreshed) -> None:
        from flows.preview import looked_at, preview, shards_of
        from flows.snapshots import TableSnapshots
        from flows.succession import compiled_as_kept
        from opportune.audiences.plan import Plan
        from opportune.clock import wall_clock_ms
        from state.warehouse import open_snapshot

        root = state if state is not None else _state_directory(directory)
        project = _project(directory, root)
        plan = Plan(project)
        shards = project.settings.state.shards
        snapshots = TableSnapshots(project, plan, root, shards, wall_clock_ms)
        table = open_snapshot(new, used=plan.columns.get(done.manifest.table, []))
        stores = shards_of(root, plan.fingerprint.encode())
        try:
            compiled = compiled_as_kept(project, looked_at(stores, shards))
            moves = preview(compiled, stores, snapshots, {table.name: table}, wall_clock_ms())
        except StateError as error:
            told.append(f"  who would enter and exit is not known: {error}")
            return
        moving = {name: each for name, each in moves.items() if each.entered or each.exited}
        told.extend(f"  {name}: {each.entered:,} enter, {each.exited:,} exit" for name, each in moving.items())
        if not moving:
            told.append("  nobody would enter or exit an audience")

    return look


def _end_with_parent(parent: int) -> None:
    """A source that hangs would keep the lock of a table for ever, with nobody left to end it."""
    pause = Event()
    while os.getppid() == parent:
        pause.wait(PARENT_LOOK_S)
    os._exit(1)


def _refreshers(directory: Path, state: Path | None, names: tuple[str, ...]) -> list[Refresher]:
    """What refreshes each wanted table."""
    from opportune.audiences.plan import Plan
    from opportune.clock import wall_clock_ms
    from state.warehouse import Refresher, Shelf

    root = state if state is not None else _state_directory(directory)
    project = _project(directory, root)
    unknown = [name for name in names if name not in project.tables]
    if unknown:
        known = ", ".join(project.tables) or "none"
        raise DefinitionError(f"{directory / 'warehouse.yml'}: there is no table {unknown[0]!r}; its tables: {known}")
    used = Plan(project).columns
    return [
        Refresher(table, directory, Shelf(root / WAREHOUSE, name), used.get(name, []), wall_clock_ms)
        for name, table in project.tables.items()
        if not names or name in names
    ]


def _project(directory: Path, root: Path) -> Project:
    from opportune.audiences.loader import load_project
    from state.warehouse import columns_or_kept

    return load_project(directory, columns_or_kept(root / WAREHOUSE))


def _state_directory(directory: Path) -> Path:
    from opportune.audiences.loader import settings_of

    return directory / settings_of(directory).state.directory


def _said(name: str, done: Refreshed, *, dry_run: bool) -> str:
    manifest = done.manifest
    rows = f"{manifest.rows:,} rows"
    if done.outcome == "unchanged":
        if manifest.held:
            return f"{name}: still held back: {manifest.held}"
        return f"{name}: unchanged, {rows}"
    found = _difference(done.figures)
    if done.outcome == "held":
        return f"{name}: {'would be ' if dry_run else ''}held back: {manifest.held}; {found}"
    published = "would be published" if dry_run else f"published as {manifest.version}"
    return f"{name}: {rows}, {published}; {found}"


def _difference(figures: Figures | None) -> str:
    if figures is None:
        return "there was no snapshot before"
    return f"{figures.changed:,} rows changed, {figures.added:,} new, {figures.gone:,} gone"


class _Progress:
    """A line of progress on a terminal; nothing elsewhere."""

    def __init__(self, table: str, *, shown: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not shown or not console.is_terminal)
        self._table = table
        self._task = self._bar.add_task(table)

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def told(self, step: str, rows: int) -> None:
        """What a refresh does now."""
        self._bar.update(self._task, description=f"{self._table}: {step}, {rows:,} rows")
