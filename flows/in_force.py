"""Which snapshots of warehouse tables are in force in a shard, as its state says.

Owns: reading that, and what follows from it for the shards of a process.
Not here: its layout (state.in_force), how one comes into force (flows.refresh).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from state.in_force import META_WAREHOUSE, InForce
from state.store import Store
from state.warehouse import WarehouseTable

if TYPE_CHECKING:
    from flows.actor import Actor


def in_force(store: Store) -> InForce:
    """What a shard's state says."""
    value = store.get("meta", META_WAREHOUSE)
    return InForce() if value is None else msgspec.json.decode(value, type=InForce)


def versions_of(tables: Mapping[str, WarehouseTable]) -> dict[str, str]:
    """The version of each table."""
    return {name: table.version for name, table in sorted(tables.items())}


def least_in_force(actors: Sequence[Actor]) -> dict[str, str]:
    """Of each table the version above which some shard has to be told of every other one."""
    states = [actor.refresh.state for actor in actors]
    known = [state.versions | state.waiting for state in states]
    return {name: min(each.get(name, "") for each in known) for name in actors[0].refresh.tables}
