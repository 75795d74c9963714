"""One shard's state in RocksDB.

Owns: the choice of RocksDB's options, and what its errors mean to an operator. With the readers of other processes the
only importer of rocksdict. Invariant: once a write or a sync was refused, nothing is written any more by this object;
the process starts again and goes on from what the directory holds, in which a refused batch is whole or not at all.

Traps of the library, kept away from everybody else: raw mode is set on options and batches alike; a lower bound of an
iterator has no effect in raw mode; the items() of a damaged file end without an error, so scans check the iterator's
status; a closed database keeps its lock until the last handle of a column family is dropped.
Not here: the contract (state.store), what keys and values look like (state.keys).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
)

from opportune.errors import OpportuneError, StateError, TransientError
from state.store import FAMILIES, Batch
from state.written import READINGS_MAX, manifests, written

MEMTABLE_BYTES = 32 << 20
"""A family's memtable is written out at this size, or earlier when all of the process reach their common bound."""
ARENA_BYTES = 64 << 10
"""Memtables grow by this. The library's 1 MiB, times the families of all shards, would fill much of the common bound."""
FILTERED = ("profiles",)
"""Families in which many keys are looked up that are not there: those of people, and identifiers, who are new."""
MEMTABLE_FILTER = 0.03
"""Of a memtable's bytes, for a filter of its keys: a look-up of one that is not there costs an eighth."""
WAL_BYTES_MAX = 96 << 20
"""A shard's log: bounds what an open after a crash reads again."""
LOG_FILE_BYTES = 1 << 20
LOG_FILES = 2
MANIFEST_BYTES_MAX = 8 << 20


@dataclass(frozen=True)
class Memory:
    """What the shards of one process share, so that their number does not multiply it.

    Args:
        cache: blocks of files, least recently used go first.
        write_buffers: counts the memtables of all shards, and has them written out before they pass its size.
    """

    cache: Cache
    write_buffers: WriteBufferManager


def shared_memory(cache_bytes: int = 128 << 20, write_buffer_bytes: int = 192 << 20) -> Memory:
    """Memory for all shards of this process: one call a process."""
    return Memory(Cache(cache_bytes), WriteBufferManager(write_buffer_bytes, False))


