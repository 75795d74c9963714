"""How far a shard's directory is written, as seen from outside by the names and bytes of its files.

Owns: what a reader has to compare, and why. RocksDB writes a change to its log, and moves it to a table file at a flush, which
lengthens the manifest and removes the log. Whoever reads the manifest before a flush and looks for the log after it finds the
change in neither. So what was read is whole only where the manifest is the same before and after the reading.
Nothing is hidden by comparing bytes: each write lengthens a log at once, since logs are not recycled and are flushed to the
system with each write (RocksDB's defaults, which state.rocks leaves as they are).
Not here: reading on after a flush (state.mirror), reading (state.reader, state.rocks).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

Written: TypeAlias = frozenset[tuple[str, int]]
"""Names and bytes of files."""
MANIFEST = "MANIFEST-"
READINGS_MAX = 20
"""So often a reading is begun again because of a flush in the middle of it."""


def written(directory: Path) -> Written:
    """The logs and manifests of a shard; one that is removed in this moment is gone."""
    found = set()
    with os.scandir(directory) as files:
        for file in files:
            if file.name.endswith(".log") or file.name.startswith(MANIFEST):
                with suppress(FileNotFoundError):
                    found.add((file.name, file.stat().st_size))
    return frozenset(found)


def manifests(found: Written) -> Written:
    """The manifests among them: where these change, table files have come or gone."""
    return frozenset(one for one in found if one[0].startswith(MANIFEST))
