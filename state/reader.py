"""One shard's state, read beside the process that writes it.

Owns: a RocksDB secondary instance: it sees what the writer has written, also what lies in its log only, as of the last
catching up. With state.rocks the only importer of rocksdict. Invariants: nothing is ever written into the shard's
directory; between two catchings-up nothing changes, so several reads agree with each other; what is read after one is all that
was written up to ``sequence``, and nothing older than that.
Costs: a catching-up takes 0.05 ms, and 5 ms a MiB that was written, with the interpreter held: it is done when somebody asks,
and now and then where nobody does, so that what is to be read stays little. Opening takes 5 to 400 ms, likewise, by the size
of the logs: it is done again only where a log was not seen (state.mirror), or the writer has started anew.
Not here: the contract of reading (state.store), the options of the writer (state.rocks), log time (state.status).
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rocksdict import AccessType, Cache, DBPath, Options, Rdict, ReadOptions

from opportune.errors import ReadRefused
from state.mirror import Mirror
from state.rocks import tables
from state.store import FAMILIES
from state.written import Written, written

CACHE_BYTES = 128 << 20


def read_cache(size: int = CACHE_BYTES) -> Cache:
    """Memory for blocks of files, of all readers of this process: least recently used go first."""
    return Cache(size)


class ShardReader:
    """Reads one shard.

    Args:
        directory: the shard's.
        cache: shared by the readers of the process; None: one of its own.

    Attributes:
        seen: the writer's logs and manifests, with their bytes, as of the last catching up.
        opened: how often the shard was opened, anew or for the first time.

    Raises:
        ReadRefused: there is nothing to read yet, or it cannot be opened.
    """

    def __init__(self, directory: Path, cache: Cache | None = None) -> None:
        if not (directory / "CURRENT").exists():
            raise ReadRefused(f"{directory.name}: this shard has no state yet; the job makes it")
        self._name = directory.name
        self._directory = directory
        self._cache = cache or read_cache(CACHE_BYTES // 16)
        self.seen: Written = frozenset()
        self.opened = 0
        # What it is shown of the shard, and the library's own log.
        self._own = Path(tempfile.mkdtemp(prefix="opportune-reader-"))
        self._mirror: Mirror | None = None
        self._database: Any = None
        self._views: dict[str, Any] = {}
        try:
            self.catch_up()
        except ReadRefused:
            self.close()
            raise

    def catch_up(self) -> bool:
        """Sees what has been written by now; returns whether there may be something new.

        Raises:
            ReadRefused: the shard is no longer what it was.
        """
        try:
            # Looked at before, so that what is written meanwhile is seen the next time.
            found = written(self._directory)
            if found == self.seen:
                return False
            if not self._follow():
                self._open()
        except Exception as error:  # rocksdict raises plain Exception for everything
            self._let_go()
            raise self._refused(error) from error
        self.seen = found
        return True

    def _open(self) -> None:
        self._let_go()
        self.opened += 1
        mirror = self._mirror = Mirror(self._directory, self._own / str(self.opened))
        names = ("default", *FAMILIES)
        # Scans that go on keep what they read from.
        self._database = Rdict(
            str(mirror.own),
            options=self._options(mirror),
            column_families={name: self._options(mirror) for name in names},
            access_type=AccessType.secondary(str(mirror.own / "log")),
        )
        self._views = {name: self._database.get_column_family(name) for name in FAMILIES}
        self._settle(mirror)

    def _settle(self, mirror: Mirror) -> None:
        mirror.settle({file["name"].lstrip("/") for file in self._database.live_files()})

    def _options(self, mirror: Mirror) -> Options:
        """Everything is read in the reader's own directory, logs and table files through links."""
        options = Options(raw_mode=True)
        options.set_db_paths([DBPath(str(mirror.tables), 1 << 62)])
        options.set_wal_dir(str(mirror.logs))
        # Sixteen a family otherwise, begun and ended at each catching up: that takes 4 ms, this 0.04.
        options.set_max_file_opening_threads(1)
        options.set_block_based_table_factory(tables(self._cache))
        return options

    def _let_go(self) -> None:
        """What is open reads no further."""
        mirror, self._mirror = self._mirror, None
        if mirror is not None:
            mirror.close()
            shutil.rmtree(mirror.own, ignore_errors=True)

    def _follow(self) -> bool:
        """Reads all logs to their ends, and then the manifest as it was before that.

        Returns:
            Whether that is all there was; else the shard is to be opened: nothing is open, or a log was not seen.
        """
        mirror = self._mirror
        more = mirror.take() if mirror is not None else None
        if mirror is None or more is None:
            return False
        catch_up = self._database.try_catch_up_with_primary
        # Logs that have a successor now are complete, and read to their ends here.
        catch_up()
        for log, first in mirror.begun():
            if first != self.sequence + 1:
                return False
            mirror.show(log)
            catch_up()
        if more:
            read, ends_empty = self.sequence, mirror.ends_empty
            mirror.show_manifest(more)
            catch_up()
            self._settle(mirror)
            # The manifest tells of writes that no log has had: there was one in front of the empty one.
            return not (ends_empty and self.sequence != read)
        return True

    @property
    def sequence(self) -> int:
        """How far it has caught up: the number of the writer's last write that is seen. It rises, and never goes back."""
        return int(self._database.latest_sequence_number())

    def get(self, name: str, key: bytes) -> bytes | None:
        """See ``Store.get``. Raises ``ReadRefused``."""
        try:
            value: bytes | None = self._views[name].get(key)
        except Exception as error:
            raise self._refused(error) from error
        return value

    def get_many(self, name: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """See ``Store.get_many``. Raises ``ReadRefused``."""
        try:
            values: list[bytes | None] = self._views[name].get(list(keys))
        except Exception as error:
            raise self._refused(error) from error
        return values

    def scan(self, name: str, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See ``Store.scan``; but what comes in while a scan goes on may be seen by it, where ``catch_up`` is called midway.

        Raises ``ReadRefused``, also midway.
        """
        options = ReadOptions()
        if end is not None:
            options.set_iterate_upper_bound(end)
        return self._walk(self._views[name].iter(options), start, options)

    def close(self) -> None:
        """Lets the shard go."""
        self._views.clear()
        if self._database is not None:
            with contextlib.suppress(Exception):
                self._database.close()
        self._let_go()
        shutil.rmtree(self._own, ignore_errors=True)

    def _walk(self, iterator: Any, start: bytes, options: ReadOptions) -> Iterator[tuple[bytes, bytes]]:
        # The bound's bytes live in the options, and the iterator reads them to its end: the frame keeps them.
        try:
            iterator.seek(start)
            while iterator.valid():
                yield iterator.key(), iterator.value()
                iterator.next()
            iterator.status()
            del options
        except Exception as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> ReadRefused:
        return ReadRefused(f"shard {self._name} cannot be read now: {error}")
