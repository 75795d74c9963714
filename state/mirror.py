"""What a secondary instance of RocksDB is shown of a shard's directory, so that it never has to be opened anew for a flush.

Owns: a directory of the reader's own, in which the secondary finds a copy of the shard's manifest, as far as it is to know it,
and the shard's logs and table files, each under a name that stays good when the writer removes it, until it has been read: so
all that a manifest names is there, however long the reading takes. Why: a secondary takes what is new from the
manifest first and from the logs second. A change that it finds in neither (the manifest was read before a flush, the log is gone
after it), or whose older value it has in memory in front of the newer one of the table file, is lost to it. Here the logs come
first: all of them are read to their ends, and then the manifest is let on to where it was before that. So whatever a table
file brings is known already, and what was in memory is let go of in its order.
How a log that came and went unseen is noticed: the writes of a shard are numbered without gaps, so each log begins with the
number behind that of the write before it. Only after such a gap the shard is opened anew.

    OWN/CURRENT, OWN/MANIFEST-000005     copies; the manifest grows with ``show_manifest``
    OWN/logs/000012.log                  a link to the open file: /proc/self/fd/N, which outlives the file's name
    OWN/tables/000011.sst                the same; once it has been read, to the file of the shard

A log begins with crc:u32 | length:u16 | type:u8, little-endian, and the first write's number:u64 | count:u32 (RocksDB's
format of logs and of write batches).
Invariants: nothing is ever written into the shard's directory; what is shown was in it at one moment. Where there is no /proc
the links are ordinary ones: then a log that is removed before it is read is such a gap, and a table file a refusal.
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


class _Held:
    """A file of the shard, held open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.number = int(path.stem)
        self.link: Path | None = None

    def first(self) -> int | None:
        """The number of a log's first write; None: it has none yet; 0, which no write has, where it is not understood."""
        data = os.pread(self.file, FIRST.size, 0)
        if len(data) < FIRST.size:
            return None
        _, kind, sequence, _ = FIRST.unpack(data)
        return int(sequence) if kind in (WHOLE, BEGINNING) else 0

    def show(self, directory: Path) -> None:
        """Puts it where the secondary looks."""
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
        tables: and that of its table files.

    Raises:
        OSError: there is nothing to read, or it is being rewritten all the time.
    """

    def __init__(self, shard: Path, own: Path) -> None:
        self.own, self.logs, self.tables = own, own / "logs", own / "tables"
        self._shard = shard
        self._logs: dict[str, _Held] = {}
        self._fresh: dict[str, _Held] = {}
        self._known: set[str] = set()
        self._manifest = -1
        for directory in (self.logs, self.tables):
            directory.mkdir(parents=True)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def take(self) -> bytes | None:
        """Takes hold of all that is new, as of one moment.

        Returns:
            What the manifest has beyond what is shown; None: another one has taken its place.

        Raises:
            OSError: something is not to be read, or the shard is being rewritten all the time.
        """
        for _ in range(READINGS_MAX):
            more = self._more()
            self._hold(tables=more != b"")
            # A log or a table file is removed only after the manifest says that it is not needed.
            if not more or self._more() == more:
                return more
        raise OSError("it is being rewritten all the time: ask again")

    def begun(self) -> list[tuple[_Held, int]]:
        """The logs that have something and are not shown, in order, and the numbers of their first writes."""
        waiting = sorted((log for log in self._logs.values() if log.link is None), key=lambda log: log.number)
        return [(log, first) for log in waiting if (first := log.first()) is not None]

    def show(self, log: _Held) -> None:
        """Shows a log."""
        log.show(self.logs)

    @property
    def ends_empty(self) -> bool:
        """Whether the newest log is not shown: it had nothing in it."""
        return bool(self._logs) and max(self._logs.values(), key=lambda log: log.number).link is None

    def show_manifest(self, more: bytes) -> None:
        """Lets the manifest on by these bytes."""
        with (self.own / self._name).open("ab") as copy:
            copy.write(more)
        self._shown += len(more)

    def settle(self, opened: set[str]) -> None:
        """All that is shown has been read.

        Args:
            opened: the table files that the secondary uses, and has open. Of others, which are being written, the manifest
                may come to say something later.
        """
        for name in opened & self._fresh.keys():
            table = self._fresh.pop(name)
            table.close()
            (self.tables / name).symlink_to(table.path)

    def close(self) -> None:
        """Lets all files go. The directory stays."""
        for file in (*self._logs.values(), *self._fresh.values()):
            file.close()
        self._logs.clear()
        self._fresh.clear()
        if self._manifest >= 0:
            os.close(self._manifest)
            self._manifest = -1

    def _begin(self) -> None:
        """Shows all there is."""
        for _ in range(READINGS_MAX):
            self._name, self._shown = self._current(), 0
            if self._manifest >= 0:
                os.close(self._manifest)
            self._manifest = os.open(self._shard / self._name, os.O_RDONLY | os.O_CLOEXEC)
            more = self.take()
            if more is not None:
                self.show_manifest(more)
                (self.own / "CURRENT").write_text(self._name + "\n")
                for log, _ in self.begun():
                    self.show(log)
                return
        raise OSError("it is being rewritten all the time: ask again")

    def _current(self) -> str:
        return (self._shard / "CURRENT").read_text().strip()

    def _more(self) -> bytes | None:
        if self._current() != self._name:
            return None
        there, here = (self._shard / self._name).stat(), os.fstat(self._manifest)
        if (there.st_ino, there.st_dev) != (here.st_ino, here.st_dev):
            return None
        return os.pread(self._manifest, max(here.st_size - self._shown, 0), self._shown)

    def _hold(self, *, tables: bool) -> None:
        there = {path.name for path in self._shard.iterdir() if path.suffix in (".log", ".sst")}
        for name in sorted(name for name in there if name.endswith(".log") and name not in self._logs):
            # One that goes in this moment is a gap, or was empty.
            with suppress(FileNotFoundError):
                self._logs[name] = _Held(self._shard / name)
        newest = max((log.number for log in self._logs.values() if log.link is not None), default=0)
        for name in [name for name, log in self._logs.items() if name not in there and log.number < newest]:
            self._logs.pop(name).close()
        if tables:
            self._hold_tables({name for name in there if name.endswith(".sst")})

    def _hold_tables(self, there: set[str]) -> None:
        for name in self._known - there:
            (self._fresh.pop(name).close if name in self._fresh else (self.tables / name).unlink)()
        for name in there - self._known:
            # One that goes in this moment is not needed any more.
            with suppress(FileNotFoundError):
                table = self._fresh[name] = _Held(self._shard / name)
                table.show(self.tables)
        self._known = (self._known & there) | self._fresh.keys()
