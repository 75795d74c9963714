"""Kafka goes and comes back: a line each, and none for a moment."""

from __future__ import annotations

import logging

import pytest

from flows.absence import AWAY_MS, Absence


def test_a_line_when_it_goes_and_one_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    absence = Absence("kafka-1:9092")
    for tick in range(0, AWAY_MS, 50):
        absence.look(tick, [0, tick])
    assert not caplog.records, "an election is no absence"
    for tick in range(AWAY_MS, 60_000, 50):
        absence.look(tick, [0, tick if tick < 30_000 else 30_000])
    (gone,) = caplog.records
    assert gone.levelno == logging.WARNING
    assert "kafka-1:9092 has not answered for 5 seconds about 1 of 2 partitions" in gone.getMessage()
    absence.look(60_000, [59_990, 30_000])
    assert len(caplog.records) == 1, "one of them is still away"
    absence.look(60_050, [60_040, 60_040])
    assert [record.getMessage() for record in caplog.records[1:]] == [
        "Kafka at kafka-1:9092 answers again, after 60 seconds."
    ]