class RocksStore:
    """``state.store.Store`` over one RocksDB directory.

    Handles (``family``) and unfinished scans keep the directory locked after ``close``: drop them too, where the same
    process is to open it again.

    Args:
        directory: made where it is missing.
        memory: shared by the shards of the process.
        access: how it is opened, where it is not for writing: see ``frozen``.

    Raises:
        StateError: locked by another process, damaged, or not to be read: the message says what to do.
        TransientError: the disk is full; opening it again later can succeed.
    """

    def __init__(self, directory: Path, memory: Memory, access: AccessType | None = None) -> None:
        self._directory = directory
        self._refused: OpportuneError | None = None
        if access is None:
            self._prepare()
        try:
            self._database = Rdict(
                str(directory),
                options=_options(memory),
                column_families={name: _options(memory, filtered=name in FILTERED) for name in ("default", *FAMILIES)},
                access_type=access or AccessType.read_write(),
            )
        except Exception as error:  # rocksdict raises plain Exception for everything
            raise _meaning(error, directory, opening=True) from error
        self._views = {name: self._database.get_column_family(name) for name in FAMILIES}
        self._handles = {name: self._database.get_column_family_handle(name) for name in FAMILIES}

    def family(self, name: str) -> Any:
        """See ``Store.family``."""
        return self._handles[name]

    def batch(self) -> Batch:
        """RocksDB's own batch: the hot path pays no wrapper."""
        return WriteBatch(raw_mode=True)

    def write(self, batch: Batch) -> None:
        """See ``Store.write``. Raises ``StateError`` when the disk refuses, and at every write after that."""
        if self._refused is not None:
            raise self._refused
        try:
            self._database.write(batch)  # type: ignore[arg-type]  # what batch() returned: its own
        except Exception as error:
            self._refuse(error)

    def get_many(self, name: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """See ``Store.get_many``. Raises ``StateError`` for a damaged file."""
        try:
            values = self._views[name].get(keys if type(keys) is list else list(keys))
        except Exception as error:
            raise _meaning(error, self._directory) from error
        return values  # type: ignore[return-value]  # a list for a list of keys

    def get(self, name: str, key: bytes) -> bytes | None:
        """See ``Store.get``. Raises ``StateError`` for a damaged file."""
        try:
            value: bytes | None = self._views[name].get(key)
        except Exception as error:
            raise _meaning(error, self._directory) from error
        return value

    def scan(self, name: str, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See ``Store.scan``. Raises ``StateError``, also midway, for a damaged file."""
        options = ReadOptions()
        if end is not None:
            options.set_iterate_upper_bound(end)
        # Made here and not in the generator: the call fixes what is seen.
        return self._walk(self._views[name].iter(options), start, options)

    @property
    def sequence(self) -> int:
        """The number of the last write that is seen; see ``state.reader``."""
        return int(self._database.latest_sequence_number())

    def sync(self) -> None:
        """See ``Store.sync``. After a failure every write is refused: the kernel may have dropped what it could not write."""
        if self._refused is not None:
            raise self._refused
        try:
            self._database.flush_wal(True)
        except Exception as error:
            self._refuse(error)

    def close(self) -> None:
        """See ``Store.close``. A store that was refused a write closes too: its directory is as after a crash."""
        self._views.clear()
        self._handles.clear()
        try:
            self._database.close()
        except Exception as error:
            if self._refused is None:
                raise _meaning(error, self._directory) from error

    def _prepare(self) -> None:
        directory = self._directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            names = {path.name for path in directory.iterdir()}
        except OSError as error:
            raise _meaning(error, directory, opening=True) from error
        # RocksDB takes such a directory for a new one and starts empty.
        if "CURRENT" not in names and any(name.startswith("MANIFEST-") or name.endswith(".sst") for name in names):
            raise StateError(f"{directory}: the file CURRENT is missing. {_DAMAGED}")

    def _walk(self, iterator: RdictIter, start: bytes, options: ReadOptions) -> Iterator[tuple[bytes, bytes]]:
        # The bound's bytes live in the options, and the iterator reads them to its end: the frame keeps them.
        valid, key, value, following = iterator.valid, iterator.key, iterator.value, iterator.next
        try:
            iterator.seek(start)
            while valid():
                yield key(), value()
                following()
            iterator.status()
            del options
        except Exception as error:
            raise _meaning(error, self._directory) from error

    def _refuse(self, error: Exception) -> NoReturn:
        if "already consumed" in str(error) or str(error).startswith("Invalid argument"):
            raise AssertionError(f"a bug in the making of a batch: {error}") from error
        self._refused = _meaning(error, self._directory)
        raise self._refused from error


def frozen(directory: Path) -> RocksStore:
    """A shard's state as it is now, to look at: also while a job runs on it, of which nothing later is seen.

    Raises:
        StateError: there is none, or it is damaged.
    """
    if not (directory / "CURRENT").exists():
        raise StateError(f"there is no state in {directory}: the job has not started here yet")
    for _ in range(READINGS_MAX):
        before = manifests(written(directory))
        store = RocksStore(directory, shared_memory(8 << 20, 8 << 20), AccessType.read_only(False))
        if manifests(written(directory)) == before:
            return store
        store.close()
    raise StateError(f"{directory} is being rewritten all the time: try again")


def _options(memory: Memory, *, filtered: bool = False) -> Options:
    """Options of the database and of each family; ``filtered``: memtables know what they do not have."""
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_write_buffer_manager(memory.write_buffers)
    options.set_write_buffer_size(MEMTABLE_BYTES)
    options.set_arena_block_size(ARENA_BYTES)
    options.set_max_background_jobs(2)
    options.set_max_total_wal_size(WAL_BYTES_MAX)
    options.set_max_log_file_size(LOG_FILE_BYTES)
    options.set_keep_log_file_num(LOG_FILES)
    options.set_max_manifest_file_size(MANIFEST_BYTES_MAX)
    options.set_manifest_preallocation_size(64 << 10)
    options.set_compression_type(DBCompressionType.lz4())
    if filtered:
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(MEMTABLE_FILTER)
    # Sixteen threads a family otherwise, begun and ended at each opening and at each catching up of a reader.
    options.set_max_file_opening_threads(1)
    options.set_block_based_table_factory(tables(memory.cache))
    return options


def tables(cache: Cache) -> BlockBasedOptions:
    """Options of table files: a reader without them looks into every file that may have a key."""
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_bloom_filter(10, False)
    # Otherwise every open file keeps its index and filter in memory of its own, outside the bound of the cache.
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    return table


_DAMAGED = (
    "The state of this shard is damaged: restore a checkpoint set, or move the state directory away and start with an "
    "empty one; then the topics are read again from the beginning."
)


def _meaning(error: Exception, directory: Path, *, opening: bool = False) -> OpportuneError:
    """What an error of RocksDB or of the file system means to an operator."""
    text = str(error)
    if "LOCK" in text:
        return StateError(
            f"{directory} is locked: another process runs on this state. Stop it, or give this one another "
            f"state.directory. ({text})"
        )
    if text.startswith("Corruption") or "Column families not opened" in text:
        return StateError(f"{directory}: {text} {_DAMAGED}")
    if "No space left" in text or "quota exceeded" in text.lower():
        sentence = f"{directory}: the disk is full; nothing more was acknowledged. Free space and start again. ({text})"
        return TransientError(sentence) if opening else StateError(sentence)
    return StateError(f"{directory}: the disk refused: {text}. Check the disk and its permissions, and start again.")
