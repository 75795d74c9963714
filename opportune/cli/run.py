"""``opportune run``: the streaming job.

Owns: the command's options. Without ``--worker`` it is the supervisor, which starts itself with ``--worker``.
Not here: the job (flows.worker), restarts (flows.supervisor).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import click

KILL_VARIABLE = "OPPORTUNE_KILL_AT"
"""``POINT:COUNT``: crash tests end the worker by SIGKILL when it comes to a point for that time."""


@click.command()
@click.argument(
    "directory", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--bootstrap-servers", metavar="HOST:PORT", help="Instead of kafka.bootstrap_servers of opportune.yml.")
@click.option("--state", metavar="DIR", type=click.Path(path_type=Path), help="Instead of state.directory.")
@click.option("--accept-loss", is_flag=True, help="Go on where topics have lost records that were not applied.")
@click.option("--take-over", is_flag=True, help="Go on with this state although another one has run since.")
@click.option("--topic-prefix", metavar="TEXT", default="", help="Put before the name of every topic.")
@click.option("--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]))
@click.option("--embedded", is_flag=True, hidden=True, help="The broker is the demo's.")
@click.option("--worker", is_flag=True, hidden=True, help="Be the worker, not the supervisor.")
def run(
    directory: Path,
    bootstrap_servers: str | None,
    state: Path | None,
    accept_loss: bool,
    take_over: bool,
    topic_prefix: str,
    log_level: str,
    embedded: bool,
    worker: bool,
) -> None:
    """Run the job of the project in DIR until SIGTERM or Ctrl-C: Kafka events in, membership changes out."""
    # Imported late: the engine is not needed for --help.
    from flows.logs import configure
    from flows.supervisor import supervise
    from flows.worker import Options, Worker, load

    configure(log_level)
    options = Options(directory, bootstrap_servers, state, accept_loss, embedded, topic_prefix, take_over)
    if worker:
        code = Worker(options, killer(os.environ.get(KILL_VARIABLE))).run()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    load(options)
    sys.exit(supervise([sys.executable, "-m", "opportune.cli.main", *sys.argv[1:], "--worker"]))


def killer(wanted: str | None) -> Callable[[str], None]:
    """A function that ends the process by SIGKILL when it is called for the wanted point often enough."""
    if not wanted:
        return lambda point: None
    name, _, count = wanted.partition(":")
    left = int(count or 1)

    def at_point(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return at_point
