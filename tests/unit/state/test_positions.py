"""Positions and channels: one value each, exact over any history and any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.errors import StateError
from state.positions import Channels, Positions, Sequences

TOPIC, OTHER = b"t" * 16, b"o" * 16
I64 = st.integers(-(2**63), 2**63 - 1)


def test_a_partition_is_known_from_its_first_advance() -> None:
    positions = Positions()
    assert positions.get(TOPIC, 3) is None
    positions.advance(TOPIC, 3, 17, 1_000)
    positions.advance(OTHER, 3, 1, 2)
    positions.advance(TOPIC, 3, 18, 1_001)
    assert (positions.get(TOPIC, 3), positions.get(OTHER, 3), positions.get(TOPIC, 4)) == ((18, 1_001), (1, 2), None)
    assert len(positions) == 2


@given(st.lists(st.tuples(st.sampled_from([TOPIC, OTHER]), st.integers(0, 2**32 - 1) | st.integers(0, 3), I64, I64)))
def test_positions_are_a_dict(steps: list[tuple[bytes, int, int, int]]) -> None:
    positions, model = Positions(), {}
    for topic, partition, offset, time_ms in steps:
        positions.advance(topic, partition, offset, time_ms)
        model[topic, partition] = (offset, time_ms)
        positions = Positions(positions.encode()) if offset % 3 == 0 else positions
    assert dict(positions) == model
    assert dict(Positions(positions.encode())) == model


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))))
def test_channels_are_a_dict(steps: list[tuple[int, int, int]]) -> None:
    channels, model = Channels(), {}
    for sender, generation, sequence in steps:
        channels.advance(sender, generation, sequence)
        model[sender] = (generation, sequence)
    again = Channels(channels.encode())
    assert dict(again) == model
    assert [again.get(sender) for sender in range(4)] == [model.get(sender, (0, 0)) for sender in range(4)]


@given(st.binary(max_size=120))
def test_any_bytes_are_positions_or_an_error(value: bytes) -> None:
    for kind in (Positions, Channels, Sequences):
        try:
            assert kind(value).encode() == value
        except StateError:
            continue


@given(st.lists(st.integers(0, 3)))
def test_each_receiver_has_sequences_of_its_own(sent: list[int]) -> None:
    sequences = Sequences()
    for place, receiver in enumerate(sent):
        assert sequences.next(receiver) == sent[: place + 1].count(receiver)
        sequences = Sequences(sequences.encode()) if place % 3 == 0 else sequences
    assert dict(Sequences(sequences.encode())) == {receiver: sent.count(receiver) for receiver in set(sent)}


@pytest.mark.parametrize(("kind", "size"), [(Positions, 36), (Channels, 20), (Sequences, 12)])
def test_a_row_twice_is_damage(kind: type[Positions] | type[Channels] | type[Sequences], size: int) -> None:
    row = bytes(size)
    assert kind(row).encode() == row
    with pytest.raises(StateError, match="damaged"):
        kind(row + row)
