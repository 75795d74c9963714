"""The contract of one shard's durable state.

Owns: what is atomic, ordered and blocking; the names of the column families. Implementations: state.rocks, state.memory;
one conformance suite (tests/contracts/test_store.py) runs over both.
Not here: what keys and values look like (state.keys, state.codec).

- ``write`` is atomic over all column families and is seen by every later read of this process. It survives the death
  of the process; it survives a power cut only after the next ``sync``.
- ``scan`` sees the families as they were when it was called, in order of the bytes of the keys.
- Nothing here promises isolation between threads: a store belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

FAMILIES = ("identifiers", "profiles", "timers", "members", "outbox", "seen", "meta")
"""Column families, in the order in which they are made."""


class Batch(Protocol):
    """Changes that become visible and durable together. Consumed by ``Store.write``; not to be used afterwards."""

    def put(self, key: bytes, value: bytes, column_family: Any = None) -> None:
        """Sets a key in a family (an object from ``Store.family``)."""

    def delete(self, key: bytes, column_family: Any = None) -> None:
        """Removes a key from a family; a missing key is no error."""

    def delete_range(self, begin: bytes, end: bytes, column_family: Any = None) -> None:
        """Removes every key with begin <= key < end from a family; begin <= end.

        For few and large ranges: each slows later reads a little.
        """


class Reading(Protocol):
    """One shard's state, for those who look at it: a part of ``Store``."""

    def get_many(self, name: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """See ``Store.get_many``."""

    def get(self, name: str, key: bytes) -> bytes | None:
        """See ``Store.get``."""

    def scan(self, name: str, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See ``Store.scan``."""


class Store(Protocol):
    """One shard's state: ordered maps from bytes to bytes, one a column family."""

    def family(self, name: str) -> Any:
        """The opaque handle of a column family, for ``Batch`` and for the reads below."""

    def batch(self) -> Batch:
        """An empty batch."""

    def write(self, batch: Batch) -> None:
        """Applies a batch. Raises ``StateError`` when the disk refuses (full, gone); then nothing of it is applied."""

    def get_many(self, name: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of the keys of one family, in their order; None where there is none. One multi-get."""

    def get(self, name: str, key: bytes) -> bytes | None:
        """One value, or None."""

    def scan(self, name: str, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < end, in key order."""

    def sync(self) -> None:
        """Blocks until everything written so far survives a power cut."""

    def close(self) -> None:
        """Gives the directory back. The store is of no use afterwards."""
