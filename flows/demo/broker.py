"""A Kafka broker without a service: the mock cluster that librdkafka carries, in a process of its own.

Owns: the calls into the library of the confluent-kafka wheel (its Python interface cannot make topics on the cluster),
and the process around them. Invariant: the cluster listens on the loopback interface and ends with its parent.

The cluster keeps at most 5 MiB or 100,000 record batches a partition and drops the oldest without a word; it compacts
nothing, has no topic ids, and does not answer requests that create or describe topics (librdkafka 2.16, rdkafka_mock.c).
Good enough for a demo, whose readers keep up; never for data that matters. Not here: which topics there are
(flows.demo.tree).

    python -m flows.demo.broker shop.events=12 shop.memberships=12     prints host:port, runs until its input ends
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

from flows.demo.leash import ignore_keyboard, wait_for_parent_to_end
from opportune.errors import ConfigurationError

_PRODUCER = 0
_TEXT_BYTES = 512


def library_path(package: Path | None = None) -> Path:
    """Where the wheel of confluent-kafka keeps librdkafka.

    Args:
        package: the directory of the package ``confluent_kafka``; default: the installed one.

    Raises:
        ConfigurationError: the package was not installed from a wheel that carries the library.
    """
    if package is None:
        spec = importlib.util.find_spec("confluent_kafka")
        if spec is None or spec.origin is None:
            raise ConfigurationError("the package confluent-kafka is not installed: run `make setup`")
        package = Path(spec.origin).parent
    found = [
        *sorted((package.parent / "confluent_kafka.libs").glob("librdkafka*.so*")),
        *sorted((package / ".dylibs").glob("librdkafka*.dylib")),
    ]
    if not found:
        raise ConfigurationError(
            f"the embedded broker needs librdkafka as the binary wheel of confluent-kafka brings it, and there is none "
            f"beside {package}. Install the wheel (pip install --only-binary confluent-kafka confluent-kafka), or use "
            f"a broker of your own: opportune demo --bootstrap-servers HOST:PORT"
        )
    return found[0]


class EmbeddedCluster:
    """A mock cluster of one broker inside this process.

    Args:
        topics: partition counts by name of topic.
        library: path of librdkafka; default: the wheel's.

    Raises:
        ConfigurationError: there is no usable library, or it refuses a topic.
    """

    def __init__(self, topics: Mapping[str, int], library: Path | None = None) -> None:
        self._library = _load(library or library_path())
        text = ctypes.create_string_buffer(_TEXT_BYTES)
        self._client = self._library.rd_kafka_new(_PRODUCER, self._quiet(), text, _TEXT_BYTES)
        if not self._client:
            raise ConfigurationError(f"librdkafka does not start: {text.value.decode(errors='replace')}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, 1)
        if not self._cluster:
            raise ConfigurationError("librdkafka does not start its mock cluster: no loopback port could be opened")
        for name, partitions in topics.items():
            code = self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
            if code:
                raise ConfigurationError(f"the embedded broker refuses topic {name!r} with {partitions} partitions")

    @property
    def bootstrap_servers(self) -> str:
        """``host:port`` to connect to, from any process of this machine."""
        address: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        return address.decode()

    def close(self) -> None:
        """End the cluster; connections are closed, records are gone."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)

    def _quiet(self) -> int:
        """A configuration that logs errors only: the cluster's notices would run through the live view."""
        settings: int = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(settings, b"log_level", b"3", None, 0)
        return settings


def _load(path: Path) -> ctypes.CDLL:
    """The library with the signatures of rdkafka.h and rdkafka_mock.h."""
    try:
        library = ctypes.CDLL(str(path))
        pointer, text, number, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
        for name, result, arguments in (
            ("rd_kafka_conf_new", pointer, []),
            ("rd_kafka_conf_set", number, [pointer, text, text, text, size]),
            ("rd_kafka_new", pointer, [number, pointer, text, size]),
            ("rd_kafka_destroy", None, [pointer]),
            ("rd_kafka_mock_cluster_new", pointer, [pointer, number]),
            ("rd_kafka_mock_cluster_destroy", None, [pointer]),
            ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
            ("rd_kafka_mock_topic_create", number, [pointer, text, number, number]),
        ):
            function = getattr(library, name)
            function.restype = result
            function.argtypes = arguments
    except (OSError, AttributeError) as error:
        raise ConfigurationError(f"{path} is not a librdkafka with a mock cluster ({error}): reinstall it") from error
    return library


def main(arguments: list[str]) -> None:
    """Run a cluster with the topics given as ``NAME=PARTITIONS`` until standard input ends."""
    ignore_keyboard()
    topics = {name: int(count) for name, _, count in (argument.rpartition("=") for argument in arguments)}
    cluster = EmbeddedCluster(topics)
    sys.stdout.write(cluster.bootstrap_servers + "\n")
    sys.stdout.flush()
    wait_for_parent_to_end()
    cluster.close()


if __name__ == "__main__":
    main(sys.argv[1:])
