"""The worker process: everything of a job put together, run, and ended with an exit code.

Owns: the order of the start (project, tables, broker, topics, shards, positions, flow) and of the end.
Where reading goes on is the least of the shards' applied positions; what the engine kept is a hint.
Not here: the supervisor that starts workers (flows.supervisor), the command line (opportune.cli.run).
"""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, Message, TopicPartition

from flows import dataflow
from flows.actor import Actor, ignore
from flows.careful import CarefulConsumer
from flows.changes import ChangeWriter
from flows.control import control_message
from flows.dead_letters import DeadLetters
from flows.deaths import Deaths, Record
from flows.delivery import Delivery
from flows.end_marks import EndMarks
from flows.erasure_log import last_generation, read_erasures
from flows.exit_codes import BUG, CLEAN, PLANNED_RESTART, exit_code_of
from flows.generations import open_shards
from flows.hub import Hub
from flows.in_force import in_force, least_in_force
from flows.inputs import Input
from flows.job import Job, snapshot_of
from flows.kafka_config import admin_config, consumer_config, producer_config, with_environment
from flows.kafka_errors import connect
from flows.log_time import LogTime
from flows.mail import MailTopics
from flows.mail_time import MailTime
from flows.mailbox_trim import trims_of
from flows.metrics import Metrics, StatusFile
from flows.refresh import put_in_force
from flows.refresher import TableRefreshes
from flows.routing import expected, router_of, started
from flows.sinks import MembershipSink, shard_of_key
from flows.snapshots import DIRECTORY, TableSnapshots
from flows.stop import Stop
from flows.succession import compiled_for
from flows.supervisor import die_with_supervisor
from flows.topic_positions import end_of
from flows.topic_state import check_topics
from flows.topic_watch import TopicWatch
from flows.topics import Topic, TopicSet, prepare, with_prefix
from flows.watchdog import Watchdog
from opportune.audiences.loader import load_project, settings_of
from opportune.audiences.plan import Plan
from opportune.clock import monotonic_ms, wall_clock_ms
from opportune.compiled import Compiled
from opportune.errors import OpportuneError
from opportune.project import Project
from opportune.settings import Kafka, Settings
from state.rocks import RocksStore, shared_memory
from state.warehouse import WarehouseTable, columns_or_kept, load_table

log = logging.getLogger(__name__)

FIRST_RECORD_S = 5.0
MAIL_PACE_MS = 20
"""Mail between shards waits so long for more, by log time: each time that some goes out, the disk is synced."""


class Options(msgspec.Struct, frozen=True):
    """What the command line adds to a project.

    Args:
        directory: the project's.
        bootstrap_servers: instead of ``kafka.bootstrap_servers``.
        state: instead of ``state.directory``.
        accept_loss: go on where topics have lost records.
        embedded: the broker is the one of the demo, which has no topic ids and makes no topics.
        topic_prefix: put before the name of every topic.
        take_over: go on although another state has run since.
    """

    directory: Path
    bootstrap_servers: str | None = None
    state: Path | None = None
    accept_loss: bool = False
    embedded: bool = False
    topic_prefix: str = ""
    take_over: bool = False


def load(options: Options) -> Project:
    """The project with what the command line and the environment replace. Raises ``DefinitionError``."""
    known = settings_of(options.directory).state.directory
    state = options.state or options.directory / known
    project = load_project(options.directory, columns_or_kept(state / DIRECTORY))
    settings = reached(project.settings, options.bootstrap_servers, options.topic_prefix)
    return msgspec.structs.replace(project, settings=settings)


def reached(settings: Settings, bootstrap_servers: str | None, topic_prefix: str) -> Settings:
    """The settings with the broker and the names of topics that the environment and the command line say."""
    kafka = with_environment(settings.kafka, os.environ)
    if bootstrap_servers:
        kafka = msgspec.structs.replace(kafka, bootstrap_servers=bootstrap_servers)
    return msgspec.structs.replace(settings, kafka=kafka, topics=with_prefix(settings.topics, topic_prefix))


def state_directory(project: Project, options: Options) -> Path:
    """Where the shards of a project live."""
    return options.state or project.directory / project.settings.state.directory


def load_tables(project: Project, plan: Plan) -> dict[str, WarehouseTable]:
    """All tables of a project. Raises ``DefinitionError``."""
    used = plan.columns
    return {
        name: load_table(table, project.directory, {column: table.columns.get(column) for column in used.get(name, [])})
        for name, table in project.tables.items()
    }


