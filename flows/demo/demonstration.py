"""A demo from start to end: who is started, what is shown, when it is over, and whether it went well.

Owns: the sequence. Broker, worker, and once the flow is up the traffic and the service; then the view, until Ctrl-C, until the time is over,
or until a process dies. Invariant: however it ends, no process and (unless they are to be kept) no files or topics are left.
Not here: processes (flows.demo.tree), numbers (flows.demo.board), drawing (flows.demo.view).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from rich.console import Console
from rich.text import Text

from flows.demo.board import Board
from flows.demo.display import Display
from flows.demo.report import report
from flows.demo.service import Service
from flows.demo.tables import ChangingTables
from flows.demo.topics import delete
from flows.demo.traffic import Orders
from flows.demo.tree import Tree
from flows.demo.watch import Watch
from flows.demo.words import words
from flows.kafka_errors import connect
from flows.stop import Stop
from flows.topics import wanted, with_prefix
from opportune.clock import Clock
from opportune.errors import OpportuneError
from opportune.project import Project
from opportune.settings import Kafka, Settings

CONNECT_MS = 4_000
START_SECONDS = 20.0
DRAIN_SECONDS = 8.0
LOOK_SECONDS = 0.1
STATE = "state"
ACCOUNT = "account.json"
KEYS = "no-keys.json"
"""Is never there: on this machine the demo's service is open."""


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    Args:
        bootstrap_servers: of a real broker, or None for the embedded one.
        seconds: how long traffic flows, or None: until Ctrl-C.
        rate: events a second.
        seed: of the traffic.
        keep: whether files and topics stay.
        prefix: of the topics on a real broker.
    """

    bootstrap_servers: str | None
    seconds: float | None
    rate: float
    seed: int
    keep: bool
    prefix: str


class Demonstration:
    """One demo.

    Args:
        project: what is shown.
        wishes: how.
        console: where it is shown.
        clock: milliseconds that never go back.
    """

    def __init__(self, project: Project, wishes: Wishes, console: Console, clock: Clock) -> None:
        self._wishes = wishes
        self._console = console
        self._clock = clock
        self._project = project
        self._settings = _settings(project.settings, wishes)
        self._stop = False
        self._tables: ChangingTables | None = None
        audiences = {each.name: words(each.condition) for each in project.audiences}
        self._board = Board(project.name, audiences, self._settings.topics.events, clock())

    def stop(self) -> None:
        """End soon; safe in a signal handler."""
        self._stop = True

    def run(self) -> int:
        """Run the demo to its end.

        Returns:
            The exit code: 0 when all went well.

        Raises:
            TransientError: the broker that was named cannot be reached.
            ConfigurationError: it can, and refuses.
        """
        if self._wishes.bootstrap_servers is not None:
            connect(self._settings.kafka, Stop(), CONNECT_MS)
        directory = Path(tempfile.mkdtemp(prefix="opportune-demo-"))
        tree = Tree(directory, self._clock)
        try:
            trouble = self._perform(tree, directory)
        except OpportuneError as error:
            trouble = str(error)
        finally:
            tree.stop()
        self._say(*report(self._board))
        trouble = trouble or self._misgivings()
        self._clean(directory, keep=self._wishes.keep or trouble is not None)
        if trouble is not None:
            self._console.print(Text(f"The demo went wrong: {trouble}", style="bold red"), soft_wrap=True)
        return 0 if trouble is None else 1

    def _misgivings(self) -> str | None:
        """What was wrong although everything ended as it should, in words."""
        if self._board.restarts:
            return f"the worker has died and was started again, {self._board.restarts} times; worker.log says why"
        if not self._stop and not self._board.changes:
            return "no membership has changed: is there an audience that this traffic can enter?"
        return None

    def _perform(self, tree: Tree, directory: Path) -> str | None:
        """Everything between start and stop; returns what went wrong, in words."""
        if self._wishes.bootstrap_servers is None:
            servers = tree.start_broker({each.name: each.partitions for each in wanted(self._settings)})
            self._settings = _at(self._settings, servers)
        self._board.started_ms = self._board.now_ms = self._clock()
        self._tables = ChangingTables(self._project, directory, self._wishes.seed, self._clock)
        tree.start_worker(self._worker(directory))
        service = Service()
        watched = Watch(self._settings, self._board, directory / STATE, directory / ACCOUNT, self._clock)
        try:
            with Display(self._console, self._board, self._source) as display:
                return self._acts(
                    tree, directory, lambda: self._frame(tree, watched, service, display), watched, service
                )
        finally:
            self._say("Ending traffic, service, flow and broker ...")
            tree.stop()
            service.close()
            watched.close()
            watched.read_files()

    def _acts(
        self, tree: Tree, directory: Path, frame: Callable[[], str | None], watched: Watch, service: Service
    ) -> str | None:
        """The flow comes up, traffic flows, what is on its way arrives."""
        trouble = self._until(lambda: watched.up, START_SECONDS, frame)
        if trouble is not None or self._stop:
            return trouble
        if not watched.up:
            return f"the flow was not up after {START_SECONDS:.0f} s; it says:\n{tree.last_words('worker')}"
        tree.start_traffic(self._orders(directory))
        tree.start_service(self._serve(directory), service.descriptor)
        trouble = self._until(self._changes, self._wishes.seconds, frame)
        if trouble is not None or self._stop:
            return trouble
        tree.stop_traffic()
        trouble = self._until(self._board.drained, DRAIN_SECONDS, frame)
        if trouble is None and not self._board.drained():
            trouble = f"not everything that was sent was read {DRAIN_SECONDS:.0f} s later"
        return trouble

    def _changes(self) -> bool:
        """Changes the warehouse now and then; never done."""
        if self._tables is not None:
            self._tables.change()
        return False

    def _frame(self, tree: Tree, watched: Watch, service: Service, display: Display) -> str | None:
        """Look, show, and see whether all processes live; returns what went wrong."""
        watched.look(LOOK_SECONDS)
        if not watched.up:
            time.sleep(LOOK_SECONDS)
        service.look(self._board)
        display.show()
        return tree.died()

    def _until(self, done: Callable[[], bool], seconds: float | None, frame: Callable[[], str | None]) -> str | None:
        """Repeat until something is done, the time is over, the demo is to stop, or something goes wrong."""
        end_ms = None if seconds is None else self._clock() + round(seconds * 1000)
        while not self._stop:
            trouble = frame()
            if trouble is not None:
                return trouble
            if done() or (end_ms is not None and self._clock() >= end_ms):
                return None
        return None

    def _worker(self, directory: Path) -> list[str]:
        """The command that runs the job on what the demo has set up."""
        command = self._command("run", directory)
        return [*command, "--embedded"] if self._wishes.bootstrap_servers is None else command

    def _serve(self, directory: Path) -> list[str]:
        """The command that serves what the job makes; without keys, also where the project has some."""
        return [*self._command("serve", directory), "--keys", str(directory / KEYS)]

    def _command(self, name: str, directory: Path) -> list[str]:
        assert self._tables is not None, "the tables are there before the worker"
        command = ["opportune.cli.main", name, str(self._tables.project_directory)]
        command += ["--bootstrap-servers", self._settings.kafka.bootstrap_servers]
        command += ["--state", str(directory / STATE)]
        if self._wishes.bootstrap_servers is None:
            return command
        return [*command, "--topic-prefix", self._wishes.prefix]

    def _orders(self, directory: Path) -> Orders:
        return Orders(
            kafka={**self._settings.kafka.properties, "bootstrap.servers": self._settings.kafka.bootstrap_servers},
            topic=self._settings.topics.events[0],
            account=str(directory / ACCOUNT),
            seed=self._wishes.seed,
            rate=self._wishes.rate,
        )

    @property
    def _source(self) -> str:
        return "embedded broker" if self._wishes.bootstrap_servers is None else self._wishes.bootstrap_servers

    def _clean(self, directory: Path, *, keep: bool) -> None:
        """Remove files and topics, or say where they are."""
        real = self._wishes.bootstrap_servers is not None
        if keep:
            topics = f", topics {self._wishes.prefix}*" if real else ""
            self._say(f"Kept: {directory}{topics}")
            return
        shutil.rmtree(directory, ignore_errors=True)
        left = delete(self._settings, self._wishes.prefix) if real else []
        if left:
            self._say(f"These topics could not be deleted; delete them yourself: {', '.join(left)}")

    def _say(self, *lines: str) -> None:
        for text in lines:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def _settings(settings: Settings, wishes: Wishes) -> Settings:
    """The project's settings with the broker and the names of topics that the demo uses."""
    if wishes.bootstrap_servers is None:
        return msgspec.structs.replace(settings, kafka=Kafka())
    moved = msgspec.structs.replace(settings, topics=with_prefix(settings.topics, wishes.prefix))
    return _at(moved, wishes.bootstrap_servers)


def _at(settings: Settings, servers: str) -> Settings:
    kafka = msgspec.structs.replace(settings.kafka, bootstrap_servers=servers)
    return msgspec.structs.replace(settings, kafka=kafka)
