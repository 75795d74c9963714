"""Which snapshots of warehouse tables are in force in a shard, as its state says.

Owns: the ``warehouse`` value of the meta family, JSON: see ``InForce``.
Not here: how one comes into force (flows.refresh), reading people meanwhile (state.passing).
"""

from __future__ import annotations

import msgspec

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
