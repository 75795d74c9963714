"""What a secondary instance of RocksDB is shown of a shard's directory, so that it never has to be opened anew for a flush.

Owns: a directory of the reader's own, in which the secondary finds a copy of the shard's manifest, as far as it is to know it,
and the shard's logs, each under a name that stays good when the writer removes it. Why: a secondary takes what is new from the
manifest first and from the logs second. A change that it finds in neither (the manifest was read before a flush, the log is gone
after it), or whose older value it has in memory in front of the newer one of the table file, is lost to it. Here the logs come
first: all of them are read to their ends, and then the manifest is let on to where it was before that. So whatever a table
file brings is known already, and what was in memory is let go of in its order.
How a log that came and went unseen is noticed: the writes of a shard are numbered without gaps, so each log begins with the
number behind that of the write before it. Only after such a gap the shard is opened anew.

    OWN/CURRENT, OWN/MANIFEST-000005     copies; the manifest grows with ``show_manifest``
    OWN/logs/000012.log                  a link to the open file: /proc/self/fd/N, which outlives the file's name

A log begins with crc:u32 | length:u16 | type:u8, little-endian, and the first write's number:u64 | count:u32 (RocksDB's
format of logs and of write batches).
Invariant: nothing is ever written into the shard's directory. Where there is no /proc the links are ordinary ones: then a
log that is removed before it is read is such a gap.
Not here: reading (state.reader), what it costs.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path

from state.written import READINGS_MAX

FIRST = struct.Struct("<4xHBQI")
WHOLE, BEGINNING = 1, 2
"""Types of a log's records: one that is in one piece, and the first piece of one that is not."""
OPEN_FILES = Path("/proc/self/fd")


class _Log:
    """A log of the shard, held open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.number = int(path.stem)
        self.link: Path | None = None

    def first(self) -> int | None:
        """The number of its first write; None: it has none yet; 0, which no write has, where it is not understood."""
        data = os.pread(self.file, FIRST.size, 0)
        if len(data) < FIRST.size:
            return None
        _, kind, sequence, _ = FIRST.unpack(data)
        return int(sequence) if kind in (WHOLE, BEGINNING) else 0

    def show(self, directory: Path) -> None:
        """Puts it where the secondary looks for logs."""
        self.link = directory / self.path.name
        self.link.symlink_to(OPEN_FILES / str(self.file) if OPEN_FILES.exists() else self.path)

    def close(self) -> None:
        """Lets it go."""
        if self.link is not None:
            self.link.unlink(missing_ok=True)
        os.close(self.file)


class Mirror:
    """A shard's manifest and logs, as far as they are shown.

    Args:
        shard: the directory.
        own: a directory that is made here.

    Attributes:
        own: what the secondary is told to be the shard's directory.
        logs: and its directory of logs.

    Raises:
        OSError: there is nothing to read, or it is being rewritten all the time.
    """

    def __init__(self, shard: Path, own: Path) -> None:
        self.own, self.logs = own, own / "logs"
        self._shard = shard
        self._held: dict[str, _Log] = {}
        self._manifest = -1
        self.logs.mkdir(parents=True)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def more(self) -> bytes | None:
        """What the manifest has beyond what is shown; None: another one has taken its place. Raises ``OSError``."""
        if self._current() != self._name:
            return None
        there, here = (self._shard / self._name).stat(), os.fstat(self._manifest)
        if (there.st_ino, there.st_dev) != (here.st_ino, here.st_dev):
            return None
        return os.pread(self._manifest, max(here.st_size - self._shown, 0), self._shown)

    def hold(self) -> None:
        """Takes hold of logs that are new, and lets go of those that are read and gone. Raises ``OSError``."""
        there = {path.name for path in self._shard.iterdir() if path.suffix == ".log"}
        for name in sorted(there - self._held.keys()):
            # One that goes in this moment is a gap, or was empty.
            with suppress(FileNotFoundError):
                self._held[name] = _Log(self._shard / name)
        newest = max((log.number for log in self._held.values() if log.link is not None), default=0)
        for name in [name for name, log in self._held.items() if name not in there and log.number < newest]:
            self._held.pop(name).close()

    def begun(self) -> list[tuple[_Log, int]]:
        """The logs that have something and are not shown, in order, and the numbers of their first writes."""
        waiting = sorted((log for log in self._held.values() if log.link is None), key=lambda log: log.number)
        return [(log, first) for log in waiting if (first := log.first()) is not None]

    def show(self, log: _Log) -> None:
        """Shows a log."""
        log.show(self.logs)

    @property
    def ends_empty(self) -> bool:
        """Whether the newest log is not shown: it had nothing in it."""
        return bool(self._held) and max(self._held.values(), key=lambda log: log.number).link is None

    def show_manifest(self, more: bytes) -> None:
        """Lets the manifest on by these bytes."""
        with (self.own / self._name).open("ab") as copy:
            copy.write(more)
        self._shown += len(more)

    def close(self) -> None:
        """Lets all files go. The directory stays."""
        for log in self._held.values():
            log.close()
        self._held.clear()
        if self._manifest >= 0:
            os.close(self._manifest)
            self._manifest = -1

    def _begin(self) -> None:
        """Shows all there is: the manifest as it was both before and after the logs were taken hold of."""
        for _ in range(READINGS_MAX):
            self._name, self._shown = self._current(), 0
            if self._manifest >= 0:
                os.close(self._manifest)
            self._manifest = os.open(self._shard / self._name, os.O_RDONLY | os.O_CLOEXEC)
            manifest = self.more()
            self.hold()
            if manifest is not None and self.more() == manifest:
                self.show_manifest(manifest)
                (self.own / "CURRENT").write_text(self._name + "\n")
                for log, _ in self.begun():
                    self.show(log)
                return
        raise OSError("it is being rewritten all the time: ask again")

    def _current(self) -> str:
        return (self._shard / "CURRENT").read_text().strip()
