"""The members of an audience in a shard, in order of profile id.

Owns: the walk over the index of memberships, corrected by those whose time has come and whose timers wait.
Invariant: over a reading that does not move (``state.rocks.frozen``) all slices together are what the reference says at one
instant; a walk that begins behind a profile id gives exactly what the whole walk gives after it.
Not here: one person (state.people), formats (api.members).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from state.keys import U32, prefix_end
from state.store import Reading

AUDIENCE_BYTES = 4
HEADS = 1_000
"""So many heads are read at once: more are slower, since they do not stay in the processor's cache."""


class Slice(NamedTuple):
    """Some members, in order of profile id.

    Args:
        ids: 16 bytes each.
        since_ms: since when each is a member.
        identifiers: of each, ``namespace:value``; None where they were not asked for.
    """

    ids: list[bytes]
    since_ms: npt.NDArray[np.int64]
    identifiers: Sequence[Sequence[str]] | None


class _Names(msgspec.Struct, array_like=True, gc=False):
    """A profile's head (opportune.profile), of which only the identifiers are looked at."""

    version: int
    now: int
    timer: int
    due: int
    dues: msgspec.Raw
    members: msgspec.Raw
    # Tuples of texts are no work for the garbage collector, of which so many lists would be half the time.
    identifiers: tuple[str, ...]


_names = msgspec.msgpack.Decoder(_Names).decode
_NOBODY = msgspec.msgpack.encode((0, 0, 0, 0, {}, (), ()))
"""The head of somebody who has none."""
Corrected = Mapping[bytes, int | None]
"""By profile id, since when it is a member; None: it no longer is."""


def slices(
    reading: Reading, audience: int, corrected: Corrected, after: bytes, rows: int, *, identifiers: bool
) -> Iterator[Slice]:
    """Walks over the members.

    Args:
        reading: the shard.
        audience: its number.
        corrected: what time has changed, and no timer has fired yet.
        after: a profile id: those up to it are left out; empty: none are.
        rows: how many are read at once.
        identifiers: whether they are wanted.
    """
    prefix = U32(audience)
    pairs = reading.scan("members", prefix + after + b"\0" if after else prefix, prefix_end(prefix))
    more = sorted((who, since) for who, since in corrected.items() if since is not None and who > after)
    while True:
        part = list(islice(pairs, rows))
        ids = [key[AUDIENCE_BYTES:] for key, _ in part]
        since = np.frombuffer(b"".join([value for _, value in part]), ">u8")[::2].astype(np.int64)
        last = len(part) < rows
        if corrected:
            come = len(more) if last else sum(who <= ids[-1] for who, _ in more)
            ids, since = _merged(ids, since, corrected, more[:come])
            more = more[come:]
        if ids:
            yield Slice(ids, since, _identifiers(reading, ids) if identifiers else None)
        if last:
            return


def count(reading: Reading, audience: int, corrected: Corrected) -> int:
    """How many members there are."""
    prefix = U32(audience)
    stored = sum(1 for _ in reading.scan("members", prefix, prefix_end(prefix)))
    for who, since in corrected.items():
        stored += (since is not None) - (reading.get("members", prefix + who) is not None)
    return stored


def _merged(
    ids: list[bytes], since: npt.NDArray[np.int64], corrected: Corrected, more: list[tuple[bytes, int]]
) -> tuple[list[bytes], npt.NDArray[np.int64]]:
    kept = [(who, at) for who, at in zip(ids, since.tolist(), strict=True) if who not in corrected]
    rows = sorted(kept + more)
    return [who for who, _ in rows], np.array([at for _, at in rows], dtype=np.int64)


def _identifiers(reading: Reading, ids: list[bytes]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for begin in range(0, len(ids), HEADS):
        heads = reading.get_many("profiles", ids[begin : begin + HEADS])
        found += [one.identifiers for one in map(_names, [_NOBODY if head is None else head for head in heads])]
    return found
