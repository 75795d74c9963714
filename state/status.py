"""How far the job has come, as other processes see it: its status file.

Owns: reading the log time of each shard from ``status.json`` of the state directory, which the job replaces once a second.
Invariant: what a shard's time says is in the shard's state already when the file says it. So: first the status, then the
catching up, then the reads. Not here: writing it (flows.metrics), what the times mean (flows.hub).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from opportune.errors import ReadRefused

STATUS_FILE = "status.json"


class Status(msgspec.Struct, frozen=True):
    """What readers want of it: milliseconds of log time by shard."""

    shard_ms: dict[int, int] = {}


def read_shard_times(directory: Path) -> dict[int, int]:
    """The log time of each shard, milliseconds.

    Raises:
        ReadRefused: the job has not run on this directory, or the file is not its.
    """
    try:
        return msgspec.json.decode((directory / STATUS_FILE).read_bytes(), type=Status, strict=False).shard_ms
    except FileNotFoundError as error:
        raise ReadRefused("the job has not run on this state directory yet") from error
    except (OSError, msgspec.MsgspecError) as error:
        raise ReadRefused(f"the job's status cannot be read: {error}") from error
