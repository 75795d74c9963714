"""A directory is this shard's, or the start is refused with what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.errors import StateError
from state.keys import FORMAT_VERSION, META_GENERATION, META_IDENTITY, U64
from state.memory import MemoryStore
from state.shard_identity import Expected, Identity, Opened, decode_identity, encode_identity, open_shard

EXPECTED = Expected(Identity(project="shop", shard=3, shards=12), b"plan", b"routing")


def changed(**fields: object) -> Expected:
    return replace(EXPECTED, identity=msgspec.structs.replace(EXPECTED.identity, **fields))


def test_an_empty_store_becomes_the_shard_and_is_it_afterwards() -> None:
    store = MemoryStore()
    assert open_shard(store, EXPECTED) == Opened(1, new=True)
    assert open_shard(store, EXPECTED) == Opened(1, new=False)
    batch = store.batch()
    batch.put(META_GENERATION, U64(7), store.family("meta"))
    store.write(batch)
    assert open_shard(store, EXPECTED) == Opened(7, new=False)


@pytest.mark.parametrize(
    ("expected", "says"),
    [
        (changed(project="blog"), "project 'shop'.*'blog'.*state.directory"),
        (changed(shards=24), "state.shards: 12.*24"),
        (changed(shard=4), "directory of shard 4 holds shard 3"),
        (changed(format=FORMAT_VERSION + 1), f"format {FORMAT_VERSION}.*format {FORMAT_VERSION + 1}"),
        (replace(EXPECTED, routing=b"other"), "count twice"),
    ],
)
def test_each_difference_is_refused_and_changes_nothing(expected: Expected, says: str) -> None:
    store = MemoryStore()
    open_shard(store, EXPECTED)
    before = list(store.scan("meta"))
    with pytest.raises(StateError, match=says):
        open_shard(store, expected)
    assert list(store.scan("meta")) == before


def test_a_newer_format_is_said_to_be_one_whatever_else_it_holds() -> None:
    store = MemoryStore()
    batch = store.batch()
    batch.put(
        META_IDENTITY, b'{"format": %d, "name": "of fields to come"}' % (FORMAT_VERSION + 1), store.family("meta")
    )
    store.write(batch)
    with pytest.raises(StateError, match=rf"format {FORMAT_VERSION + 1}.*newer version"):
        open_shard(store, EXPECTED)


def test_state_without_an_identity_is_nobodys() -> None:
    store = MemoryStore()
    batch = store.batch()
    batch.put(b"somebody", b"", store.family("profiles"))
    store.write(batch)
    with pytest.raises(StateError, match="holds profiles"):
        open_shard(store, EXPECTED)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_an_identity_or_an_error(value: bytes) -> None:
    try:
        decode_identity(value)
    except StateError:
        return


@pytest.mark.parametrize("spoil", [lambda value: value[:-1], lambda value: value + b"}", lambda _: b"[" * 5_000])
def test_spoiled_identities_are_errors(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(StateError):
        decode_identity(spoil(encode_identity(EXPECTED.identity)))
