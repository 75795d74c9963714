"""One shard's state, read beside the process that writes it.

Owns: a RocksDB secondary instance: it sees what the writer has written, also what lies in its log only, as of the last
catching up. With state.rocks the only importer of rocksdict. Invariants: nothing is ever written into the shard's
directory; between two catchings-up nothing changes, so several reads agree with each other.
Costs: a catching-up takes 1 to 10 ms, with the interpreter held: do it when asked and not before. Where the writer has
written nothing it takes 0.05 ms: whatever is written lengthens the log or the manifest, or begins a new one.
Not here: the contract of reading (state.store), the options of the writer (state.rocks), log time (state.status).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rocksdict import AccessType, Options, Rdict, ReadOptions

from opportune.errors import ReadRefused
from state.store import FAMILIES


class ShardReader:
    """Reads one shard.

    Args:
        directory: the shard's.

    Attributes:
        seen: the writer's logs and manifests, with their bytes, as of the last catching up.

    Raises:
        ReadRefused: there is nothing to read yet, or it cannot be opened.
    """

    def __init__(self, directory: Path) -> None:
        if not (directory / "CURRENT").exists():
            raise ReadRefused(f"{directory.name}: this shard has no state yet; the job makes it")
        self._name = directory.name
        self._directory = directory
        self.seen: frozenset[tuple[str, int]] = frozenset()
        # The library's own log and nothing else goes there.
        self._own = Path(tempfile.mkdtemp(prefix="opportune-reader-"))
        options = Options(raw_mode=True)
        try:
            self._database = Rdict(
                str(directory),
                options=options,
                column_families={name: Options(raw_mode=True) for name in ("default", *FAMILIES)},
                access_type=AccessType.secondary(str(self._own)),
            )
            self._views = {name: self._database.get_column_family(name) for name in FAMILIES}
        except Exception as error:  # rocksdict raises plain Exception for everything
            shutil.rmtree(self._own, ignore_errors=True)
            raise self._refused(error) from error

    def catch_up(self) -> bool:
        """Sees what has been written by now; returns whether there may be something new.

        Raises:
            ReadRefused: the shard is no longer what it was.
        """
        try:
            # Looked at before, so that what is written meanwhile is seen the next time.
            written = _written(self._directory)
            if written == self.seen:
                return False
            self._database.try_catch_up_with_primary()
        except Exception as error:
            raise self._refused(error) from error
        self.seen = written
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
            values = self._views[name].get(list(keys))
        except Exception as error:
            raise self._refused(error) from error
        return values  # type: ignore[return-value]  # a list for a list of keys

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
        with contextlib.suppress(Exception):
            self._database.close()
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


def _written(directory: Path) -> frozenset[tuple[str, int]]:
    """The logs and manifests of a shard, with their bytes; one that is removed in this moment is gone.

    Never the same again once something was written. Every write is appended to the log before it returns (``manual_wal_flush``
    is off, the default), so the log is longer, or there is a new one. Room that is allocated ahead does not count into a
    file's bytes (FALLOC_FL_KEEP_SIZE), and no file is mapped for writing. A log is not used again (``recycle_log_file_num``
    is 0, the default; state.rocks must leave it so), and numbers rise: a name with so many bytes has one content. A log goes
    only after what is in it was noted in the manifest, which is then longer, or a new one: also a log that came and went
    between two looks shows there. One that comes while the directory is walked may be missed, and is seen the next time.
    """
    found = set()
    with os.scandir(directory) as files:
        for file in files:
            if file.name.endswith(".log") or file.name.startswith("MANIFEST-"):
                with suppress(FileNotFoundError):
                    found.add((file.name, file.stat().st_size))
    return frozenset(found)
