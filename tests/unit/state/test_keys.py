"""Keys: their order is the order of what they say, and any bytes are a key or an error."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.errors import StateError
from state.keys import (
    U16,
    U32,
    U64,
    decode_group,
    decode_member,
    decode_membership,
    decode_timer,
    decode_u64,
    pack_group,
    pack_member,
    pack_membership,
    pack_timer,
    prefix_end,
)

NUMBERS = st.integers(0, 2**64 - 1)
IDS = st.binary(min_size=16, max_size=16)


@given(st.lists(st.tuples(NUMBERS, IDS), min_size=2))
def test_timers_are_in_order_of_due_time(timers: list[tuple[int, bytes]]) -> None:
    keys = [U64(due) + profile for due, profile in timers]
    assert keys == [pack_timer(*timer) for timer in timers]
    assert [decode_timer(key) for key in sorted(keys)] == sorted(timers)


@given(st.integers(0, 2**32 - 1), IDS, NUMBERS, NUMBERS, st.integers(0, 2**16 - 1))
def test_keys_round_trip(audience: int, profile: bytes, since_ms: int, version: int, group: int) -> None:
    assert decode_member(U32(audience) + profile) == (audience, profile)
    assert decode_member(pack_member(audience, profile)) == (audience, profile)
    assert decode_membership(pack_membership(since_ms, version)) == (since_ms, version)
    assert decode_group(profile + U16(group)) == decode_group(pack_group(profile, group)) == (profile, group)
    assert decode_group(profile) == (profile, None)
    assert decode_u64(U64(version), "it") == version


@pytest.mark.parametrize(
    "decode", [decode_timer, decode_member, decode_membership, decode_group, lambda value: decode_u64(value, "it")]
)
@given(value=st.binary(max_size=40))
def test_any_bytes_are_a_key_or_an_error(decode: Callable[[bytes], object], value: bytes) -> None:
    try:
        decode(value)
    except StateError:
        return


@given(st.binary(max_size=4), st.binary(max_size=6))
def test_the_end_of_a_prefix_is_right_behind_it(prefix: bytes, key: bytes) -> None:
    end = prefix_end(prefix)
    inside = key >= prefix and (end is None or key < end)
    assert inside == key.startswith(prefix)
