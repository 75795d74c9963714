"""Flow and service together, on a real Kafka, against the reference evaluator: every answer that was ever given is right.

People come and go while the job is killed and started again and readers never pause. Afterwards the log is evaluated anew, and
each answer is compared with what the reference says at the instant that the answer named.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any, NamedTuple

import httpx
import pytest
from confluent_kafka import Producer

from opportune.client import Client
from opportune.clock import wall_clock_ms
from opportune.event import instant_ms, iso_text
from opportune.identity import profile_id
from opportune.membership import MembershipChange
from tests.api.serving import serving
from tests.crash.judgement import expected_of, read_all
from tests.crash.project import write_project
from tests.crash.running import RunningJob, running_job, until
from tests.crash.traffic import ALIVE, NEW_A_SECOND, Traffic
from tests.kafka.broker import Kafka
from tests.oracle import Change

PARTITIONS = 4
EVENTS_A_SECOND = 80
LIVES = 3
EVENTS_A_LIFE = 400
MERGING = 10
NOBODY = 404


class Answer(NamedTuple):
    """What a reader was told, and when it asked."""

    identifier: str
    asked_ms: int
    status: int
    body: dict[str, Any]

    @property
    def as_of_ms(self) -> int:
        return instant_ms(self.body["freshness"]["as_of"])

    @property
    def memberships(self) -> dict[str, int]:
        return {one["audience"]: instant_ms(one["since"]) for one in self.body.get("memberships", ())}


class Working:
    """Work in a thread of its own, over and over until it is stopped."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self.failed: BaseException | None = None
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        if self.failed is not None:
            raise AssertionError("a reader failed") from self.failed

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._work()
        except BaseException as error:  # handed to the thread of the test
            self.failed = error


class Readers:
    """Reads people at random, each never older than before, and those of whom a change was heard."""

    def __init__(self, address: str, began_ms: int) -> None:
        self.address = address
        self.began_ms = began_ms
        self.answers: list[Answer] = []
        self.refused = 0
        self.heard: list[tuple[MembershipChange, Answer]] = []
        self._random = Random(5)
        self._positions: dict[str, tuple[str, int]] = {}
        self._http = httpx.Client(timeout=60)
        self._client = Client(address)
        self._changes: Generator[MembershipChange, None, None] = self._client.changes().follow()

    def ask(self) -> None:
        """One look-up of anybody; what was known of them before must be known still."""
        born = (wall_clock_ms() - self.began_ms) * NEW_A_SECOND // 1_000
        name = name_of(self._random.randrange(max(born, 0) + ALIVE))
        if self._random.random() < 0.3:
            who = self._random.randrange(MERGING)
            name = self._random.choice((f"user_id:m{who}", f"anonymous_id:m{who}.0", f"anonymous_id:m{who}.1"))
        position, seen_ms = self._positions.get(name, ("", 0))
        answer = self._get(name, {"min_position": position} if position else {})
        if answer is not None:
            assert answer.as_of_ms >= seen_ms, (answer, seen_ms)
            self._positions[name] = answer.body["freshness"]["position"], answer.as_of_ms
            self.answers.append(answer)

    def hear(self) -> None:
        """One change of the live stream, and a look-up with its version."""
        change = next(self._changes)
        namespace, (value, *_) = next(iter(change.identifiers.items()))
        answer = self._get(f"{namespace}:{value}", {"min_version": str(change.version)})
        if answer is not None:
            self.heard.append((change, answer))

    def close(self) -> None:
        """Ends the connections."""
        self._http.close()
        self._changes.close()

    def _get(self, identifier: str, params: dict[str, str]) -> Answer | None:
        asked_ms = wall_clock_ms()
        fields = {"fields": "memberships"} | params
        found = self._http.get(f"{self.address}/v1/profiles/{identifier}", params=fields)
        if found.status_code == 503:
            assert found.headers["retry-after"]
            self.refused += 1
            return None
        assert found.status_code in (200, NOBODY), found.text
        return Answer(identifier, asked_ms, found.status_code, found.json())


