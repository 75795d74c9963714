"""The jars of the Apache Kafka that tests run against, fetched once by Maven.

Owns: the cache directory, named after pom.xml's content so that another version never mixes with this one.
Invariant: a directory that exists is complete; it is filled beside and renamed.
Not here: starting the broker (tests.kafka.broker).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
CACHE = Path(__file__).resolve().parents[2] / ".cache"
FETCH_TIMEOUT_S = 300


class KafkaMissing(Exception):
    """There is no broker to be had on this machine; ``str()`` says what is missing and how to get it."""


def jars() -> Path:
    """The directory with Kafka's jars; fetches them the first time (about 130 MB, ten seconds).

    Raises:
        KafkaMissing: no Java, no Maven, or Maven cannot fetch.
    """
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            msg = f"`{program}` is not installed: install a JDK (17 or newer) and Maven, or set KAFKA_BOOTSTRAP_SERVERS"
            raise KafkaMissing(msg)
    directory = CACHE / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if not directory.is_dir():
        CACHE.mkdir(exist_ok=True)
        _fetch(directory)
    return directory


def _fetch(directory: Path) -> None:
    beside = Path(tempfile.mkdtemp(prefix="kafka-", dir=CACHE))
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
    try:
        done = subprocess.run(
            [*command, "-DincludeScope=runtime", f"-DoutputDirectory={beside}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FETCH_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise KafkaMissing(f"Maven could not fetch Kafka: {(done.stdout + done.stderr)[-2000:]}")
        try:
            os.rename(beside, directory)  # noqa: PTH104 - Path.rename is the same call; os.rename says that it is atomic
        except OSError:
            if not directory.is_dir():  # else another process was faster, with the same jars
                raise
    except subprocess.TimeoutExpired:
        raise KafkaMissing(f"Maven could not fetch Kafka within {FETCH_TIMEOUT_S} s") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
