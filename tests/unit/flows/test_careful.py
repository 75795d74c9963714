from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Message

from flows.careful import STASH, CarefulConsumer
from flows.deaths import Deaths, Mode, Record
from opportune.settings import Poison
from tests.unit.flows.arrivals import Handed, after_hard_deaths, end, record


def polled(consumer: CarefulConsumer) -> list[int | str]:
    """The offsets that a poll hands out, ``end`` for a notice."""
    return [message.offset() if message.error() is None else "end" for message in consumer.consume(100, 0)]  # type: ignore[misc]  # an end is no offset, and the client types neither


def a_consumer(directory: Path, *polls: list[Message], careful: bool, alone: tuple[int, ...] = ()) -> CarefulConsumer:
    deaths, mode = after_hard_deaths(directory) if careful else (Deaths(directory, Poison(), lambda: 0), None)
    if mode is None:
        deaths.start({}, [])
        mode = Mode(False, frozenset(Record("events", 0, offset) for offset in alone), frozenset())
    return CarefulConsumer(Handed(*polls), mode, deaths)  # type: ignore[arg-type]  # stands for the client


def test_only_a_suspect_comes_alone_and_after_its_marker(tmp_path: Path) -> None:
    consumer = a_consumer(tmp_path, [record(offset, 1) for offset in range(6)], careful=False, alone=(2, 5))
    assert polled(consumer) == [0, 1]
    assert polled(consumer) == [], "what was handed out is not applied yet"
    consumer.applied()
    assert polled(consumer) == [2]
    assert (tmp_path / "attempting").read_text().split() == ["events", "0", "2"]
    assert polled(consumer) == []
    consumer.applied()
    assert polled(consumer) == [3, 4]
    consumer.applied()
    assert polled(consumer) == [5]
    consumer.applied()
    assert polled(consumer) == []


def test_in_a_careful_run_every_record_comes_alone_and_notices_come_along(tmp_path: Path) -> None:
    consumer = a_consumer(tmp_path, [end(0), record(0, 1), end(1), record(1, 1), end(2)], careful=True)
    out = []
    while part := polled(consumer):
        out.append(part)
        consumer.applied()
    assert out == [["end"], [0], ["end"], [1], ["end"]]


def test_a_suspect_is_alone_once(tmp_path: Path) -> None:
    again = [record(1, 1), record(2, 1)]
    consumer = a_consumer(tmp_path, again, again, careful=False, alone=(1,))
    out = []
    for _ in range(3):
        out.append(polled(consumer))
        consumer.applied()
    assert out == [[1], [2], [1, 2]]


def test_what_waits_is_bounded_and_nothing_is_lost(tmp_path: Path) -> None:
    consumer = a_consumer(
        tmp_path, [record(offset, 1) for offset in range(STASH * 2)], careful=False, alone=(STASH + 3,)
    )
    seen: list[int | str] = []
    while part := consumer.consume(10_000, 0):
        assert len(part) <= STASH
        seen += [message.offset() or 0 for message in part]
        consumer.applied()
    assert seen == list(range(STASH * 2))


@pytest.mark.parametrize("careful", [True, False])
def test_it_is_the_consumer_otherwise(tmp_path: Path, careful: bool) -> None:
    consumer = a_consumer(tmp_path, careful=careful)
    consumer.assign([])
    consumer.close()
    assert consumer.consumer.closed  # type: ignore[attr-defined]  # the stand-in's own attribute
