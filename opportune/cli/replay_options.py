"""Options that replay and explain share: instants, and files in place of warehouse tables.

Owns: reading them, and what a wrong one says. Not here: the commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from opportune.event import instant_ms

if TYPE_CHECKING:
    from flows.replay_result import Refresh
    from opportune.project import Project


def instant(text: str | None, option: str) -> int | None:
    """An instant in milliseconds since the epoch; None where none is given. Raises ``BadParameter``."""
    if text is None:
        return None
    try:
        return instant_ms(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not an ISO 8601 instant", param_hint=option) from error


class Files:
    """The files that stand in for tables.

    Args:
        project: the project.
        given: ``TABLE=FILE`` or ``TABLE=FILE@INSTANT`` texts.

    Attributes:
        first: the project with the files that are in force from before the first event.
        later: the others, in order of instant: the instant, the table's name and the file.

    Raises:
        BadParameter: there is no such table, or the text has another form.
    """

    def __init__(self, project: Project, given: tuple[str, ...]) -> None:
        tables = dict(project.tables)
        self.later: list[tuple[int, str, str]] = []
        for text in given:
            name, _, file = text.partition("=")
            if name not in tables or not file:
                known = ", ".join(sorted(tables)) or "none"
                raise click.BadParameter(
                    f"{text!r} is not TABLE=FILE of a known table ({known})", param_hint="--warehouse"
                )
            file, at_ms = _at(file)
            if at_ms is None:
                tables[name] = msgspec.structs.replace(tables[name], source=str(Path(file).resolve()))
            else:
                self.later.append((at_ms, name, str(Path(file).resolve())))
        self.later.sort(key=lambda each: each[0])
        self.first = msgspec.structs.replace(project, tables=tables)

    def refreshes(self) -> list[Refresh]:
        """The tables that come into force later, loaded. Raises ``DefinitionError``."""
        from flows.replay_result import Refresh
        from flows.worker import load_tables
        from opportune.audiences.plan import Plan

        made: dict[int, dict[str, str]] = {}
        for at_ms, name, file in self.later:
            made.setdefault(at_ms, {})[name] = file
        plan, refreshes = Plan(self.first), []
        for at_ms, files in made.items():
            tables = {
                name: msgspec.structs.replace(self.first.tables[name], source=file) for name, file in files.items()
            }
            loaded = load_tables(msgspec.structs.replace(self.first, tables=tables), plan)
            refreshes.append(Refresh(at_ms, loaded))
        return refreshes


def _at(text: str) -> tuple[str, int | None]:
    """File and instant; a name with an ``@`` that is followed by no instant is a name."""
    file, _, after = text.rpartition("@")
    try:
        return (file, instant_ms(after)) if file else (text, None)
    except ValueError:
        return text, None