class Worker:
    """One run of a job.

    Args:
        options: the command line's.
        on_point: called at the named points of the work; crash tests end the process there.
    """

    def __init__(self, options: Options, on_point: Callable[[str], None] = ignore) -> None:
        self.options = options
        self.on_point = on_point
        self.stop = Stop()
        self.job: Job | None = None
        self.deaths: Deaths | None = None
        self.failed: Record | None = None

    def run(self) -> int:
        """Runs until asked to stop; returns the exit code."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        die_with_supervisor(os.environ)
        try:
            return self._run()
        except BaseException as raised:  # what Bytewax passes on may be a panic, which is no Exception
            return self._ended_by(raised)

    def _on_signal(self, *_: Any) -> None:
        self.stop.set()
        if self.job is not None:
            self.job.stopping = True

    def _end(self, error: BaseException) -> None:
        """Ends the process at an error of the flow: its state is as after a crash, which is what a start is made for."""
        code = self._ended_by(error)
        logging.shutdown()
        os._exit(code)

    def _ended_by(self, raised: BaseException) -> int:
        """Tells what ended the run; every error of ours is one sentence, a bug has its trace."""
        error = self.job.error if self.job is not None and self.job.error is not None else raised
        if self.stop.is_set() and isinstance(error, OpportuneError):
            log.info("stopped: %s", error)
            if self.deaths is not None:
                self.deaths.stopped()
            return CLEAN
        if isinstance(error, OpportuneError):
            log.error("%s", error)
        else:
            log.error("a bug ended the worker", exc_info=error)
        if self.deaths is not None:
            try:
                self.deaths.failed(self.failed, error)
            except OpportuneError as verdict:
                log.error("%s", verdict)
                return exit_code_of(verdict)
        return exit_code_of(error)

    def _run(self) -> int:
        project = load(self.options)
        plan = Plan(project)
        settings = project.settings
        admin = connect(settings.kafka, self.stop)
        topics = prepare(settings, admin, self.stop, embedded=self.options.embedded)
        directory = state_directory(project, self.options)
        snapshots = TableSnapshots(project, plan, directory, settings.state.shards, wall_clock_ms)
        actors = self._open(project, plan, snapshots, topics, directory)
        compiled = actors[0].compiled
        check_topics(actors, topics, accept_loss=self.options.accept_loss)
        inputs = [
            self._input(actors, topic, number, mail=topic is topics.mailbox)
            for topic in topics.read()
            for number in range(topic.partitions)
        ]
        read = {topic.name for topic in topics.events}
        events = [one for one in inputs if one.topic in read]
        recall(settings.kafka, actors, topics)
        for actor in actors:
            actor.begin((one.topic_id, one.partition, one.read, one.mark_ms) for one in inputs)
        new = [actor for actor in actors if not actor.refresh.known]
        began_ms = first_instant(settings.kafka, events) if new else 0
        for actor in actors:
            for _ in put_in_force(actor, actor.refresh.tables, settings.state.shards, began_ms):
                if self.stop.is_set():
                    return CLEAN
            actor.hand_over.sent = actor.outbox.first - 1
        return self._flow(project, compiled, snapshots, actors, topics, inputs, events, directory)

    def _open(
        self,
        project: Project,
        plan: Plan,
        snapshots: TableSnapshots,
        topics: TopicSet,
        directory: Path,
    ) -> list[Actor]:
        newest = snapshots.newest()
        memory = shared_memory()
        shards = project.settings.state.shards
        stores = [RocksStore(directory / "shards" / f"{shard:04d}", memory) for shard in range(shards)]
        last = partial(last_generation, consumer_config(project.settings.kafka), topics.control)
        fit = [expected(project, plan, shard) for shard in range(shards)]
        open_shards(stores, fit, last, other=self.options.take_over)
        compiled = compiled_for(project, stores)
        changes = ChangeWriter(compiled, topics.memberships.name, topics.memberships.partitions, wall_clock_ms)
        letters = DeadLetters(topics.dead_letters.name, project.settings.event_bytes_max)
        mailbox, control = topics.mailbox, topics.control
        mail = MailTopics(mailbox.name, mailbox.topic_id, control.name, control.topic_id)
        actors = []
        for shard, store in enumerate(stores):
            # A snapshot that is gone cannot be compared with: then everybody is looked at.
            tables = snapshots.open(in_force(store).versions) or snapshots.open(newest)
            assert tables is not None, "a snapshot that was just opened is gone"
            actor = Actor(
                shard,
                compiled,
                store,
                tables=tables,
                changes=changes,
                dead_letters=letters,
                mail=mail,
                shards=shards,
                snapshots=snapshots,
                on_point=self.on_point,
                on_poison=self._on_poison,
                mail_pace_ms=MAIL_PACE_MS,
            )
            actors.append(actor)
        return actors

    def _on_poison(self, record: Any, _: BaseException) -> None:
        self.failed = Record(record.topic() or "", record.partition() or 0, record.offset() or 0)

    def _input(self, actors: list[Actor], topic: Topic, number: int, *, mail: bool) -> Input:
        """Where a partition is read on; of the mail a new state reads none that its predecessor has sent."""
        places = [actor.positions.get(topic.topic_id, number) for actor in actors]
        known = [place for place in places if place is not None]
        offset, time_ms = (
            min(known)
            if len(known) == len(places)
            else ((topic.ends if mail and not known else topic.starts)[number], 0)
        )
        return Input(topic.name, topic.topic_id, number, offset, time_ms)

    def _flow(
        self,
        project: Project,
        compiled: Compiled,
        snapshots: TableSnapshots,
        actors: list[Actor],
        topics: TopicSet,
        inputs: list[Input],
        events: list[Input],
        directory: Path,
    ) -> int:
        settings = project.settings
        deaths = self.deaths = Deaths(directory, settings.poison)
        mode = deaths.start(
            {f"{one.topic}/{one.partition}": one.read for one in inputs},
            [f"{one.topic}/{one.partition}" for one in events if one.read < end_of(topics, one)],
        )
        consumer: Any = Consumer({**consumer_config(settings.kafka), "enable.partition.eof": True})
        careful = CarefulConsumer(consumer, mode, deaths) if mode.careful or mode.alone else None
        if careful is not None:
            consumer = careful
            for one in events:
                one.holds = False
        clock = settings.clock
        marks = EndMarks(
            admin_config(settings.kafka), [(one.topic, one.partition) for one in events], clock.mark_ms, wall_clock_ms
        )
        post = Consumer({**consumer_config(settings.kafka), "enable.partition.eof": True})
        log_time = LogTime(events, marks, clock.idle_ms, clock.skew_ms, monotonic_ms)
        mail = [one for one in inputs if one not in events]
        quarantined = frozenset((one.topic, one.partition, one.offset) for one in mode.quarantined)
        shards = settings.state.shards
        router, mailbox = router_of(compiled, actors), topics.mailbox.name
        arrived = MailTime(actors, clock.idle_ms, monotonic_ms)
        hub = Hub(
            consumer, post, events, mail, mailbox, router, shards, log_time, quarantined, wall_clock_ms, mail_time=arrived
        )  # fmt: skip
        watchdog = Watchdog(settings.watchdog_ms)
        watch, trims = None, []
        if not self.options.embedded:
            admin = connect(settings.kafka, self.stop)
            watch = TopicWatch(admin, topics, settings.topics.watch_ms)
            trims = trims_of(admin, topics.mailbox.name, settings.topics.mailbox_retention_ms, actors)
        job = self.job = Job(actors, hub, Metrics(wall_clock_ms()), watchdog, watch, careful)
        refreshes = job.refreshes = TableRefreshes(
            project.directory, directory, snapshots, least_in_force(actors), monotonic_ms
        )
        job.control, producing = topics.control.name, producer_config(settings.kafka, topics.batch_bytes)
        delivery = Delivery(producing, settings.kafka, topics.dead_letters.name, watchdog.feed, lambda: job.stopping)
        job.delivery = delivery
        job.end = self._end
        job.stopping = self.stop.is_set()
        delivery.produce([control_message(topics.control.name, started(compiled, actors))])
        delivery.flush()
        status = StatusFile(directory, lambda now_ms: snapshot_of(job, now_ms))
        parts: list[Any] = [marks, watchdog, status, *([watch] if watch is not None else []), *trims, refreshes]
        for part in parts:
            part.start()
        log.info("running: %d shards, %d inputs, %d audiences", len(actors), len(inputs), len(compiled.names))
        gc.collect()
        gc.freeze()
        gc.disable()
        graph = dataflow.dataflow(job, MembershipSink(delivery, shard_of_key, self.on_point, job.failed))
        dataflow.run(graph, directory / "recovery", settings.epoch_ms)
        close(parts, (consumer, post), actors)
        deaths.stopped()
        if job.restart is not None:
            log.info("restarting: %s", job.restart)
            return PLANNED_RESTART
        return CLEAN if job.stopping else BUG


def recall(kafka: Kafka, actors: list[Actor], topics: TopicSet) -> None:
    """Tells shards whose state is new who was forgotten: before any event or row could bring them back."""
    control = topics.control
    new = [actor for actor in actors if actor.positions.get(control.topic_id, 0) is None]
    decided = read_erasures(consumer_config(kafka), control.name) if new and control.ends[0] else []
    for actor in new if decided else ():
        actor.graph.forgetting.recall(decided)


def close(parts: list[Any], consumers: tuple[Any, ...], actors: list[Actor]) -> None:
    """Ends what the flow had beside it, the last started first, and gives the shards back."""
    for part in reversed(parts):
        part.stop()
    for consumer in consumers:
        consumer.close()
    for actor in actors:
        actor.store.close()


def first_instant(kafka: Any, events: list[Input]) -> int:
    """The instant at which the topics begin: the least arrival of their first records; now, where they have none."""
    now = wall_clock_ms()
    consumer = Consumer({**consumer_config(kafka), "enable.partition.eof": True})
    consumer.assign([TopicPartition(one.topic, one.partition, one.read) for one in events])
    waiting = {(one.topic, one.partition) for one in events}
    first = [now]
    deadline = monotonic_ms() + int(FIRST_RECORD_S * 1000)
    while waiting and monotonic_ms() < deadline:
        for message in consumer.consume(100, 0.1):
            place = (message.topic() or "", message.partition() or 0)
            if place in waiting and message.error() is None and Message.timestamp(message)[1] > 0:
                first.append(message.timestamp()[1])
            waiting.discard(place)
    consumer.close()
    return min(first)