def name_of(number: int) -> str:
    """The strongest identifier of one of the traffic's people."""
    match number % 5:
        case 0 | 3:
            return f"anonymous_id:device-{number}"
        case 2:
            return f"user_id:{number + 1}"
    return f"user_id:p{number}"


class Merging:
    """People who are alone on two devices, sign in on both, and go on under any of their names; one event at a time."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 0, "log_level": 2})
        self._topic = topic
        self._random = Random(6)
        self._number = 0
        self.waiting = [self._signs(who) for who in range(MERGING)]

    @staticmethod
    def _signs(who: int) -> list[dict[str, Any]]:
        first, second, user = f"m{who}.0", f"m{who}.1", f"m{who}"
        alone: list[dict[str, Any]] = [{"anonymousId": device} for device in (first, second) for _ in "ab"]
        known: list[dict[str, Any]] = [{"userId": user, "anonymousId": device} for device in (first, second)]
        return [*alone, *known, {"userId": user}, {"anonymousId": first}, {"anonymousId": second}, *known]

    def send(self) -> None:
        """The next event of somebody."""
        theirs = self._random.choice([one for one in self.waiting if one])
        self._number += 1
        message = {"type": "track", "event": "Counted", "messageId": f"s{self._number}", **theirs.pop(0)}
        message["timestamp"] = iso_text(wall_clock_ms())
        self._producer.produce(self._topic, json.dumps(message).encode(), None, self._random.randrange(PARTITIONS))
        assert self._producer.flush(30) == 0

    @property
    def left(self) -> int:
        return sum(map(len, self.waiting))


@pytest.mark.timeout(400)
def test_every_answer_is_the_references_at_the_instant_that_it_names(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    name = topic_prefix
    # Partitions are read at their own pace after a death: with less, what comes late by that is refused, as it must be.
    project = write_project(tmp_path / name, name, partitions=PARTITIONS, lateness="2 minutes")
    settings = project / "opportune.yml"
    settings.write_text(settings.read_text() + f"kafka: {{bootstrap_servers: '{kafka.bootstrap_servers}'}}\n")
    topic = f"{name}.events"
    with (
        running_job(project, kafka.bootstrap_servers) as job,
        serving(project, "--only", "lookups", ready=False) as address,
    ):
        job.start()
        job.wait_running(60)
        until(lambda: httpx.get(f"{address}/readyz", timeout=60).status_code == 200, "the service is ready", 60)
        readers = live_through(kafka, job, address, topic)
        job.kill_all()
        end_ms = max(answer.as_of_ms for answer in [*readers.answers, *(one for _, one in readers.heard)]) + 1
    outcome, _ = expected_of(project, kafka.bootstrap_servers, [topic], end_ms)
    records = [
        (message.timestamp()[1], json.loads(message.value() or b""))
        for message in read_all(kafka.bootstrap_servers, topic)
        if (message.value() or b"").startswith(b'{"type": "track", "event": "Counted", "messageId": "s')
    ]
    answers = [*readers.answers, *(answer for _, answer in readers.heard)]
    counts = [judge(answers, outcome.changes), judge_merged(answers, records)]
    judge_heard(readers.heard)
    assert min(counts) > 100, (counts, readers.refused)


def live_through(kafka: Kafka, job: RunningJob, address: str, topic: str) -> Readers:
    """Traffic, readers, and the job's deaths."""
    traffic = Traffic(kafka.bootstrap_servers, {topic: PARTITIONS}, 9, EVENTS_A_SECOND)
    merging = Merging(kafka.bootstrap_servers, topic)
    readers = Readers(address, wall_clock_ms())
    traffic.start()
    working = [Working(readers.ask), Working(readers.ask), Working(readers.hear)]
    share = merging.left // LIVES
    for life in range(LIVES):
        if life:
            job.kill_all()
            seen = len(readers.answers) + readers.refused
            until(lambda: len(readers.answers) + readers.refused > seen + 50, "they read while it is dead", 60)  # noqa: B023 - waited for at once
            job.start()
            job.wait_running(60)
        for _ in range(share if life < LIVES - 1 else merging.left):
            merging.send()
            before = len(readers.answers) + readers.refused
            until(lambda: len(readers.answers) + readers.refused > before + 2, "they read meanwhile", 60)  # noqa: B023 - as above
        goal = (life + 1) * EVENTS_A_LIFE
        until(lambda: traffic.sent >= goal, "events of this life are sent", 60)  # noqa: B023 - as above
    traffic.stop()
    sent_ms = wall_clock_ms()
    until(lambda: job.log_time_ms() > sent_ms, "the job reads all of it", 90)
    for who in range(MERGING):
        whole = {"counted_11"}
        for identifier in (f"user_id:m{who}", f"anonymous_id:m{who}.0", f"anonymous_id:m{who}.1"):
            until_counted(readers, identifier, whole)
    for one in working[:2]:
        one.stop()
    # One more change wakes who listens, so that its thread can end.
    working[2]._stop.set()
    merging.waiting = [[{"userId": "m0"}]]
    merging.send()
    working[2].stop()
    readers.close()
    return readers


