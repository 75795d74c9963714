from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from flows.demo.broker import EmbeddedCluster, library_path
from flows.demo.child import Child
from flows.demo.traffic import Orders, read_account
from flows.demo.tree import Tree
from opportune.clock import monotonic_ms
from opportune.errors import ConfigurationError

TOPICS = {"shop.events": 5, "shop.memberships": 2}


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path, monotonic_ms)
    yield tree
    tree.stop()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        os.sched_yield()


def gone(pid: int) -> bool:
    """Ended, even where nobody has asked for its exit code yet."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def stored(bootstrap_servers: str, topic: str, partitions: int) -> int:
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "test"})
    try:
        where = [TopicPartition(topic, number) for number in range(partitions)]
        return sum(consumer.get_watermark_offsets(each, timeout=5)[1] for each in where)
    finally:
        consumer.close()


def test_the_embedded_broker_has_the_topics_and_is_on_the_loopback_interface(tree: Tree) -> None:
    servers = tree.start_broker(TOPICS)
    assert servers.startswith("127.0.0.1:")
    known = AdminClient({"bootstrap.servers": servers}).list_topics(timeout=5).topics
    assert {name: len(known[name].partitions) for name in TOPICS} == TOPICS
    tree.stop()


def test_a_package_without_the_library_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--bootstrap-servers"):
        library_path(tmp_path / "confluent_kafka")


def test_a_file_that_is_not_the_library_says_so(tmp_path: Path) -> None:
    wrong = tmp_path / "librdkafka.so"
    wrong.write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match="not a librdkafka"):
        EmbeddedCluster({}, wrong)


def test_traffic_reports_what_the_broker_has(tree: Tree, tmp_path: Path) -> None:
    servers = tree.start_broker(TOPICS)
    account = tmp_path / "account.json"
    tree.start_traffic(Orders({"bootstrap.servers": servers}, "shop.events", str(account), seed=1, rate=400))
    until(lambda: read_account(account).records > 400)
    assert tree.died() is None
    tree.stop_traffic()
    told = read_account(account)
    assert told.failed == 0
    assert told.sent["event"] > 350
    assert stored(servers, "shop.events", 5) == told.records


def test_a_process_that_dies_is_told_with_its_last_words(tree: Tree) -> None:
    tree.start_worker(["flows.demo.no_such_module"])
    until(lambda: tree.died() is not None)
    told = tree.died()
    assert told is not None
    assert "the worker has ended with exit code 1" in told
    assert "no_such_module" in told


def test_a_process_that_does_not_come_up_is_told_with_its_last_words(tmp_path: Path) -> None:
    child = Child("broker", ["-m", "flows.demo.broker", "shop.events=many"], tmp_path, speaks=True)
    with pytest.raises(ConfigurationError, match=r"the broker of the demo does not start(.|\n)*'many'"):
        child.first_line(10)
    child.kill()


STUBBORN = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
inner = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print(inner.pid, flush=True)
signal.pause()
"""


def test_who_does_not_end_when_asked_is_killed_with_what_it_started(tmp_path: Path) -> None:
    child = Child("stubborn", ["-c", STUBBORN], tmp_path, speaks=True)
    inner = int(child.first_line(10))
    child.let_go()
    assert not child.ended(0.2)
    child.kill()
    assert child.exit_code == -9
    until(lambda: gone(inner))


PARENT = """
import pathlib, sys
from flows.demo.tree import Tree
from opportune.clock import monotonic_ms
tree = Tree(pathlib.Path(sys.argv[1]), monotonic_ms)
print(tree.start_broker({"t": 1}), flush=True)
sys.stdin.read()
"""


def test_no_process_outlives_one_that_was_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    assert parent.stdout.readline().startswith(b"127.0.0.1:")
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) == 1
    parent.kill()
    parent.wait()
    until(lambda: all(gone(child.pid) for child in children), 5)
    parent.stdin.close()
    parent.stdout.close()


def test_orders_are_not_on_the_command_line(tree: Tree, tmp_path: Path) -> None:
    orders = Orders({"bootstrap.servers": "127.0.0.1:1", "sasl.password": "swordfish"}, "t", str(tmp_path / "a"), 1, 1)
    tree.start_traffic(orders)
    children = psutil.Process().children(recursive=True)
    assert children
    assert not any("swordfish" in " ".join(child.cmdline()) for child in children)
    assert msgspec.json.decode(msgspec.json.encode(orders), type=Orders) == orders
