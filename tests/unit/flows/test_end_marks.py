from __future__ import annotations

import pytest

from flows.end_marks import KEPT, EndMarks


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