def until_counted(readers: Readers, identifier: str, wanted: set[str]) -> None:
    """Waits until somebody's events are counted."""
    answers: list[Answer | None] = []

    def is_counted() -> bool:
        answers.append(readers._get(identifier, {}))
        return counted(answers[-1]) == wanted

    try:
        until(is_counted, f"{identifier} is in {wanted}", 60)
    except AssertionError as error:
        raise AssertionError(f"{error}: {answers[-1]}") from error


def counted(answer: Answer | None) -> set[str]:
    """The audiences of an answer that count a person's events."""
    return {name for name in answer.memberships if name.startswith("counted_")} if answer is not None else set()


def judge(answers: Iterable[Answer], changes: list[Change]) -> int:
    """Each answer about somebody of one name is the reference's; how many there were of people who are somebody."""
    history: dict[str, list[Change]] = defaultdict(list)
    for change in sorted(changes, key=lambda change: change.version):
        history[change.profile].append(change)
    people = 0
    for answer in answers:
        namespace, _, value = answer.identifier.partition(":")
        if value.startswith("m"):
            continue
        past = history[answer.body.get("profile_id", profile_id(namespace, value).hex())]
        past = past[: bisect_right(past, answer.as_of_ms, key=lambda change: change.at)]
        inside: dict[str, int] = {}
        for change in past:
            if change.change == "entered":
                inside[change.audience] = change.at
            else:
                del inside[change.audience]
        assert answer.memberships == inside, (answer, past[-5:])
        assert answer.status == (NOBODY if not past else 200) or not inside, answer
        people += answer.status == 200
    return people


def judge_merged(answers: Iterable[Answer], records: list[tuple[int, dict[str, Any]]]) -> int:
    """Somebody of many names has as many events as their names had by then, whichever of them were one person already."""
    found = 0
    for answer in answers:
        if not answer.identifier.partition(":")[2].startswith("m") or answer.status == NOBODY:
            continue
        names = {f"{space}:{value}" for space, values in answer.body["identifiers"].items() for value in values}
        theirs = [at for at, message in records if strongest(message) in names]
        # The shard's time is what is surely in it; a person's own last event may be later than others on their way.
        sure_ms = min(answer.as_of_ms, answer.asked_ms - answer.body["freshness"]["age_ms"] - 1)
        least, most = (sum(at <= bound for at in theirs) for bound in (sure_ms, answer.as_of_ms))
        (number,) = {int(name.removeprefix("counted_")) for name in counted(answer)} or {0}
        events = sorted(
            (at, message["messageId"], strongest(message)) for at, message in records if strongest(message) in names
        )
        assert least <= number <= max(most, least), f"{number} of {events} by {sure_ms} in {answer!r}"
        found += 1
    return found


def strongest(message: dict[str, Any]) -> str:
    """The identifier whose person an event is."""
    return f"user_id:{message['userId']}" if "userId" in message else f"anonymous_id:{message['anonymousId']}"


def judge_heard(heard: list[tuple[MembershipChange, Answer]]) -> None:
    """Whoever has a change reads a state that is not older than it."""
    assert len(heard) > 50
    for change, answer in heard:
        assert answer.status == 200, (change, answer)
        if answer.body["profile_id"] == change.profile_id:
            assert answer.as_of_ms >= instant_ms(change.at), (change, answer)
