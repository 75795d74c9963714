"""``opportune serve``: the collector and the look-ups, as one process of HTTP.

Owns: the command's options, the refusal to listen beyond this machine without keys, and the process.
Not here: the application (api.app), keys (opportune.cli.keys).
"""

from __future__ import annotations

import ipaddress
import signal
import socket
import sys
from pathlib import Path

import click

from opportune.errors import ConfigurationError

SWITCH_S = 0.0005
"""For so long at most the event loop keeps the interpreter from the thread that takes Kafka's words. With Python's 5 ms each
of them may wait for so long: the collector took a third less, and single events a tenth longer."""


@click.command()
@click.argument(
    "directory", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Beyond this machine only with keys.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65_535))
@click.option("--keys", "key_file", type=click.Path(dir_okay=False, path_type=Path), help="Instead of DIR/keys.json.")
@click.option("--bootstrap-servers", metavar="HOST:PORT", help="Instead of kafka.bootstrap_servers of opportune.yml.")
@click.option("--state", metavar="DIR", type=click.Path(path_type=Path), help="Instead of state.directory.")
@click.option("--only", type=click.Choice(["collector", "lookups"]), help="Serve one part only.")
@click.option("--topic-prefix", metavar="TEXT", default="", help="Put before the name of every topic.")
@click.option("--request-bytes-max", default=512_000, show_default=True, type=click.IntRange(min=1_024))
@click.option(
    "--ride",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0.1, 300),
    help="Seconds that an event waits for a broker that is away.",
)
@click.option("--log-level", default="INFO", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]))
@click.option("--descriptor", type=int, hidden=True, help="A socket that listens already, handed on by the demo.")
def serve(
    directory: Path,
    *,
    host: str,
    port: int,
    key_file: Path | None,
    bootstrap_servers: str | None,
    state: Path | None,
    only: str | None,
    topic_prefix: str,
    request_bytes_max: int,
    ride: float,
    log_level: str,
    descriptor: int | None,
) -> None:
    """Serve the project in DIR over HTTP until SIGTERM or Ctrl-C."""
    # While all this loads nothing is served yet, so an end that is asked for is one at once. The server sets handlers of its own.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    # Imported late: neither the web nor Kafka is needed for --help.
    from api.app import make_app
    from api.changes.service import Changes
    from api.collector.producer import EventProducer
    from api.keys import KEY_FILE, Keyring
    from api.server import listening, serve_http
    from api.settings import ServeSettings
    from api.shards import Shards
    from flows.erasure_log import ErasureLog
    from flows.kafka_config import admin_config, consumer_config, producer_config
    from flows.logs import configure
    from flows.snapshots import TableSnapshots
    from flows.worker import Options, load, state_directory
    from opportune.clock import wall_clock_ms
    from opportune.compiled import Compiled

    configure(log_level)
    sys.setswitchinterval(SWITCH_S)
    options = Options(directory, bootstrap_servers, state, topic_prefix=topic_prefix)
    project = load(options)
    keyring = Keyring(key_file or directory / KEY_FILE)
    refuse_open_door(host, keyring.guarded)
    settings = ServeSettings(request_bytes_max=request_bytes_max, ride_ms=round(ride * 1000))
    producer, shards, changes, erasures, kafka = None, None, None, None, project.settings.kafka
    if only != "lookups":
        topic = project.settings.topics.events[0]
        producer = EventProducer(producer_config(kafka), topic, settings, admin_config(kafka))
    if only != "collector":
        compiled = Compiled(project)
        place = state_directory(project, options)
        count = project.settings.state.shards
        tables = TableSnapshots(project, compiled.plan, place, count, wall_clock_ms)
        shards = Shards(compiled, place, tables.open, settings, wall_clock_ms)
        topic = project.settings.topics.memberships
        changes = Changes(consumer_config(kafka), admin_config(kafka), topic, wall_clock_ms)
        erasures = ErasureLog(project.settings, wall_clock_ms)
    app = make_app(settings, keyring, producer, shards, changes=changes, erasures=erasures)
    on_stop = changes.stop_readers if changes is not None else lambda: None
    sockets = listening(host, port) if descriptor is None else [socket.socket(fileno=descriptor)]
    if not serve_http(app, sockets, log_level.lower(), on_stop):
        sys.exit(1)


def refuse_open_door(host: str, guarded: bool) -> None:
    """Raises ``ConfigurationError`` where a service without keys would listen beyond this machine."""
    if not guarded and not is_loopback(host):
        raise ConfigurationError(
            f"--host {host} can be reached from other machines, and no key was made: run `opportune keys make` first, or "
            "listen on 127.0.0.1."
        )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine only. A name other than localhost is not: it may resolve to anything."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
