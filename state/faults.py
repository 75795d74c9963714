"""A store whose disk fails when told to.

Owns: the behaviour of a full or failing disk, for tests over any store. Invariant: a refused batch leaves no trace, and
after it nothing is written until ``heal``, as in state.rocks.
Not here: what the contract says (state.store).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from opportune.errors import StateError
from state.store import Batch, Store


class FaultyStore:
    """``state.store.Store`` around another one; counts ``writes`` and ``syncs`` that succeeded.

    Args:
        store: does the work while nothing fails.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.writes = 0
        self.syncs = 0
        self._writes_left: int | None = None
        self._syncs_left: int | None = None
        self._refused = False

    def fail_writes(self, after: int = 0) -> None:
        """Refuses every write but the next ``after``."""
        self._writes_left = after

    def fail_syncs(self, after: int = 0) -> None:
        """Refuses every sync but the next ``after``."""
        self._syncs_left = after

    def heal(self) -> None:
        """There is space again, and the process has started again: nothing is refused any more."""
        self._writes_left = self._syncs_left = None
        self._refused = False

    def family(self, name: str) -> Any:
        """See ``Store.family``."""
        return self.store.family(name)

    def batch(self) -> Batch:
        """See ``Store.batch``."""
        return self.store.batch()

    def write(self, batch: Batch) -> None:
        """See ``Store.write``."""
        self._check(self._writes_left)
        if self._writes_left is not None:
            self._writes_left -= 1
        self.store.write(batch)
        self.writes += 1

    def get_many(self, name: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """See ``Store.get_many``."""
        return self.store.get_many(name, keys)

    def get(self, name: str, key: bytes) -> bytes | None:
        """See ``Store.get``."""
        return self.store.get(name, key)

    def scan(self, name: str, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See ``Store.scan``."""
        return self.store.scan(name, start, end)

    def sync(self) -> None:
        """See ``Store.sync``."""
        self._check(self._syncs_left)
        if self._syncs_left is not None:
            self._syncs_left -= 1
        self.store.sync()
        self.syncs += 1

    def close(self) -> None:
        """See ``Store.close``."""
        self.store.close()

    def _check(self, left: int | None) -> None:
        if self._refused or left == 0:
            self._refused = True
            raise StateError("the disk is full (a fault that a test asked for): free space and start again")
