"""``opportune keys``: who may call the service.

Owns: making, listing and revoking, as commands. Not here: the key file and what keys may do (api.keys).
"""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from opportune.audiences.diagnostics import printable
from opportune.clock import wall_clock_ms
from opportune.errors import ConfigurationError
from opportune.event import iso_text

DIRECTORY = click.argument(
    "directory", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
FILE = click.option("--keys", "path", type=click.Path(dir_okay=False, path_type=Path), help="Instead of DIR/keys.json.")


@click.group()
def keys() -> None:
    """Make, list and revoke the keys of `opportune serve`."""


@keys.command()
@DIRECTORY
@FILE
@click.option("--name", required=True, help="What people call it; of a write key the name of the source.")
@click.option(
    "--scope", "scopes", multiple=True, required=True, help="read:profiles, read:audiences, write:events, admin."
)
@click.option("--per-second", type=click.IntRange(min=0), default=0, help="Requests a second; 0 is no limit.")
@click.option(
    "--another", is_flag=True, help="Also where a key of this name is in force: to change keys without a gap."
)
def make(
    directory: Path, path: Path | None, name: str, scopes: tuple[str, ...], per_second: int, another: bool
) -> None:
    """Make a key and print it, once: only its hash is kept."""
    from api.keys import KEY_FILE, make_key, read_keys, write_keys

    path = path or directory / KEY_FILE
    key, text = make_key(name, scopes, iso_text(wall_clock_ms()), per_second)
    known = read_keys(path)
    same = [each.id for each in known if each.name == name and each.revoked is None]
    if same and not another:
        raise ConfigurationError(
            f"{path} has a key named {printable(name)} in force ({', '.join(same)}): choose another name, revoke it with "
            f"`opportune keys revoke --id {same[0]}`, or say --another to have both until you revoke the old one."
        )
    write_keys(path, (*known, key))
    click.echo(text)


@keys.command(name="list")
@DIRECTORY
@FILE
def list_(directory: Path, path: Path | None) -> None:
    """List the keys, without their secrets."""
    from api.keys import KEY_FILE, read_keys

    for key in read_keys(path or directory / KEY_FILE):
        state = f"revoked {key.revoked}" if key.revoked else "in force"
        click.echo(f"{key.id}  {key.name}  {','.join(key.scopes)}  made {key.made}  {state}")


@keys.command()
@DIRECTORY
@FILE
@click.option("--id", "number", required=True, help="The key's id, as `opportune keys list` shows it.")
def revoke(directory: Path, path: Path | None, number: str) -> None:
    """Revoke a key. A running service notices within a second."""
    from api.keys import KEY_FILE, read_keys, write_keys

    path = path or directory / KEY_FILE
    known = read_keys(path)
    if number not in {key.id for key in known if key.revoked is None}:
        raise ConfigurationError(f"{path} has no key {number} in force: `opportune keys list` shows them.")
    now = iso_text(wall_clock_ms())
    write_keys(path, tuple(msgspec.structs.replace(key, revoked=now) if key.id == number else key for key in known))
    click.echo(f"revoked {number}")
