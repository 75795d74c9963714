"""What opportune.yml says beside the definitions: pure data with defaults, no environment and no I/O.

Owns: names, defaults and units. The loader fills it with positions for errors; the command line may replace fields.
"""

from __future__ import annotations

from typing import Literal

import msgspec

DAY_MS = 86_400_000


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """Log time. All in milliseconds.

    Args:
        lateness_ms: an event older than this behind now is refused (``too_late``).
        idle_ms: an input that cannot be confirmed for this long is left out of the shard's time.
        mark_ms: how often an input that is read to its end is confirmed.
        skew_ms: how far the broker's clock may be behind ours before a confirmed end is wrong.
    """

    lateness_ms: int = DAY_MS
    idle_ms: int = 10_000
    mark_ms: int = 50
    skew_ms: int = 20


class Dedupe(msgspec.Struct, frozen=True, kw_only=True):
    """For how long (milliseconds, by arrival) a message id counts once."""

    period_ms: int = DAY_MS


class Kafka(msgspec.Struct, frozen=True, kw_only=True):
    """The broker. ``properties`` go to librdkafka as they are (security, timeouts)."""

    bootstrap_servers: str = "localhost:9092"
    properties: dict[str, str] = {}


class Topics(msgspec.Struct, frozen=True, kw_only=True):
    """Names and, where the job creates them, shapes of the topics. Empty names become ``<project>.<kind>``.

    Args:
        events: the topics that events are read from.
        memberships: membership changes, compacted.
        dead_letters: refused records.
        mailbox: what shards send each other, one partition a shard.
        control: what is decided from outside, one partition.
        partitions: of the events and memberships topics that the job creates.
        replication: of every topic that the job creates; -1 takes the broker's default.
        retention_ms: of the events topics that the job creates; -1 keeps everything.
        mailbox_retention_ms: how long mail is kept after it was applied; -1 keeps everything.
        create: whether the job may create what is missing.
        watch_ms: how often the running job looks for added partitions and for topics that were made anew.
    """

    events: tuple[str, ...] = ()
    memberships: str = ""
    dead_letters: str = ""
    mailbox: str = ""
    control: str = ""
    partitions: int = 12
    replication: int = -1
    retention_ms: int = 7 * DAY_MS
    mailbox_retention_ms: int = 7 * DAY_MS
    create: bool = True
    watch_ms: int = 30_000


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Where shards live and how hard writes are.

    Args:
        directory: relative to the project directory.
        shards: fixed when the directory is made.
        durability: ``epoch`` syncs at each epoch's end, ``batch`` before anything is produced.
    """

    directory: str = "state"
    shards: int = 1
    durability: Literal["epoch", "batch"] = "epoch"


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """For how long (milliseconds) the events of people who were forgotten stay refused when topics are read again."""

    remember_ms: int = 730 * DAY_MS


class Poison(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with a record that kills the process again and again."""

    action: Literal["quarantine", "stop"] = "quarantine"
    deaths: int = 3
    budget_an_hour: int = 10


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of opportune.yml but its name."""

    timezone: str = "UTC"
    session_gap_ms: int = 1_800_000
    clock: Clock = Clock()
    dedupe: Dedupe = Dedupe()
    kafka: Kafka = Kafka()
    topics: Topics = Topics()
    state: State = State()
    poison: Poison = Poison()
    erasure: Erasure = Erasure()
    epoch_ms: int = 1_000
    event_bytes_max: int = 1_048_576
    watchdog_ms: int = 60_000
