"""Which snapshots of warehouse tables are in force in a shard, as its state says.

Owns: the ``warehouse`` value of the meta family, JSON: see ``InForce``.
Not here: how one comes into force (flows.refresh).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from state.store import Store
from state.warehouse import WarehouseTable

if TYPE_CHECKING:
    from flows.actor import Actor

META_WAREHOUSE = b"warehouse"


class InForce(msgspec.Struct):
    """Which tables are in force in a shard.

    Args:
        versions: by table.
        at: since when, log time.
        done: whether everybody whom the last decision concerns was switched.
        before: the versions before it, while that is not done; empty: everybody is looked at.
        waiting: versions that were decided meanwhile.
    """

    versions: dict[str, str] = {}
    at: int = 0
    done: bool = True
    before: dict[str, str] = {}
    waiting: dict[str, str] = {}


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
