from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.inputs import HELD_MAX, Input
from tests.unit.flows.arrivals import record

NOW = 1_000
TOPIC_ID = b"t" * 16


def an_input(offset: int = 0, time_ms: int = 0) -> Input:
    return Input("events", TOPIC_ID, 0, offset, time_ms)


def take(one: Input, *stamps: int, clock: int = NOW) -> list[tuple[int, int]]:
    """Takes records with these timestamps; (offset, arrival) of those that are handed over."""
    run = [record(one.read + number, stamp) for number, stamp in enumerate(stamps)]
    records, arrivals = one.take(run, clock)
    return [(message.offset() or 0, at) for message, at in zip(records, arrivals, strict=True)]


def test_the_last_instant_is_held_back_until_a_later_one_comes() -> None:
    one = an_input()
    assert take(one, 10, 20, 30, 30) == [(0, 10), (1, 20)]
    assert (one.read, one.handed, one.mark_ms) == (4, 2, 30)
    assert take(one, 30) == []
    assert (one.read, one.handed, one.mark_ms) == (5, 2, 30)
    assert take(one, 31) == [(2, 30), (3, 30), (4, 30)]
    assert (one.handed, one.mark_ms) == (5, 31)


def test_the_end_hands_over_what_was_held_back() -> None:
    one = an_input()
    take(one, 10, 30)
    records, arrivals = one.end(2)
    assert ([message.offset() for message in records], arrivals) == ([1], [30])
    assert (one.handed, one.read, one.mark_ms, one.at_end) == (2, 2, 30, True)
    take(one, 40)
    assert one.at_end is False


def test_markers_of_transactions_lie_below_the_end() -> None:
    one = an_input()
    take(one, 10)
    one.end(4)
    assert (one.handed, one.read) == (4, 4)
    assert take(one, 20, 21) == [(4, 20)]


def test_an_end_that_was_passed_says_nothing() -> None:
    one = an_input()
    take(one, 10, 20)
    assert one.end(1) == ([], [])
    assert (one.at_end, one.handed) == (False, 1)


def test_an_arrival_is_never_behind_an_earlier_record() -> None:
    one = an_input()
    assert take(one, 10, 50, 20, 60) == [(0, 10), (1, 50), (2, 50)]
    assert take(one, 30, 70) == [(3, 60), (4, 60)]


def test_a_floor_from_before_the_start_holds() -> None:
    one = an_input(offset=7, time_ms=100)
    assert one.mark_ms == 100
    assert take(one, 40, 90, 120, 130) == [(7, 100), (8, 100), (9, 120)]


def test_a_stamp_of_the_future_counts_as_of_the_clock_and_moves_nobody_else() -> None:
    one = an_input()
    assert take(one, 10, 9_999, 20, 30, clock=500) == [(0, 10), (1, 500), (2, 20)]
    assert one.floor_ms == one.mark_ms == 30
    other = an_input()
    assert take(other, 10, 9_999, clock=500) == [(0, 10)]
    assert other.mark_ms == 10
    assert take(other, 20, 30, clock=510) == [(1, 500), (2, 20)]


def test_a_record_without_a_stamp_arrives_now_and_nothing_arrives_at_zero() -> None:
    one = an_input()
    assert take(one, -1, 10, 20, clock=500) == [(0, 500), (1, 10)]
    zero = an_input()
    assert take(zero, 0, 0, 5) == [(0, 1), (1, 1)]


def test_where_records_are_applied_alone_nothing_is_held_back() -> None:
    one = an_input()
    one.holds = False
    assert take(one, 10, 10) == [(0, 10), (1, 10)]
    assert (one.handed, one.held) == (2, [])


def test_what_is_held_back_is_bounded() -> None:
    one = an_input()
    assert take(one, *[10] * HELD_MAX) == []
    assert len(take(one, 10)) == HELD_MAX + 1
    assert one.held == []
    assert one.mark_ms == 10


def test_a_confirmed_instant_raises_the_mark_and_never_lowers_it() -> None:
    one = an_input(time_ms=100)
    assert one.confirm(None) is False
    assert one.confirm(100) is False
    assert one.confirm(150) is True
    assert one.confirm(120) is False
    assert one.mark_ms == 150
    take(one, 110, 120)
    assert one.mark_ms == 150


STAMPS = st.lists(st.integers(1, 40), min_size=1, max_size=20)


@given(STAMPS, st.lists(st.integers(1, 6), min_size=1, max_size=20), st.booleans())
def test_arrivals_do_not_depend_on_how_polls_were_cut_and_whole_instants_are_handed_over(
    stamps: list[int], cuts: list[int], ended: bool
) -> None:
    one, handed, parts, rest = an_input(), [], [], list(stamps)
    for size in [*cuts, len(stamps)]:
        if rest:
            part = take(one, *rest[:size])
            rest = rest[size:]
            handed += part
            parts.append(part)
            assert all(at <= one.mark_ms for _, at in handed)
            assert all(at >= one.mark_ms for at in one.held_arrivals)
            assert one.handed == len(handed)
    if ended:
        records, arrivals = one.end(len(stamps))
        parts.append([(message.offset() or 0, at) for message, at in zip(records, arrivals, strict=True)])
        handed += parts[-1]
        assert len(handed) == len(stamps)
    expected, floor = [], 1
    for stamp in stamps:
        floor = max(floor, stamp)
        expected.append(floor)
    assert [at for _, at in handed] == expected[: len(handed)]
    instants = [{at for _, at in part} for part in parts]
    assert sum(map(len, instants)) == len(set().union(*instants)), "an instant is in one part"


@pytest.mark.parametrize("offset", [0, 5])
def test_nothing_read_is_nothing_known(offset: int) -> None:
    one = an_input(offset)
    assert (one.handed, one.read, one.mark_ms) == (offset, offset, 0)
