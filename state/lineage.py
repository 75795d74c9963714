"""For which definitions a shard's state is kept: reading and writing that, and the ways of its profiles to the present ones.

Owns: the values ``lineage`` of the meta family and ``stage`` (stage:u32 | done:u8), which changes whenever the former does, so
that readers need not look at that.
Not here: what is in it (opportune.audiences.lineage), the flow's work on it
(flows.succession), a reader's (state.people).
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from opportune.audiences.lineage import Lineage, decode_lineage, encode_lineage
from opportune.errors import StateError
from state.keys import META_LINEAGE, META_PLAN, META_STAGE, U32
from state.store import Batch, Store


class Reads(Protocol):
    """A store, or a reader beside it."""

    def get(self, name: str, key: bytes) -> bytes | None:
        """One value of a family, or None."""
        ...


def lineage_of(store: Reads) -> Lineage | None:
    """What a shard's state says; None where it has been kept for one plan only. Raises ``StateError`` on other bytes."""
    value = store.get("meta", META_LINEAGE)
    if value is None:
        return None
    try:
        return decode_lineage(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(
            f"the state of this shard is damaged: for which definitions it is kept is not readable ({error}). Restore a "
            "checkpoint set, or start with an empty state directory; then the topics are read again from the beginning."
        ) from error


def put_lineage(write: Batch, lineage: Lineage, meta: Any) -> None:
    """Puts it into a write."""
    write.put(META_LINEAGE, encode_lineage(lineage), meta)
    write.put(META_STAGE, U32(lineage.present.stage) + bytes([lineage.done]), meta)


def keep_lineage(store: Store, lineage: Lineage) -> None:
    """Writes it, with the fingerprint of its plan, so that it survives a power cut."""
    write = store.batch()
    put_lineage(write, lineage, store.family("meta"))
    write.put(META_PLAN, lineage.present.plan.encode(), store.family("meta"))
    store.write(write)
    store.sync()
