"""``opportune forget``: forget a person, and ask how far that has come.

Owns: the command, its options and its output, as text and as JSON. Exit codes: 0 asked, or complete where that was waited or
asked for; 1 the project is wrong or there is no such request; 2 wrong usage; 75 not complete yet, or Kafka cannot be reached.
Not here: the request (flows.erasure_log), what the job does about it (flows.identity.forgetting).
"""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import click

from opportune.audiences.diagnostics import printable
from opportune.errors import TransientError

if TYPE_CHECKING:
    from flows.erasure_log import Asked, ErasureLog

LATER = 75
PAUSE_S = 0.2
STATES = {
    "pending": "the job has not forgotten everybody yet",
    "erased": "everybody is forgotten; what is on its way is being waited for",
    "complete": "everybody is forgotten, and nothing of them is on its way",
}


@click.command()
@click.argument("words", metavar="IDENTIFIER... [DIR]", nargs=-1)
@click.option("--status", "request", metavar="REQUEST", help="Say how far an earlier request has come.")
@click.option("--wait", is_flag=True, help="Wait until the request is complete.")
@click.option(
    "--seconds", default=120.0, show_default=True, type=click.FloatRange(min=0), help="Wait no longer than this."
)
@click.option("--json", "machine", is_flag=True, help="JSON for machines.")
@click.option("--bootstrap-servers", metavar="HOST:PORT", help="Instead of kafka.bootstrap_servers of opportune.yml.")
@click.option("--topic-prefix", metavar="TEXT", default="", help="Put before the name of every topic.")
def forget(
    words: tuple[str, ...],
    request: str | None,
    wait: bool,
    seconds: float,
    machine: bool,
    bootstrap_servers: str | None,
    topic_prefix: str,
) -> None:
    """Forget whoever has an IDENTIFIER: namespace:value, or a value of the strongest namespace that has no colon.

    The running job of the project in DIR removes all that it has of the person, exits their memberships with the cause
    `deleted`, and refuses their events of before. With --status nobody is forgotten.
    """
    # Imported late: Kafka's client is not needed for --help.
    from flows.erasure_log import ErasureLog
    from flows.identity.account import identifier_of
    from flows.worker import Options, load
    from opportune.clock import wall_clock_ms

    identifiers, directory = _parted(words)
    _refuse_strays(identifiers)
    if bool(identifiers) == (request is not None):
        raise click.UsageError("give one or more identifiers, or --status REQUEST")
    project = load(Options(directory, bootstrap_servers, topic_prefix=topic_prefix))
    try:
        texts = [identifier_of(project.identity, one) for one in identifiers]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="IDENTIFIER") from error
    log = ErasureLog(project.settings, wall_clock_ms)
    try:
        name = request if request is not None else log.ask(texts)
        asked = _followed(log, name, seconds if wait else 0.0)
    except TransientError as error:
        click.echo(str(error), err=True)
        sys.exit(LATER)
    finally:
        log.close()
    if asked is None:
        click.echo(f"there is no request {printable(name)} on this control topic", err=True)
        sys.exit(1)
    click.echo(_json(asked) if machine else told(asked))
    sys.exit(LATER if asked.state != "complete" and (wait or request is not None) else 0)


def _parted(words: tuple[str, ...]) -> tuple[list[str], Path]:
    """The identifiers among the words, and the project: the first or last word where that is one, else where we are."""
    for place in (-1, 0):
        if words and (Path(words[place]) / "opportune.yml").is_file():
            rest = list(words)
            return rest, Path(rest.pop(place))
    if not Path("opportune.yml").is_file():
        looked = dict.fromkeys(Path(each).absolute() for each in ("", *words[-1:], *words[:1]))
        places = ", nor in ".join(printable(str(each)) for each in looked)
        raise click.UsageError(f"there is no opportune.yml in {places}: the last word is the directory of the project")
    return list(words), Path()


def _refuse_strays(identifiers: list[str]) -> None:
    """Raises a usage error where one of several words may be a directory that was mistyped: nobody can undo an erasure."""
    stray = next((each for each in identifiers if ":" not in each), None)
    if stray is not None and len(identifiers) > 1:
        raise click.UsageError(
            f"{printable(stray)!r} is no directory with an opportune.yml, and among several identifiers each is written "
            f"namespace:value, such as user_id:{printable(stray)}"
        )


def _followed(log: ErasureLog, request: str, seconds: float) -> Asked | None:
    """How far a request has come, as soon as it is complete, or when the time is over."""
    from opportune.clock import monotonic_ms

    pause, deadline = Event(), monotonic_ms() + seconds * 1_000
    while True:
        asked = log.status(request)
        if asked is None or asked.state == "complete" or monotonic_ms() >= deadline:
            return asked
        pause.wait(PAUSE_S)


def _json(asked: Asked) -> str:
    import msgspec

    return msgspec.json.encode(asked).decode()


def told(asked: Asked) -> str:
    """A request for people."""
    nobody = not asked.profiles and asked.state != "pending"
    return "\n".join([
        f"request {asked.request}, made at {asked.requested_at}: {asked.state}",
        f"  {STATES[asked.state]}" + (f", since {asked.completed_at}" if asked.completed_at is not None else ""),
        f"  profiles forgotten: {asked.profiles}"
        + (": nobody had this identifier, or has it any more; see that it is written as the events have it" if nobody else ""),
        f"  their earlier events stay refused until {asked.suppressed_until}",
        f"  refused records of before are in the dead letters topic until {asked.dead_letters_until} at most",
    ])  # fmt: skip
