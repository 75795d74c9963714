"""The command line: ``opportune COMMAND``.

Owns: the group, the list of commands, and how errors that we raise on purpose look. Each command is a click command of
its own name in ``opportune.cli.NAME`` and is imported only when it is used, so that ``check`` loads neither Kafka nor
RocksDB; one whose file is not there is not offered. Exit codes: 0 done, 1 the project is wrong, 2 the command was given
wrongly, 65 the state cannot be used, 75 waiting can help, 78 a setting or the installation is wrong; others are those of the
process.
"""

from __future__ import annotations

import errno
import importlib
import importlib.util
from typing import Any

import click

from opportune.errors import ConfigurationError, DefinitionError, OpportuneError, StateError, TransientError

COMMANDS = {
    "check": "compile a project and print everything that is wrong with it",
    "demo": "a shop's traffic, the job and a live view, all on this machine",
    "explain": "why somebody is in an audience or not, and when that will change",
    "forget": "forget a person, and say when that is complete",
    "identity": "whose an identifier is, and how that person came to be one",
    "keys": "make, list and revoke the keys of the service",
    "replay": "run files of events through the engine and print the changes",
    "run": "the streaming job: Kafka events in, membership changes out",
    "serve": "the collector and the look-ups over HTTP",
    "status": "how a job is doing, and whether it is drained",
    "subscribe": "follow the membership changes as JSON lines",
    "test": "play the stories of a project and compare memberships with what they expect",
    "warehouse": "refresh warehouse tables, see what they hold",
}
EXIT_CODES: tuple[tuple[type[OpportuneError], int], ...] = (
    (DefinitionError, 1),
    (StateError, 65),
    (ConfigurationError, 78),
    (TransientError, 75),
    (OpportuneError, 70),
)

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the system that say that a disk, also one behind standard output, takes no more."""


class Commands(click.Group):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, for ``--help``."""
        return sorted(name for name in COMMANDS if importlib.util.find_spec(_module(name)))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = getattr(importlib.import_module(_module(cmd_name)), cmd_name)
        assert isinstance(command, click.Command), f"{_module(cmd_name)} has no click command `{cmd_name}`"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands without importing them."""
        rows = [(name, COMMANDS[name]) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; an error that we raise on purpose ends it with its text and its exit code, without a trace."""
        try:
            return super().invoke(ctx)
        except OpportuneError as error:
            click.echo(str(error), err=True)
            ctx.exit(next(code for kind, code in EXIT_CODES if isinstance(error, kind)))
        except OSError as error:
            if error.errno not in FULL:
                raise
            where = f" ({error.filename})" if error.filename is not None else ""
            click.echo(
                f"what this writes does not fit: {error.strerror}{where}. Free some space and try again.", err=True
            )
            ctx.exit(75)


def _module(command: str) -> str:
    return f"opportune.cli.{command}"


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="opportune", message="%(prog)s %(version)s")
def main() -> None:
    """Opportune: who qualifies right now? Kafka events in, exact audience memberships out."""


if __name__ == "__main__":
    main()
