"""One shard's state, read beside the process that writes it.

Owns: a RocksDB secondary instance: it sees what the writer has written, also what lies in its log only, as of the last
catching up. With state.rocks the only importer of rocksdict. Invariants: nothing is ever written into the shard's
directory; between two catchings-up nothing changes, so several reads agree with each other.
Costs: a catching-up takes 1 to 10 ms, with the interpreter held: do it when asked and not before. Where the writer has
written nothing it takes 0.05 ms. Where it has flushed, the shard is opened anew, which reads its logs again.
Not here: the contract of reading (state.store), the options of the writer (state.rocks), log time (state.status).
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rocksdict import AccessType, Options, Rdict, ReadOptions

from opportune.errors import ReadRefused
from state.store import FAMILIES
from state.written import READINGS_MAX, Written, manifests, written


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
        self.seen: Written = frozenset()
        # The library's own log and nothing else goes there.
        self._own = Path(tempfile.mkdtemp(prefix="opportune-reader-"))
        try:
            self._read_whole()
        except ReadRefused:
            shutil.rmtree(self._own, ignore_errors=True)
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
            if manifests(found) == manifests(self.seen):
                self._database.try_catch_up_with_primary()
                if manifests(written(self._directory)) == manifests(found):
                    self.seen = found
                    return True
        except Exception as error:
            raise self._refused(error) from error
        self._read_whole()
        return True

    def _read_whole(self) -> None:
        """Opens the shard anew: after a flush of the writer what was read is not whole (state.written)."""
        for _ in range(READINGS_MAX):
            try:
                found = written(self._directory)
                database = Rdict(
                    str(self._directory),
                    options=Options(raw_mode=True),
                    column_families={name: Options(raw_mode=True) for name in ("default", *FAMILIES)},
                    access_type=AccessType.secondary(str(self._own)),
                )
                views = {name: database.get_column_family(name) for name in FAMILIES}
                if manifests(written(self._directory)) == manifests(found):
                    # Scans that go on keep what they read from.
                    self._database, self._views, self.seen = database, views, found
                    return
            except Exception as error:  # rocksdict raises plain Exception for everything
                raise self._refused(error) from error
        raise ReadRefused(f"shard {self._name} is being rewritten all the time: ask again")

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
