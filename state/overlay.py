"""A store over another one that is only read: what is written stays in memory and is gone at the end.

Owns: ``Overlay``, for asking what a shard would do without doing it.
Invariant: the store below is never written; reads see it with all that was written here.
Not here: the contract (state.store), opening a state to look at (state.rocks, ``frozen``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from operator import itemgetter

from state.memory import MemoryBatch
from state.store import FAMILIES, Batch, Store

KEY = itemgetter(0)


class Overlay:
    """``state.store.Store`` over one that stays as it is.

    Args:
        below: the store that is read; closed with this one.
    """

    def __init__(self, below: Store) -> None:
        self._below = below
        # None: removed here.
        self._above: dict[str, dict[bytes, bytes | None]] = {name: {} for name in FAMILIES}

    def family(self, name: str) -> str:
        """See ``Store.family``."""
        return name

    def batch(self) -> Batch:
        """See ``Store.batch``."""
        return MemoryBatch()

    def write(self, batch: Batch) -> None:
        """See ``Store.write``."""
        assert isinstance(batch, MemoryBatch)
        changes, batch.changes = batch.changes, None
        assert changes is not None, "a batch was written twice"
        for name, key, value, end in changes:
            if end is None:
                self._above[name][key] = value
            else:
                assert key <= end, "a range ends before it starts"
                for doomed in [found for found, _ in self.scan(name, key, end)]:
                    self._above[name][doomed] = None

    def get_many(self, name: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """See ``Store.get_many``."""
        above = self._above[name]
        below = self._below.get_many(name, keys)
        return [above.get(key, value) for key, value in zip(keys, below, strict=True)]

    def get(self, name: str, key: bytes) -> bytes | None:
        """See ``Store.get``."""
        above = self._above[name]
        return above[key] if key in above else self._below.get(name, key)

    def scan(self, name: str, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See ``Store.scan``."""
        above = dict(self._above[name])
        mine = sorted(pair for pair in above.items() if start <= pair[0] and (end is None or pair[0] < end))
        theirs = (pair for pair in self._below.scan(name, start, end) if pair[0] not in above)
        return ((key, value) for key, value in merge(mine, theirs, key=KEY) if value is not None)

    def sync(self) -> None:
        """See ``Store.sync``: nothing is to last."""

    def close(self) -> None:
        """See ``Store.close``."""
        self._below.close()
