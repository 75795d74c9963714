"""One shard's state in memory: the contract of state.store for tests and for ``replay``.

Owns: nothing on disk. Invariant: a family that was never scanned is a dict and no more; one that was keeps its keys in
order, and takes in what changed since at the next scan, so that keys that come and go between two scans cost nothing.
A scan that is not finished when its family changes takes the rest of its pairs first: it goes on with what it saw.
Not here: the contract (state.store), the store that lasts (state.rocks).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from weakref import ref

from sortedcontainers import SortedList

from state.store import FAMILIES, Batch


class _Scan(Iterator[tuple[bytes, bytes]]):
    """Pairs of a family as it was; reads the live one until it changes."""

    __slots__ = ("__weakref__", "_pairs")

    def __init__(self, pairs: Iterator[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs

    def __next__(self) -> tuple[bytes, bytes]:
        return next(self._pairs)

    def settle(self) -> None:
        """Takes what is left out of the live family."""
        self._pairs = iter(list(self._pairs))


class _Family:
    """One ordered map."""

    __slots__ = ("added", "order", "pairs", "removed")

    def __init__(self) -> None:
        self.pairs: dict[bytes, bytes] = {}
        self.order: SortedList | None = None
        # Keys that the order lacks, and keys that it has too many.
        self.added: set[bytes] = set()
        self.removed: set[bytes] = set()

    def put(self, key: bytes, value: bytes) -> None:
        if self.order is not None and key not in self.pairs:
            if key in self.removed:
                self.removed.remove(key)
            else:
                self.added.add(key)
        self.pairs[key] = value

    def delete(self, key: bytes) -> None:
        if self.pairs.pop(key, None) is None or self.order is None:
            return
        if key in self.added:
            self.added.remove(key)
        else:
            self.removed.add(key)

    def keys(self, start: bytes, end: bytes | None) -> Iterator[bytes]:
        """Keys with start <= key < end, in order."""
        if self.order is None:
            self.order = SortedList(self.pairs)
        for key in self.removed:
            self.order.remove(key)
        self.order.update(self.added)
        self.removed.clear()
        self.added.clear()
        if end is not None and end <= start:
            return iter(())
        keys: Iterator[bytes] = self.order.irange(start, end, inclusive=(True, False))
        return keys


class MemoryBatch:
    """See ``state.store.Batch``; families are whatever the store that takes it says that they are."""

    __slots__ = ("changes",)

    def __init__(self) -> None:
        self.changes: list[tuple[Any, bytes, bytes | None, bytes | None]] | None = []

    def put(self, key: bytes, value: bytes, column_family: Any = None) -> None:
        """See ``Batch.put``."""
        self.changes.append((column_family, key, value, None))  # type: ignore[union-attr]  # None: written, a bug

    def delete(self, key: bytes, column_family: Any = None) -> None:
        """See ``Batch.delete``."""
        self.changes.append((column_family, key, None, None))  # type: ignore[union-attr]  # None: written, a bug

    def delete_range(self, begin: bytes, end: bytes, column_family: Any = None) -> None:
        """See ``Batch.delete_range``."""
        self.changes.append((column_family, begin, None, end))  # type: ignore[union-attr]  # None: written, a bug


class MemoryStore:
    """``state.store.Store`` in this process' memory; ``sync`` promises nothing, as there is no disk."""

    def __init__(self) -> None:
        self._families = {name: _Family() for name in FAMILIES}
        self._scans: list[ref[_Scan]] = []

    def family(self, name: str) -> _Family:
        """See ``Store.family``."""
        return self._families[name]

    def batch(self) -> Batch:
        """See ``Store.batch``."""
        return MemoryBatch()

    def write(self, batch: Batch) -> None:
        """See ``Store.write``."""
        assert isinstance(batch, MemoryBatch)
        changes, batch.changes = batch.changes, None
        assert changes is not None, "a batch was written twice"
        for reference in self._scans:
            scan = reference()
            if scan is not None:
                scan.settle()
        self._scans.clear()
        for family, key, value, end in changes:
            if value is not None:
                family.put(key, value)
            elif end is None:
                family.delete(key)
            else:
                assert key <= end, "a range ends before it starts"
                for doomed in list(family.keys(key, end)):
                    family.delete(doomed)

    def get_many(self, name: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """See ``Store.get_many``."""
        return list(map(self._families[name].pairs.get, keys))

    def get(self, name: str, key: bytes) -> bytes | None:
        """See ``Store.get``."""
        return self._families[name].pairs.get(key)

    def scan(self, name: str, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See ``Store.scan``."""
        family = self._families[name]
        pairs = family.pairs
        scan = _Scan((key, pairs[key]) for key in family.keys(start, end))
        self._scans.append(ref(scan))
        return scan

    def copy(self) -> MemoryStore:
        """Another store with what this one has now, as a checkpoint copies a directory."""
        made = MemoryStore()
        for name, family in self._families.items():
            made._families[name].pairs = dict(family.pairs)
        return made

    def sync(self) -> None:
        """See ``Store.sync``."""

    def close(self) -> None:
        """See ``Store.close``: what was written stays, for whoever takes this object for the directory."""
