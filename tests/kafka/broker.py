"""A real Apache Kafka on this machine: one node in KRaft mode, for tests, bench/ and trying things out.

``python -m tests.kafka.broker [--port 9092]`` prints its bootstrap address and runs until SIGTERM or Ctrl-C.

Owns: the broker's process, ports and directory. A port and the data outlive ``stop`` and ``start``, so that clients see
a broker that went away and came back.
Invariant: the broker ends when its owner ends, however that ends: its shell reads a pipe that only the owner holds
open, and kills the JVM at the end of it.
Not here: fetching Kafka (tests.kafka.jars), the fixtures (tests.conftest).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.kafka.jars import KafkaMissing, jars

__all__ = ["Broker", "ExternalKafka", "Kafka", "KafkaMissing", "running_broker"]

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30

# The JVM leads its own process group together with this shell. `wait` comes back early when a signal is trapped,
# hence the loop. TERM is trapped only after the JVM has started, which would inherit a signal that is ignored.
_SHELL = """
exec 3<&0
java "$@" </dev/null 3<&- &
jvm=$!
( read -r _ <&3; kill -KILL $jvm ) &
reader=$!
exec 3<&-
trap : TERM
while kill -0 $jvm 2>/dev/null; do wait $jvm; status=$?; done
kill $reader 2>/dev/null
exit $status
"""


class Kafka(Protocol):
    """What most tests need to know of a Kafka."""

    @property
    def bootstrap_servers(self) -> str:
        """``HOST:PORT``, for ``bootstrap.servers``."""


class ExternalKafka:
    """A Kafka that somebody else runs, so that nobody here can stop it."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers


class Broker:
    """One Kafka broker process. Not started by the constructor.

    Args:
        directory: for its data and its log; made, and removed by ``close``, where None.
        settings: broker properties that replace or add to those of ``_properties``.
        heap_mb: the JVM's heap.
        port: to listen on; one that is free where None.

    Raises:
        RuntimeError: something else listens on ``port``.
    """

    def __init__(
        self,
        directory: Path | None = None,
        settings: Mapping[str, str] | None = None,
        heap_mb: int = 512,
        port: int | None = None,
    ) -> None:
        self._jars = jars()
        self._temporary = directory is None
        self._directory = directory or Path(tempfile.mkdtemp(prefix="opportune-kafka-"))
        self._directory.mkdir(parents=True, exist_ok=True)
        self._heap_mb = heap_mb
        self._process: subprocess.Popen[bytes] | None = None
        self.port, controller_port = _free_ports(2)
        if port is not None:
            _require_free(port)
            self.port = port
        self._write_properties(controller_port, settings or {})

    @property
    def bootstrap_servers(self) -> str:
        """``127.0.0.1:PORT``, the same for the whole life of this object."""
        return f"127.0.0.1:{self.port}"

    def is_running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the broker with the data that it has, and waits until it answers. Does nothing when it runs.

        Raises:
            RuntimeError: it does not come up; the message ends with the last lines of its log.
        """
        if self.is_running():
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SHELL, "sh", *self._java("kafka.Kafka"), str(self._properties)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if not self.is_running() or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"Kafka did not start:\n{self._log.read_text(errors='replace')[-3000:]}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)

    def stop(self, *, kill: bool = True) -> None:
        """Ends the process and waits for its end; data and port are kept. Does nothing when it does not run.

        Args:
            kill: at once, as a crash; else an orderly shutdown, which takes some seconds.
        """
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_TIMEOUT_S)
        assert process.stdin is not None
        process.stdin.close()

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """The broker hangs while the block runs: connections stay open, nothing is answered."""
        assert self._process is not None, "it runs"
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        """Ends the broker for good, and removes its directory unless the caller gave one."""
        self.stop()
        if self._temporary:
            shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def _log(self) -> Path:
        return self._directory / "broker.log"

    @property
    def _properties(self) -> Path:
        return self._directory / "server.properties"

    def _write_properties(self, controller_port: int, settings: Mapping[str, str]) -> None:
        listeners = f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller_port}"
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "listeners": listeners,
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self._directory / "data"),
            # A job must create its topics, with the shapes that it needs: a typing error must not.
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            # After a kill a broker may register again only when its old session is over: 9 s by default.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            **settings,
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        if not (self._directory / "data").exists():
            self._format()

    def _format(self) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode().replace("-", "A")
        done = subprocess.run(
            ["java", *self._java("kafka.tools.StorageTool"), "format", "-t", cluster, "-c", str(self._properties)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"Kafka's storage could not be formatted:\n{(done.stdout + done.stderr)[-3000:]}")

    def _java(self, main: str) -> list[str]:
        return [
            f"-Xmx{self._heap_mb}m",
            "-XX:+ExitOnOutOfMemoryError",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            f"{self._jars}/*",
            main,
        ]

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        try:
            return len(admin.list_topics(timeout=5).brokers) == 1
        except KafkaException:
            return False


@contextlib.contextmanager
def running_broker(
    directory: Path | None = None,
    settings: Mapping[str, str] | None = None,
    heap_mb: int = 512,
    port: int | None = None,
) -> Iterator[Broker]:
    """A started ``Broker`` that is closed at the end of the block. Arguments as ``Broker`` has them."""
    broker = Broker(directory, settings, heap_mb, port)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that the kernel gives to clients, so that none is taken in a pause."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        for port in random.sample(range(20_000, 32_000), 1_000):
            candidate = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                candidate.bind(("127.0.0.1", port))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise RuntimeError("no free port between 20000 and 32000")


def _require_free(port: int) -> None:
    with socket.socket() as candidate:
        # As Kafka does, so that connections of a broker that has just ended are no obstacle.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError as error:
            raise RuntimeError(f"port {port} cannot be used ({error.strerror}): name another, or none") from error


def main() -> None:
    """Runs a broker until SIGTERM or SIGINT; the first line of standard output is its bootstrap address."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--directory", type=Path, help="where its data stays; removed at the end if not given")
    parser.add_argument("--heap-mb", type=int, default=512)
    parser.add_argument("--port", type=int, help="to listen on, on 127.0.0.1; one that is free if not given")
    arguments = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with running_broker(arguments.directory, heap_mb=arguments.heap_mb, port=arguments.port) as broker:
        sys.stdout.write(f"{broker.bootstrap_servers}\n")
        sys.stdout.flush()
        ended.wait()


if __name__ == "__main__":
    main()
