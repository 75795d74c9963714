from __future__ import annotations

from concurrent.futures import Future

import pytest
from confluent_kafka import OFFSET_INVALID
from confluent_kafka.admin import ListOffsetsResultInfo

from flows.end_marks import FRESH_MS, KEPT, EndMarks, _Lane


@pytest.fixture
def marks() -> EndMarks:
    return EndMarks({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, [("t", 0), ("t", 1)], 50, lambda: 0)


def test_nothing_is_confirmed_before_an_answer(marks: EndMarks) -> None:
    assert marks.confirmed(0, 10**9) is None
    assert marks.end(0) is None


def test_the_newest_answer_that_is_covered_counts(marks: EndMarks) -> None:
    for sent, end in ((1_000, 100), (1_050, 110), (1_100, 110), (1_150, 120)):
        marks._answered(0, end, sent)
    assert [marks.confirmed(0, offset) for offset in (99, 100, 109, 110, 119, 120, 500)] == [
        None, 1_000, 1_000, 1_100, 1_100, 1_150, 1_150,
    ]  # fmt: skip
    assert marks.confirmed(1, 500) is None
    assert marks.end(0) == 120


def test_an_older_answer_that_comes_late_is_dropped(marks: EndMarks) -> None:
    marks._answered(0, 100, 1_000)
    marks._answered(0, 90, 950)
    assert marks.confirmed(0, 95) is None
    assert marks.confirmed(0, 100) == 1_000


def test_an_end_that_goes_back_makes_older_answers_void(marks: EndMarks) -> None:
    marks._answered(0, 100, 1_000)
    marks._answered(0, 40, 1_050)
    assert marks.confirmed(0, 39) is None
    assert marks.confirmed(0, 40) == 1_050


def test_what_is_kept_is_bounded(marks: EndMarks) -> None:
    for step in range(1_000):
        marks._answered(0, step, step)
    assert marks.confirmed(0, 999 - KEPT) is None
    assert marks.confirmed(0, 1_000 - KEPT) == 1_000 - KEPT
    assert marks.confirmed(0, 999) == 999


def test_without_a_broker_it_starts_and_stops(marks: EndMarks) -> None:
    marks.start()
    marks.stop()
    assert marks.confirmed(0, 0) is None


def test_a_request_that_timed_out_vouches_for_nothing(marks: EndMarks) -> None:
    """The client raises nothing for a broker that hangs: its answers have the offset -1001."""
    lane = _Lane(marks, [0, 1])
    for sent, offset in ((1_000, 7), (1_050, OFFSET_INVALID), (1_100, OFFSET_INVALID)):
        future: Future[ListOffsetsResultInfo] = Future()
        future.set_result(ListOffsetsResultInfo(offset, -1, -1))
        lane._answer(0, sent, future)
    assert marks.confirmed(0, 7) == 1_000
    assert marks.end(0) == 7


def test_an_end_of_before_is_not_where_it_ends_now() -> None:
    tick = 0
    config = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    marks = EndMarks(config, [("t", 0)], 50, lambda: 0, lambda: tick)
    assert marks.fresh_end(0) is None
    marks._answered(0, 7, 1_000)
    tick = FRESH_MS + 50
    assert marks.fresh_end(0) == 7
    tick += 1
    assert marks.fresh_end(0) is None
    assert marks.end(0) == 7
    marks._answered(0, 7, 2_000)
    assert marks.fresh_end(0) == 7
