"""How fresh an answer has to be, and how fresh it is.

Owns: the three ways to ask (an age, a place of an earlier answer, the version of a change), the text of a place, and what every
answer says of itself. A place is ``SHARD-WRITE.SHARD-WRITE...``: the last write of each shard that an answer looked at; writes of
a shard are numbered for ever, so whoever has seen one has seen all before it, at whichever process.
Not here: waiting for it (api.shards).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import Query

from api.problems import Problem
from api.settled import Event, read_place

AGE = Query(None, ge=1, le=3_600_000, description="the answer may be so old; waited for within 2 seconds, else 503")
POSITION = Query(
    None,
    max_length=4_000,
    description="freshness.position of an earlier answer, or Opportune-Position of the collector: this one is not older; "
    "waited for within 2 seconds, else 503",
    examples=["2-48112"],
)
VERSION = Query(
    None,
    ge=0,
    le=(1 << 63) - 1,
    description="version of a membership change of this person: the answer is not older; waited for likewise",
)
_POSITION = re.compile(r"[0-9]{1,5}-[0-9]{1,19}(?:\.[0-9]{1,5}-[0-9]{1,19})*")


class AsFresh(msgspec.Struct, frozen=True):
    """How fresh an answer has to be.

    Args:
        age_ms_max: how old at most; None: as old as it is.
        writes: by shard, the write that it must have seen.
        version: the change of the person that it must have seen.
        events: by topic id and partition, the offset of the last event that it must have seen.
    """

    age_ms_max: int | None = None
    writes: Mapping[int, int] = {}
    version: int = 0
    events: Mapping[Event, int] = {}


ANY = AsFresh()


def as_fresh(min_freshness_ms: int | None, min_position: str | None, min_version: int | None, shards: int) -> AsFresh:
    """What a request asks for. Raises ``Problem`` (400)."""
    if min_freshness_ms is None and min_position is None and min_version is None:
        return ANY
    events = read_place(min_position) if min_position else None
    writes = read_writes(min_position, shards) if min_position and events is None else {}
    return AsFresh(min_freshness_ms, writes, min_version or 0, events or {})


def read_writes(text: str, shards: int) -> dict[int, int]:
    """The write of each shard that a place says. Raises ``Problem`` (400)."""
    writes: dict[int, int] = {}
    for one in text.split(".") if _POSITION.fullmatch(text) else ():
        shard, _, write = one.partition("-")
        writes[int(shard)] = max(int(write), writes.get(int(shard), 0))
    if not writes or max(writes) >= shards:
        raise Problem(
            400, "bad_position", "a position is freshness.position of an answer, or Opportune-Position, as it was sent"
        )
    return writes


def writes_text(writes: Mapping[int, int]) -> str:
    """The text of a place."""
    return ".".join(f"{shard}-{write}" for shard, write in writes.items())


def freshness(shard: int, time_ms: int, as_of: str, now_ms: int, writes: Mapping[int, int]) -> dict[str, Any]:
    """What an answer says of itself."""
    return {"shard": shard, "as_of": as_of, "age_ms": max(now_ms - time_ms, 0), "position": writes_text(writes)}
