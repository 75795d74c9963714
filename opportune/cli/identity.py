"""``opportune identity explain``: whose an identifier is, and how that person came to be one.

Owns: the command, its options and its output, as text and as JSON. Exit codes: 0 explained, 1 the project is wrong or nobody
has the identifier, 2 wrong usage, 65 the state cannot be used.
Not here: the account (flows.identity.account).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from opportune.audiences.diagnostics import printable

if TYPE_CHECKING:
    from flows.identity.account import Account

SENTENCES = {
    "attached": "{} was attached",
    "merged": "profile {} became part of it",
    "refused": "{} was refused: a limit was reached",
    "conflict": "{} belongs to another profile, and a limit keeps the two apart",
    "lost": "{} changed hands",
}


@click.group()
def identity() -> None:
    """Whose an identifier is."""


@identity.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("identifier")
@click.option(
    "--state", metavar="STATE", type=click.Path(path_type=Path), help="The state directory, if not the project's."
)
@click.option("--json", "machine", is_flag=True, help="JSON for machines.")
def explain(directory: Path, identifier: str, state: Path | None, machine: bool) -> None:
    """Tell which profile IDENTIFIER belongs to, with all its identifiers, merges and refusals.

    IDENTIFIER is namespace:value, such as anonymous_id:a-17, or a value of the strongest namespace. The project is in DIR.
    """
    from flows.identity.account import account, identifier_of
    from opportune.audiences.loader import load_project
    from state.person import Looking
    from state.warehouse import columns_of

    project = load_project(directory, columns_of)
    try:
        text = identifier_of(project.identity, identifier)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="IDENTIFIER") from error
    shards = (state or project.directory / project.settings.state.directory) / "shards"
    with Looking(shards, project.settings.state.shards) as looking:
        found = account(looking.store_of, text)
    if found is None:
        click.echo(f"nobody has {printable(text)}: no event brought it to a profile, and no row of a table", err=True)
        sys.exit(1)
    click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2) if machine else told(found))


def told(found: Account) -> str:
    """An account for people."""
    lines = [f"{printable(found.identifier)} belongs to profile {found.profile_id}"]
    if found.merging_into is not None:
        lines.append(f"  on its way into profile {found.merging_into}")
    lines += [
        f"  has {printable(each.identifier)}{_since(each.at, each.place, each.message_id)}" for each in found.came
    ]
    lines += [f"  has claimed {printable(each)}" for each in found.claimed]
    lines.append(f"  last event or change at {found.now}")
    lines += [
        f"  {each.at}  {SENTENCES.get(each.what, each.what + ' {}').format(printable(each.about))}"
        + (_by(each.place, each.message_id) if each.place else "")
        for each in found.history
    ]
    if sum(found.counts.values()) > len(found.history):
        lines.append(f"  in all: {', '.join(f'{count} {word}' for word, count in sorted(found.counts.items()))}")
    return "\n".join(lines)


def _since(at: str | None, place: str | None, message_id: str | None) -> str:
    return "" if at is None or place is None else f" since {at}{_by(place, message_id)}"


def _by(place: str, message_id: str | None) -> str:
    """The event that did something."""
    return f", by {printable(place)}" + (f" (message {printable(message_id)})" if message_id else "")
