"""Where the events of a replay come from: files, or the events topics.

Owns: ``Source``, a replay with its events at hand. Not here: formats of files (opportune.cli.replay_files), reading topics
(flows.replay_topics), what becomes of the changes (opportune.cli.replay).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import click

from opportune.cli.replay_files import lines_of, size_of
from opportune.cli.replay_options import Files

if TYPE_CHECKING:
    from flows.replay import Replay
    from flows.replay_changes import Emitted

COLLECT_BLOCKS = 64
"""So many blocks are read between two looks for cycles."""
Advanced: TypeAlias = Callable[[int], None]
Block = TypeVar("Block")


class Source(NamedTuple):
    """A replay that is not played yet.

    Args:
        run: it.
        size: how much there is to read, in what ``changes`` tells; None where nobody knows.
        changes: plays it; takes what is to be told how much was read, or None.
    """

    run: Replay
    size: int | None
    changes: Callable[[Advanced | None], Iterator[list[Emitted]]]


def of_files(files: Files, events: tuple[str, ...], until_ms: int | None) -> Source:
    """A replay of files. Raises ``DefinitionError`` for tables that cannot be read."""
    # Imported late, as below: the engine is not needed for --help, nor the broker's client for files.
    from flows.replay import Replay

    run = Replay(files.first, tables=_tables(files), refreshes=files.refreshes(), until_ms=until_ms)
    return Source(run, size_of(events), lambda advanced: run.run_blocks(_collecting(lines_of(events, advanced))))


def of_topics(
    files: Files, from_ms: int | None, until_ms: int | None, bootstrap_servers: str | None, topic_prefix: str
) -> Source:
    """A replay of the events topics. Raises as ``TopicLog``, and as ``of_files``."""
    from flows.replay_arrived import ArrivedReplay
    from flows.replay_topics import TopicLog
    from flows.worker import reached
    from opportune.clock import wall_clock_ms

    tables, refreshes = _tables(files), files.refreshes()
    settings = reached(files.first.settings, bootstrap_servers, topic_prefix)
    log = TopicLog(settings, from_ms=from_ms, until_ms=until_ms, clock=wall_clock_ms, on_gap=_tell)
    end_ms = log.started_ms if until_ms is None else until_ms
    run = ArrivedReplay(files.first, tables=tables, refreshes=refreshes, until_ms=end_ms)
    run.forget(log.forgotten())
    return Source(run, log.records, lambda advanced: run.run_arrived(_collecting(_counted(log.read(), advanced))))


def _tables(files: Files) -> dict[str, Any]:
    from flows.worker import load_tables
    from opportune.audiences.plan import Plan

    return load_tables(files.first, Plan(files.first)) if files.first.tables else {}


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _counted(
    blocks: Iterable[tuple[list[Any], list[int]]], advanced: Advanced | None
) -> Iterator[tuple[list[Any], list[int]]]:
    """The blocks; says how many records they had."""
    for block in blocks:
        if advanced is not None:
            advanced(len(block[0]))
        yield block


def _collecting(blocks: Iterable[Block]) -> Iterator[Block]:
    """The blocks; at times what refused messages left behind is looked for, so that memory does not follow the file."""
    for number, block in enumerate(blocks, 1):
        if number % COLLECT_BLOCKS == 0:
            gc.collect()
        yield block
