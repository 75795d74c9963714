"""What a warehouse snapshot would do to memberships, before it is put in force.

Owns: ``preview``: every shard's actor does with the snapshot what it would do in the job, over a copy of its state that is
thrown away (state.overlay); the changes with cause ``attribute`` are counted.
Invariant: nothing is written and nothing is sent. What it counts is what happens if the job puts the snapshot in force at the
instant that was asked for; what time and events do until then is not known.
Not here: making the snapshot (state.warehouse), what an actor does with it (flows.refresh), printing (opportune.cli).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from flows.actor import Actor
from flows.changes import ChangeWriter
from flows.dead_letters import DeadLetters
from flows.in_force import in_force
from flows.refresh import Snapshots
from flows.replay_changes import decode_change
from opportune.compiled import Compiled
from opportune.errors import StateError
from state.overlay import Overlay
from state.person import check_plan
from state.rocks import frozen
from state.store import Store
from state.warehouse import WarehouseTable

MEMBERSHIPS = "memberships"


class Moves(msgspec.Struct):
    """How many people enter and exit an audience."""

    entered: int = 0
    exited: int = 0


class _Candidate:
    """The snapshots that are published, and some that are not.

    Args:
        known: opens those that are.
        tables: those that are not, by name.

    Attributes:
        standing: the versions in whose place they come.
    """

    def __init__(self, known: Snapshots, tables: Mapping[str, WarehouseTable]) -> None:
        self.shards = known.shards
        self.standing: Mapping[str, str] = {}
        self._known = known
        self._new = {(name, table.version): table for name, table in tables.items()}

    def open(self, versions: Mapping[str, str]) -> Mapping[str, WarehouseTable] | None:
        """See ``Snapshots.open``."""
        new = {name: self._new[name, version] for name, version in versions.items() if (name, version) in self._new}
        tables = self._known.open({**versions, **{name: self.standing[name] for name in new}})
        return None if tables is None else {**tables, **new}


def shards_of(state: Path, fingerprint: bytes) -> Callable[[int], Store]:
    """Opens the shards of a state directory to look at, also while the job runs.

    Args:
        state: the state directory.
        fingerprint: of the plan that the state has to be kept for.

    Returns:
        The store of a shard; raises ``StateError`` where there is none, or one of other definitions.
    """

    def opened(shard: int) -> Store:
        store = frozen(state / "shards" / f"{shard:04d}")
        try:
            check_plan(store, fingerprint)
        except StateError:
            store.close()
            raise
        return store

    return opened


def looked_at(stores: Callable[[int], Store], shards: int) -> Iterator[Store]:
    """The store of each shard, open while it is looked at. Raises as ``stores``."""
    for shard in range(shards):
        store = stores(shard)
        try:
            yield store
        finally:
            store.close()


def preview(
    compiled: Compiled,
    stores: Callable[[int], Store],
    snapshots: Snapshots,
    tables: Mapping[str, WarehouseTable],
    now_ms: int,
) -> dict[str, Moves]:
    """Counts who would enter and exit each audience.

    Args:
        compiled: the project.
        stores: the state of each shard, which is not written.
        snapshots: opens those that are published.
        tables: those that would come into force together, by name.
        now_ms: the log time at which it would.

    Returns:
        By audience, in order of name; those that nobody enters or exits too.

    Raises:
        StateError: a shard has no state, or one that cannot be looked at; the snapshots that it has in force are gone.
    """
    moves = {name: Moves() for name in compiled.names}
    for shard in range(snapshots.shards):
        below = stores(shard)
        try:
            _count(compiled, shard, Overlay(below), _Candidate(snapshots, tables), tables, now_ms, moves)
        finally:
            below.close()
    return moves


def _count(
    compiled: Compiled,
    shard: int,
    store: Store,
    snapshots: _Candidate,
    new: Mapping[str, WarehouseTable],
    now_ms: int,
    moves: dict[str, Moves],
) -> None:
    tables = snapshots.open(in_force(store).versions)
    if tables is None:
        raise StateError(
            f"shard {shard} has snapshots in force that are not there any more, or none: start the job, which looks at "
            "everybody then"
        )
    actor = Actor(
        shard,
        compiled,
        store,
        tables=tables,
        changes=ChangeWriter(compiled, MEMBERSHIPS, 1, lambda: now_ms),
        dead_letters=DeadLetters("dead-letters", 1 << 20),
        shards=snapshots.shards,
        snapshots=snapshots,
    )
    actor.time_ms, actor.hand_over.sent = now_ms, actor.outbox.last
    # What was decided before is done first, and is no part of the answer.
    for _ in _worked_off(actor):
        pass
    snapshots.standing = actor.refresh.state.versions
    actor.refresh.decide({name: table.version for name, table in new.items()}, now_ms)
    for message in _worked_off(actor):
        change = decode_change(message)
        if change.cause == "attribute":
            counted = moves[change.audience]
            if change.change == "entered":
                counted.entered += 1
            else:
                counted.exited += 1


def _worked_off(actor: Actor) -> Iterable[bytes]:
    """The membership changes until nothing is left for later."""
    while actor.overdue:
        for message in actor.sweep():
            if message.topic == MEMBERSHIPS and message.value is not None:
                yield message.value
