"""Look-ups by profile id against a plain dict, ids that share bits included."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from opportune.identity import shard_of
from state.warehouse.index import ProfileIndex

_EDGES = st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1])
_HALF = st.one_of(_EDGES, st.integers(0, 2**64 - 1))
_ID = st.tuples(_HALF, _HALF).map(lambda halves: halves[0].to_bytes(8, "big") + halves[1].to_bytes(8, "big"))


def _index(ids: list[bytes]) -> ProfileIndex:
    pairs = np.frombuffer(b"".join(sorted(ids)), dtype=">u8").astype(np.uint64).reshape(-1, 2)
    return ProfileIndex(pairs[:, 0], pairs[:, 1])


@given(st.sets(_ID, max_size=80), st.lists(_ID, max_size=40))
def test_it_finds_what_a_dict_finds(ids: set[bytes], strangers: list[bytes]) -> None:
    index = _index(list(ids))
    expected = {profile: place for place, profile in enumerate(sorted(ids))}
    asked = strangers + sorted(ids) + strangers[:3]
    for batch in (asked, *([profile] for profile in asked[:20])):
        places, found = index.find(batch)
        answers = [place if found is None or found[at] else None for at, place in enumerate(places.tolist())]
        assert answers == [expected.get(profile) for profile in batch]


@given(st.sets(_ID, max_size=80), st.integers(1, 300))
def test_spans_of_shards_are_all_ids_in_order(ids: set[bytes], shards: int) -> None:
    index = _index(list(ids))
    walked = []
    for shard in range(shards):
        mine = index.ids(*index.span(shard, shards))
        assert all(shard_of(profile, shards) == shard for profile in mine)
        walked += mine
    assert walked == sorted(ids)
    assert len(index) == len(ids)
