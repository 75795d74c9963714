from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opportune.audiences.diagnostics import Unreadable
from opportune.audiences.durations import DURATION_MS_MAX, duration_ms, duration_text


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("90 seconds", 90_000),
        ("10 minutes", 600_000),
        ("1.5 hours", 5_400_000),
        ("7 days", 604_800_000),
        ("2 weeks", 1_209_600_000),
        ("1 year", 31_536_000_000),
        ("90s", 90_000),
        ("10m", 600_000),
        ("1h", 3_600_000),
        ("7d", 604_800_000),
        ("2w", 1_209_600_000),
        ("1y", 31_536_000_000),
        ("50 ms", 50),
        ("1 minute", 60_000),
        ("PT10M", 600_000),
        ("P1DT12H", 129_600_000),
        ("P1W", 604_800_000),
        ("PT1.5S", 1_500),
        ("PT0,5H", 1_800_000),
        ("PT0.001S", 1),
        ("3 years", DURATION_MS_MAX),
        ("1095 days", DURATION_MS_MAX),
    ],
)
def test_forms(text: str, ms: int) -> None:
    assert duration_ms(text) == ms


@pytest.mark.parametrize(("text", "ms"), [("1.5 ms", 2), ("0.0001 ms", 1), ("PT0.0001S", 1), ("1.0000 s", 1_000)])
def test_finer_than_a_millisecond_is_rounded_up(text: str, ms: int) -> None:
    assert duration_ms(text) == ms


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("10", "has no unit", "minutes"),
        ("0 seconds", "not over 0", ""),
        ("PT0S", "not over 0", ""),
        ("3.001 years", "longer than 3 years", "1,095"),
        ("10 mintes", "not a unit", "minutes"),
        ("1 month", "not a unit", "days"),
        ("P1M", "months or years", "P30D"),
        ("P1Y", "months or years", "P30D"),
        ("P1Y2M", "months or years", "P30D"),
        ("P", "not a duration", ""),
        ("PT", "not a duration", ""),
        ("P1DT", "not a duration", ""),
        ("-5 minutes", "not a duration", ""),
        ("ten minutes", "not a duration", ""),
        ("1h 30m", "not a duration in one unit", "write `90 minutes`"),
        ("9" * 18 + " years", "longer than", ""),
        ("9" * 400 + " years", "not a duration", ""),
    ],
)
def test_what_is_refused(text: str, says: str, hint: str) -> None:
    with pytest.raises(Unreadable) as error:
        duration_ms(text)
    assert says in error.value.message
    assert hint in error.value.hint


@given(st.integers(1, DURATION_MS_MAX))
def test_its_words_say_the_same(ms: int) -> None:
    assert duration_ms(duration_text(ms)) == ms


@given(st.text(alphabet="P0123456789.,TWDHMSYhms ", max_size=20))
def test_any_text_is_a_duration_or_unreadable(text: str) -> None:
    with suppress(Unreadable):
        assert 0 < duration_ms(text) <= DURATION_MS_MAX
