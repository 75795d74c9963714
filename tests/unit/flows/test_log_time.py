from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.end_marks import EndMarks
from flows.inputs import Input
from flows.log_time import GAP_MS, LogTime
from tests.unit.flows.arrivals import record

IDLE_MS, SKEW_MS, STEP_MS = 10_000, 20, 50


class World:
    """Some inputs, answers about their ends, and a clock that the test moves."""

    def __init__(self, inputs: int) -> None:
        self.tick = 1_000_000
        self.inputs = [Input("events", b"t" * 16, number, 0, 0) for number in range(inputs)]
        places = [("events", number) for number in range(inputs)]
        self.marks = EndMarks({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, places, STEP_MS, lambda: self.tick)
        self.log_time = LogTime(self.inputs, self.marks, IDLE_MS, SKEW_MS, lambda: self.tick)

    def read(self, number: int, *stamps: int) -> None:
        one = self.inputs[number]
        one.take([record(one.read + at, stamp, partition=number) for at, stamp in enumerate(stamps)], 1 << 50)

    def end(self, number: int) -> None:
        self.inputs[number].end(self.inputs[number].read)

    def answer(self, number: int, sent: int, end: int | None = None) -> None:
        self.marks._answered(number, self.inputs[number].read if end is None else end, sent)

    def wait(self, length: int, confirming: tuple[int, ...] = ()) -> Iterator[int]:
        """Time goes on in steps, in which some inputs are confirmed; log time after each."""
        for _ in range(length // STEP_MS):
            self.tick += STEP_MS
            for number in confirming:
                self.answer(number, self.tick)
            yield self.log_time.now()


def test_log_time_is_the_least_of_what_inputs_vouch_for() -> None:
    world = World(2)
    assert world.log_time.now() == 0
    world.read(0, 100, 200)
    assert world.log_time.now() == 0
    world.read(1, 150, 160)
    assert world.log_time.now() == 160
    world.read(1, 300)
    assert world.log_time.now() == 200


def test_an_end_that_is_confirmed_counts_as_the_instant_of_the_question_less_the_skew() -> None:
    world = World(1)
    world.read(0, 100, 200)
    world.answer(0, 5_000)
    assert world.log_time.now() == 200, "a record is held back"
    world.end(0)
    assert world.log_time.now() == 5_000 - SKEW_MS
    world.answer(0, 6_000, end=3)
    assert world.log_time.now() == 5_000 - SKEW_MS, "there is a record that was not read"


def test_time_goes_on_while_nothing_arrives() -> None:
    world = World(2)
    for number in (0, 1):
        world.read(number, 100)
        world.end(number)
    times = list(world.wait(20_000, confirming=(0, 1)))
    assert times[-1] == world.tick - SKEW_MS
    assert times == sorted(times)
    assert world.log_time.left_out == 0


def test_an_input_that_cannot_be_confirmed_is_left_out_after_a_while_and_comes_back() -> None:
    world = World(2)
    for number in (0, 1):
        world.read(number, 100)
        world.end(number)
    times = list(world.wait(IDLE_MS, confirming=(0,)))
    assert set(times) == {100}
    assert world.log_time.left_out == 0
    times = list(world.wait(STEP_MS * 2, confirming=(0,)))
    assert times[-1] == world.tick - SKEW_MS
    assert world.log_time.left_out == 1
    world.read(1, 500)
    assert world.log_time.now() == times[-1], "it never goes back"
    assert world.log_time.left_out == 0
    assert set(world.wait(IDLE_MS // 2, confirming=(0,))) == {times[-1]}


def test_where_nothing_can_be_confirmed_time_stands_still() -> None:
    world = World(2)
    for number in (0, 1):
        world.read(number, 100)
        world.end(number)
    assert set(world.wait(10 * IDLE_MS)) == {100}
    assert world.log_time.left_out == 0


def test_a_pause_of_the_process_leaves_nothing_out() -> None:
    world = World(2)
    for number in (0, 1):
        world.read(number, 100)
        world.end(number)
    list(world.wait(1_000, confirming=(0, 1)))
    before = world.log_time.now()
    world.tick += 10 * IDLE_MS
    world.answer(0, world.tick)
    assert world.log_time.now() == before, "the other one may answer any moment"
    assert world.log_time.left_out == 0
    assert set(world.wait(IDLE_MS - GAP_MS, confirming=(0,))) == {before}


def test_an_input_that_is_read_is_not_idle_though_its_time_stands_still() -> None:
    world = World(2)
    world.read(1, 100)
    world.end(1)
    for _ in range(2 * IDLE_MS // STEP_MS):
        world.read(0, 50, 50, 50)
        world.tick += STEP_MS
        world.answer(1, world.tick)
        assert world.log_time.now() <= 50
    assert world.log_time.left_out == 0


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["read", "end", "answer", "wait", "pause"]), st.integers(0, 2)), max_size=60
)


@given(ACTIONS)
def test_it_never_goes_back(actions: list[tuple[str, int]]) -> None:
    world = World(3)
    stamp, before = 100, 0
    for action, number in actions:
        stamp += 7
        match action:
            case "read":
                world.read(number, stamp, stamp + number)
            case "end":
                world.end(number)
            case "answer":
                world.answer(number, world.tick)
            case "wait":
                world.tick += 500
            case _:
                world.tick += 30_000
        found = world.log_time.now()
        assert found >= before
        before = found


@pytest.mark.parametrize("inputs", [1, 12])
def test_nothing_is_known_before_every_input_has_spoken(inputs: int) -> None:
    world = World(inputs)
    for number in range(inputs - 1):
        world.read(number, 100, 200)
    assert world.log_time.now() == 0
