"""What counts of mail of earlier generations, and when copies of shards may go on as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.errors import StateError
from state.ancestry import Ancestry, continue_under
from state.keys import META_CHANNELS, META_GENERATION, META_SEQUENCES, U32, U64
from state.memory import MemoryStore
from state.positions import Channels


def shard(sent: dict[int, int], taken: dict[int, int], generation: int = 1) -> MemoryStore:
    """A shard that has sent and taken so much mail, by receiver and by sender."""
    store = MemoryStore()
    write, meta = store.batch(), store.family("meta")
    channels = Channels()
    for sender, sequence in taken.items():
        channels.advance(sender, generation, sequence)
    write.put(META_SEQUENCES, b"".join(U32(receiver) + U64(sequence) for receiver, sequence in sent.items()), meta)
    write.put(META_CHANNELS, channels.encode(), meta)
    write.put(META_GENERATION, U64(generation), meta)
    store.write(write)
    return store


def ancestry(store: MemoryStore) -> Ancestry:
    return Ancestry(store.get("meta", b"ancestry") or b"")


def test_mail_up_to_the_copy_counts_and_no_later_one() -> None:
    stores = [shard({0: 4, 1: 7}, {0: 4, 1: 1}), shard({0: 3}, {0: 5})]
    continue_under(stores, 4)
    assert [store.get("meta", META_GENERATION) for store in stores] == [U64(4)] * 2
    assert ancestry(stores[1]).has(0, 1, 7)
    assert not ancestry(stores[1]).has(0, 1, 8)
    assert not ancestry(stores[1]).has(0, 2, 1), "a generation that was left altogether"
    assert not ancestry(stores[1]).has(1, 1, 1), "had sent nothing"
    assert ancestry(stores[0]).counts == {1: {0: 4, 1: 3}}


def test_generations_add_up() -> None:
    stores = [shard({0: 4}, {0: 4})]
    for generation in (2, 5):
        continue_under(stores, generation)
    assert ancestry(stores[0]).counts == {1: {0: 4}, 2: {0: 4}}
    assert Ancestry(ancestry(stores[0]).encode()).counts == ancestry(stores[0]).counts


@pytest.mark.parametrize(
    ("stores", "generation", "says"),
    [
        ([shard({1: 2}, {}), shard({}, {0: 3})], 2, "not of one moment"),
        ([shard({}, {}), shard({}, {}, generation=2)], 3, "one checkpoint set"),
        ([shard({}, {}, generation=2)], 2, "above all that have run"),
    ],
)
def test_what_does_not_belong_together_is_refused(stores: list[MemoryStore], generation: int, says: str) -> None:
    before = [list(store.scan("meta")) for store in stores]
    with pytest.raises(StateError, match=says):
        continue_under(stores, generation)
    assert [list(store.scan("meta")) for store in stores] == before


@given(st.binary(max_size=40))
def test_any_bytes_are_a_ancestry_or_an_error(value: bytes) -> None:
    try:
        counts = Ancestry(value).counts
    except StateError:
        return
    assert all(isinstance(sequence, int) for senders in counts.values() for sequence in senders.values())
