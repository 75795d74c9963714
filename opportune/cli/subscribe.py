"""``opportune subscribe``: the membership changes of a project as JSON lines.

Owns: the command's options and output. Exit codes: 0; 1 the project is wrong; 2 wrong usage; 75 Kafka cannot be reached.
Not here: what is a repeat (flows.subscriber).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from opportune.errors import ConfigurationError

if TYPE_CHECKING:
    from opportune.membership import MembershipChange


@click.command()
@click.argument(
    "directory", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--audience", metavar="NAME", help="Only the changes of this audience.")
@click.option("--from-beginning", is_flag=True, help="Start with what the topic has, not with what comes.")
@click.option("--seconds", type=click.FloatRange(min=0), help="End by itself after this time.")
@click.option("--bootstrap-servers", metavar="HOST:PORT", help="Instead of kafka.bootstrap_servers of opportune.yml.")
@click.option("--topic-prefix", metavar="TEXT", default="", help="Put before the name of every topic.")
def subscribe(
    directory: Path,
    audience: str | None,
    from_beginning: bool,
    seconds: float | None,
    bootstrap_servers: str | None,
    topic_prefix: str,
) -> None:
    """Print the membership changes of the project in DIR as JSON lines, until Ctrl-C.

    Repeats are dropped and counted; the counts are told on standard error at the end.
    """
    # Imported late: Kafka's client is not needed for --help.
    from flows.kafka_config import consumer_config
    from flows.kafka_errors import connect
    from flows.logs import configure
    from flows.stop import Stop
    from flows.subscriber import Subscriber
    from flows.worker import Options, load

    configure()
    project = load(Options(directory, bootstrap_servers, topic_prefix=topic_prefix))
    if audience is not None and audience not in {each.name for each in project.audiences}:
        raise ConfigurationError(f"there is no audience {audience} in {directory}: `opportune check` lists them.")
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if seconds is not None:
        signal.signal(signal.SIGALRM, lambda *_: stop.set())
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    kafka = project.settings.kafka
    connect(kafka, stop)
    subscriber = Subscriber(consumer_config(kafka), project.settings.topics.memberships, from_end=not from_beginning)
    try:
        while not stop.is_set():
            _print([change for change in subscriber.poll(0.2) if audience in (None, change.audience)])
    except BrokenPipeError:
        # Whoever read the lines has enough; what is left in the buffer must not raise again at exit.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - stays open until the process ends
    finally:
        subscriber.close()
    known = subscriber.known
    click.echo(f"{known.changes} changes, {known.repeats} repeats dropped", err=True)


def _print(changes: list[MembershipChange]) -> None:
    import msgspec

    for change in changes:
        sys.stdout.write(msgspec.json.encode(change).decode() + "\n")
    if changes:
        sys.stdout.flush()
