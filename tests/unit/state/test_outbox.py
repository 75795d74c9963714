"""What was decided goes out until it is known to be out, over restarts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.errors import StateError
from state.keys import META_OUTBOX, U64
from state.memory import MemoryStore
from state.outbox import Outbox, OutboxMessage, decode_messages, encode_messages
from state.rocks import RocksStore, shared_memory
from state.store import Store

MEMORY = shared_memory(8 << 20, 16 << 20)


@pytest.fixture(params=["memory", "rocks"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else RocksStore(tmp_path / "shard", MEMORY)


def written(store: Store, *steps: Callable[..., object]) -> None:
    batch = store.batch()
    for step in steps:
        step(batch)
    store.write(batch)


def append(store: Store, outbox: Outbox, *blobs: bytes) -> None:
    written(store, *(lambda batch, blob=blob: outbox.append(batch, blob) for blob in blobs))


def test_entries_go_when_their_epoch_is_committed_and_not_before(store: Store) -> None:
    outbox = Outbox(store)
    append(store, outbox, b"a", b"b")
    assert outbox.sealed() == 2
    append(store, outbox, b"c")
    written(store, outbox.trim)
    assert [blob for _, blob in Outbox(store).pending()] == [b"a", b"b", b"c"]
    outbox.committed()
    assert [blob for _, blob in Outbox(store).pending()] == [b"a", b"b", b"c"]
    written(store, outbox.trim)
    assert list(outbox.pending()) == [(3, b"c")]
    assert list(Outbox(store).pending()) == [(3, b"c")]
    outbox.committed()
    written(store, outbox.trim)
    assert list(outbox.pending()) == [(3, b"c")]


def test_sequences_rise_over_an_empty_outbox_and_a_restart(store: Store) -> None:
    outbox = Outbox(store)
    assert (outbox.last, list(outbox.pending())) == (0, [])
    append(store, outbox, b"a")
    outbox.sealed()
    outbox.committed()
    written(store, outbox.trim)
    again = Outbox(store)
    assert (again.last, list(again.pending())) == (1, [])
    append(store, again, b"b")
    assert list(Outbox(store).pending()) == [(2, b"b")]


def test_the_fence_spares_what_it_knows_to_be_out(store: Store) -> None:
    append(store, Outbox(store), b"a", b"b", b"c")
    outbox = Outbox(store)
    outbox.acknowledge(2)
    written(store, outbox.trim)
    assert list(outbox.pending()) == [(3, b"c")]
    outbox.acknowledge(1)
    written(store, outbox.trim)
    assert list(outbox.pending()) == [(3, b"c")]


def test_a_fence_ahead_of_the_state_is_refused(store: Store) -> None:
    append(store, Outbox(store), b"a")
    with pytest.raises(StateError, match="behind the engine's fence"):
        Outbox(store).acknowledge(2)


def test_pending_is_what_was_there_at_the_call(store: Store) -> None:
    outbox = Outbox(store)
    append(store, outbox, b"a", b"b")
    pending = outbox.pending()
    append(store, outbox, b"c")
    assert [blob for _, blob in pending] == [b"a", b"b"]


@pytest.mark.parametrize("spoil", [b"missing", b"gap", b"bounds", b"order", b"key"])
def test_a_hole_is_damage_and_never_a_lost_message(spoil: bytes) -> None:
    store = MemoryStore()
    append(store, Outbox(store), b"a", b"b", b"c")
    batch, family, meta = store.batch(), store.family("outbox"), store.family("meta")
    if spoil == b"missing":
        batch.delete(U64(3), family)
    elif spoil == b"gap":
        batch.delete(U64(2), family)
    elif spoil == b"bounds":
        batch.put(META_OUTBOX, b"short", meta)
    elif spoil == b"order":
        batch.put(META_OUTBOX, U64(4) + U64(3), meta)
    else:
        batch.put(U64(2) + b"x", b"", family)
    store.write(batch)
    with pytest.raises(StateError, match="damaged"):
        list(Outbox(store).pending())


MESSAGES = st.lists(
    st.builds(
        OutboxMessage,
        topic=st.text(max_size=9),
        partition=st.integers(-1, 2**31),
        key=st.none() | st.binary(max_size=9),
        value=st.none() | st.binary(max_size=9),
        headers=st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=3),
    ),
    max_size=5,
)


@given(MESSAGES)
def test_messages_round_trip(messages: list[OutboxMessage]) -> None:
    assert decode_messages(encode_messages(messages)) == messages


@given(st.binary(max_size=60))
def test_any_bytes_are_messages_or_an_error(blob: bytes) -> None:
    try:
        messages = decode_messages(blob)
    except StateError:
        return
    assert all(isinstance(message, OutboxMessage) for message in messages)


@given(MESSAGES, st.data())
def test_cut_and_changed_bytes_are_messages_or_an_error(messages: list[OutboxMessage], data: st.DataObject) -> None:
    blob = bytearray(encode_messages(messages))
    blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_messages(bytes(blob[: data.draw(st.integers(0, len(blob)))]))
    except StateError:
        return
