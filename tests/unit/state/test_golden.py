"""Every durable value against a file that was written once: a difference is a change of the format.

Where a change is meant: raise FORMAT_VERSION, say it in CHANGELOG.md, and write the new file by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from state.ancestry import Ancestry
from state.entries import decode_entries, encode_entries
from state.keys import (
    FORMAT_VERSION,
    META_ANCESTRY,
    META_APPLIED,
    META_CHANNELS,
    META_GENERATION,
    META_IDENTITY,
    META_LINEAGE,
    META_OUTBOX,
    META_PLAN,
    META_REACHED,
    META_ROUTING,
    META_SEQUENCES,
    META_STAGE,
    META_STARTED,
    U64,
    pack_group,
    pack_member,
    pack_membership,
    pack_timer,
)
from state.memory import MemoryStore
from state.outbox import Outbox, OutboxMessage, decode_messages, encode_messages
from state.positions import Channels, Positions, Sequences
from state.seen import Seen
from state.shard_identity import Expected, Identity, decode_identity, encode_identity, open_shard
from state.store import FAMILIES

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "state"
PROFILE = bytes(range(16))
NOW = 1_700_000_000_000
MESSAGES = [
    OutboxMessage("shop.memberships", -1, b"key", b'{"change": "entered"}', [("ce_id", b"1"), ("ce_type", b"change")]),
    OutboxMessage("shop.mailbox", 3, None, None, []),
]


def entries() -> tuple[np.ndarray, np.ndarray]:
    return np.array([1, 2**64 - 1, 7], np.uint64), np.array([NOW + 5, NOW, NOW + 2**32 - 1], np.int64)


def positions() -> Positions:
    made = Positions()
    made.advance(b"topic-id-of-shop", 0, 42, NOW)
    made.advance(b"topic-id-of-mail", 11, 0, -1)
    made.advance(b"topic-id-of-shop", 0, 43, NOW + 1)
    return made


def channels() -> Channels:
    made = Channels()
    made.advance(3, 1, 2**40)
    return made


def sequences() -> Sequences:
    made = Sequences((7).to_bytes(4, "big") + (2**40 - 1).to_bytes(8, "big"))
    assert (made.next(7), made.next(0)) == (2**40, 1)
    return made


def wide() -> bytes:
    return encode_entries(np.array([1, 2], np.uint64), np.array([NOW, NOW + 2**40], np.int64))


VALUES: dict[str, Callable[[], bytes]] = {
    "identity": lambda: encode_identity(Identity(format=1, project="shop", shard=3, shards=12)),
    "timer_key": lambda: pack_timer(NOW, PROFILE),
    "member_key": lambda: pack_member(258, PROFILE),
    "membership": lambda: pack_membership(NOW, NOW * 1024 + 1),
    "group_key": lambda: pack_group(PROFILE, 513),
    "applied": lambda: positions().encode(),
    "channels": lambda: channels().encode(),
    "sequences": lambda: sequences().encode(),
    "ancestry": lambda: Ancestry(b"\x81\x01\x81\x03\xcd\x01\x00").encode(),
    "messages": lambda: encode_messages(MESSAGES),
    "entries": lambda: encode_entries(*entries()),
    "entries_wide": wide,
}


def golden(name: str) -> bytes:
    return bytes.fromhex((GOLDEN / f"{name}.hex").read_text())


@pytest.mark.parametrize("name", VALUES)
def test_values_are_written_as_ever(name: str) -> None:
    assert VALUES[name]().hex() == golden(name).hex()


def test_values_are_read_as_ever() -> None:
    assert decode_identity(golden("identity")) == Identity(format=1, project="shop", shard=3, shards=12)
    assert dict(Positions(golden("applied"))) == dict(positions())
    assert dict(Channels(golden("channels"))) == {3: (1, 2**40)}
    assert dict(Sequences(golden("sequences"))) == {7: 2**40, 0: 1}
    assert Ancestry(golden("ancestry")).counts == {1: {3: 256}}
    assert decode_messages(golden("messages")) == MESSAGES
    for found, expected in zip(decode_entries(golden("entries")), entries(), strict=True):
        assert found.tolist() == expected.tolist()
    assert decode_entries(golden("entries_wide"))[1].tolist() == [NOW, NOW + 2**40]


def test_a_shard_is_laid_out_as_ever() -> None:
    """Who writes where: one small shard, all of its families, as lines ``family key value``."""
    store = MemoryStore()
    open_shard(store, Expected(Identity(project="shop", shard=3, shards=12), b"plan", b"routing"))
    seen, outbox = Seen(store, 80_000, recent_ids=3), Outbox(store)
    for step in range(2):
        batch, meta = store.batch(), store.family("meta")
        seen.forget(batch, NOW + step * 20_000)
        seen.add(batch, entries()[0][: 3 - step], entries()[1][: 3 - step])
        outbox.append(batch, encode_messages(MESSAGES[step:]))
        batch.put(META_APPLIED, positions().encode(), meta)
        batch.put(META_CHANNELS, channels().encode(), meta)
        store.write(batch)
        outbox.sealed()
        outbox.committed()
        batch = store.batch()
        if step == 0:
            outbox.trim(batch)
        store.write(batch)
    lines = [f"{name} {key.hex()} {value.hex()}" for name in FAMILIES for key, value in store.scan(name)]
    assert lines == (GOLDEN / "shard.txt").read_text().splitlines()


def test_the_names_of_meta_are_as_ever() -> None:
    assert FORMAT_VERSION == 3
    names = [META_IDENTITY, META_PLAN, META_ROUTING, META_GENERATION, META_APPLIED, META_CHANNELS, META_OUTBOX]
    assert [*names, META_SEQUENCES, META_ANCESTRY, META_STARTED, META_LINEAGE, META_STAGE, META_REACHED] == [
        b"identity",
        b"plan",
        b"routing",
        b"generation",
        b"applied",
        b"channels",
        b"outbox",
        b"sequences",
        b"ancestry",
        b"started",
        b"lineage",
        b"stage",
        b"reached",
    ]
    assert FAMILIES == ("identifiers", "profiles", "timers", "members", "outbox", "seen", "meta")
    assert U64(1) == b"\0\0\0\0\0\0\0\1"
