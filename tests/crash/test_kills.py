"""The job is killed again and again while events flow; afterwards nothing is lost, doubled or out of order.

Kills: of the worker at named points of its work (flows.actor, flows.bytewax_step, flows.sinks), of the worker at random
moments, of the whole tree, of the supervisor alone. The recovery directory of the engine goes in every other round.
``OPPORTUNE_CRASH_SEED`` repeats a run's choices (moments are the machine's).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from tests.crash.scene import Scene, report, scene
from tests.kafka.broker import Kafka

POINTS = ("after_write", "after_produce", "after_flush", "before_commit")
KILLS_A_POINT = 3
RANDOM_ROUNDS = 2
KILLS_A_RANDOM_ROUND = 4
TREE_ROUNDS = 3
SUPERVISOR_ROUNDS = 2


class Kills:
    """Rounds of kills, counted.

    Args:
        made: the scene.
        choose: randomness.
    """

    def __init__(self, made: Scene, choose: random.Random) -> None:
        self.made = made
        self.job = made.job
        self.choose = choose
        self.count: dict[str, int] = {}
        self.outboxes: list[int] = []

    def note(self, what: str) -> None:
        """Counts a kill and what it left in the outboxes; nobody has opened the state since."""
        self.count[what] = self.count.get(what, 0) + 1
        self.outboxes.append(self.job.outbox_entries())

    def at_point(self, point: str) -> None:
        """The worker kills itself at a point, and is started again, some times."""
        self.job.start(f"{point}:{self.choose.randrange(15, 60)}")
        for left in reversed(range(KILLS_A_POINT)):
            worker = self.job.next_worker()
            self.job.freeze()
            self.job.wait_dead(worker)
            self.note(point)
            if left:
                self.job.thaw()
        self.job.kill_all()

    def at_random(self) -> None:
        """The worker is killed some time after it began to read, or (one in five) before, and is started again."""
        self.job.start()
        for left in reversed(range(KILLS_A_RANDOM_ROUND)):
            worker = self.job.next_worker()
            if self.choose.random() < 0.8:
                self.job.wait_running()
            self.wait_a_while()
            self.job.freeze()
            os.kill(worker, signal.SIGKILL)
            self.job.wait_dead(worker)
            self.note("random")
            if left:
                self.job.thaw()
        self.job.kill_all()

    def tree(self) -> None:
        """Everything is killed at once."""
        self.job.start()
        self.job.next_worker()
        self.job.wait_running()
        self.wait_a_while()
        self.job.kill_all()
        self.note("tree")

    def supervisor(self) -> None:
        """The supervisor is killed: its worker ends by itself."""
        self.job.start()
        worker = self.job.next_worker()
        self.job.wait_running()
        self.wait_a_while()
        self.job.kill_supervisor()
        self.job.wait_dead(worker)
        self.note("supervisor")

    def wait_a_while(self) -> None:
        """Some moment within the next epochs."""
        Event().wait(self.choose.uniform(0.05, 1.2))

    def rounds(self, factor: int) -> Iterator[None]:
        """All rounds in random order; between two of them nothing runs."""
        rounds: list[Callable[[], None]] = [partial(self.at_point, point) for point in POINTS]
        rounds += [self.at_random] * RANDOM_ROUNDS
        rounds += [self.tree] * TREE_ROUNDS + [self.supervisor] * SUPERVISOR_ROUNDS
        rounds *= factor
        self.choose.shuffle(rounds)
        for one in rounds:
            one()
            yield


def run(kafka: Kafka, name: str, directory: Path, factor: int) -> None:
    seed = int(os.environ.get("OPPORTUNE_CRASH_SEED") or random.randrange(1 << 30))
    report(f"OPPORTUNE_CRASH_SEED={seed}")
    with scene(directory, kafka.bootstrap_servers, name) as made:
        made.job.start()
        made.job.wait_running()
        made.begin(seed)
        assert made.job.terminate()[0] == 0
        kills = Kills(made, random.Random(seed))
        deleted = 0
        for number, _ in enumerate(kills.rounds(factor)):
            if number % 2:
                shutil.rmtree(made.job.state / "recovery")
                deleted += 1
        made.job.start()
        made.job.wait_running()
        verdict = made.finish()
        assert "a bug ended" not in made.job.log.read_text(), "every death was ours"
    total = sum(kills.count.values())
    full = sum(1 for entries in kills.outboxes if entries)
    report(
        f"{total} kills {kills.count}, {full} with something in the outbox, recovery deleted {deleted} times: {verdict}"
    )
    assert total >= 25 * factor
    assert all(kills.count[point] >= 3 for point in POINTS)
    assert full * 2 >= total, f"of {total} kills only {full} found something in the outbox"
    assert deleted >= 2
    assert verdict.repeats, "kills that repeat nothing show nothing"


@pytest.mark.timeout(400)
def test_kills(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    run(kafka, topic_prefix, tmp_path / "project", 1)


@pytest.mark.long
@pytest.mark.timeout(3_000)
def test_many_kills(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    run(kafka, topic_prefix, tmp_path / "project", 6)
