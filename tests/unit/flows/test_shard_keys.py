from __future__ import annotations

import pytest

from flows.shard_keys import WORKERS, shard_key, siphash_1_3
from flows.sinks import shard_of_key


def test_siphash_is_that_of_its_authors_but_for_rounds_and_key() -> None:
    # Values of Rust's SipHasher13 with the key 0, which is what the engine routes by.
    assert siphash_1_3(b"") == 0xD1FBA762150C532C
    assert len({siphash_1_3(b"x" * length) for length in range(40)}) == 40


def test_keys_say_their_shard_and_stay_as_they_are() -> None:
    keys = [shard_key(shard) for shard in range(64)]
    assert len(set(keys)) == 64
    assert [shard_of_key(key) for key in keys] == list(range(64))
    assert keys == [shard_key(shard) for shard in range(64)]


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 6, 12])
def test_the_engine_spreads_them_evenly(workers: int) -> None:
    assert WORKERS % workers == 0
    for shard in range(48):
        assert siphash_1_3(shard_key(shard).encode() + b"\xff") % workers == shard % workers
