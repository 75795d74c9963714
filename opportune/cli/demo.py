"""``opportune demo``: a shop's traffic, the job and a live view, all on this machine.

Owns: the options and how signals end the demo. Not here: what is run and shown (flows.demo.demonstration).
"""

from __future__ import annotations

import secrets
import signal
import sys
from pathlib import Path

import click

EXAMPLE = Path("examples/shop")


@click.command()
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), default=EXAMPLE)
@click.option("--bootstrap-servers", metavar="HOST:PORT", help="Use this broker; default: one that is embedded.")
@click.option("--seconds", type=click.FloatRange(min=1), help="End after so much traffic; default: at Ctrl-C.")
@click.option("--rate", type=click.FloatRange(1, 5_000), default=300, show_default=True, help="Events a second.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the traffic; default: another one every time.")
@click.option("--keep", is_flag=True, help="Keep the state, the logs and, on a real broker, the topics.")
def demo(
    directory: Path, bootstrap_servers: str | None, seconds: float | None, rate: float, seed: int | None, keep: bool
) -> None:
    """Show a project at work: a shop's traffic, the job and a live view, all on this machine.

    DIR is a project, by default examples/shop. Nothing has to be installed or running: the broker is one that the Kafka
    client carries inside, unless you name another. Ctrl-C ends everything.
    """
    from rich.console import Console

    from flows.demo.demonstration import Demonstration, Wishes
    from opportune.audiences.loader import load_project
    from opportune.clock import monotonic_ms

    if not directory.is_dir():
        raise click.UsageError(_no_project(directory))
    wishes = Wishes(
        bootstrap_servers=bootstrap_servers,
        seconds=seconds,
        rate=rate,
        seed=secrets.randbelow(1_000_000) if seed is None else seed,
        keep=keep,
        prefix=f"demo-{secrets.token_hex(3)}-",
    )
    demonstration = Demonstration(load_project(directory), wishes, Console(), monotonic_ms)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: demonstration.stop())
    sys.exit(demonstration.run())


def _no_project(directory: Path) -> str:
    if directory == EXAMPLE:
        return (
            f"there is no {EXAMPLE} here: the example project is part of the source, not of the installed package. "
            "Go to a clone of the repository, or name a project of your own: opportune demo DIR"
        )
    return f"{directory} is not a directory: name a project directory, one with an opportune.yml in it"
