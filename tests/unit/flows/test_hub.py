"""The hub over a consumer that hands out what a test wrote down."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from confluent_kafka import KafkaError, KafkaException, Message
from hypothesis import given
from hypothesis import strategies as st

from flows.batch import Batch
from flows.end_marks import EndMarks
from flows.hub import GATHER_EVENTS, GATHER_MS, POLL_RECORDS, Hub
from flows.inputs import Input
from flows.log_time import LogTime
from opportune.clock import monotonic_ms
from opportune.compiled import Compiled
from opportune.errors import StateError
from opportune.identity import profile_id, shard_of
from opportune.router import Router
from tests.oracle.builders import DAY_0, happened, project, track
from tests.unit.flows.arrivals import Handed, end, notice, record
from tests.unit.flows.test_mail_time import Shards

COMPILED = Compiled(project({"a": happened("A", within_ms=10)}))
SHARDS = 3


class Process:
    """A hub with its inputs: partitions of ``events``, a mailbox partition a shard, and the control topic."""

    def __init__(
        self,
        *polls: Sequence[Message],
        post: Sequence[Message] = (),
        partitions: int = 2,
        quarantined: frozenset[tuple[str, int, int]] = frozenset(),
        clock: int = DAY_0 + 100,
    ) -> None:
        self.consumer, self.post = Handed(*polls), Handed(post)
        self.events = [Input("events", b"e" * 16, number, 0, 0) for number in range(partitions)]
        self.mail = [Input("mailbox", b"m" * 16, number, 0, 0) for number in range(SHARDS)]
        self.mail.append(Input("control", b"c" * 16, 0, 5, 0))
        places = [(one.topic, one.partition) for one in self.events]
        self.marks = EndMarks({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, places, 50, lambda: clock)
        self.shards = Shards(2)
        # Where a test does not say otherwise, the shards have applied everything and sent nothing.
        self.applied(1 << 60)
        self.hub = Hub(
            self.consumer,  # type: ignore[arg-type]  # stands for the client
            self.post,  # type: ignore[arg-type]  # stands for the client
            self.events,
            self.mail,
            "mailbox",
            Router(COMPILED, SHARDS),
            SHARDS,
            LogTime(self.events, self.marks, 10_000, 20, lambda: 0),
            quarantined,
            lambda: clock,
            mail_time=self.shards.time,
        )

    def applied(self, time_ms: int) -> None:
        """The shards have applied everything that arrived before an instant."""
        for shard in self.shards.all:
            shard.read_ms = time_ms

    def gather(self, waited: int = GATHER_MS) -> list[tuple[int, Batch]]:
        """What the hub hands over when so many milliseconds have passed since the last time."""
        self.hub.gathered_ms = monotonic_ms() - waited
        return self.hub.gather()


def a(offset: int, at: int, person: str = "ann", partition: int = 0) -> Message:
    """An event A of a person."""
    return record(offset, DAY_0 + at, track("A", at, person), partition)


def spans(batch: Batch) -> list[tuple[str, int, int, int]]:
    """Topic, partition, first and next of a batch's spans."""
    return [(one.topic, one.partition, one.first, one.next) for one in batch.spans]


def offsets(batch: Batch) -> list[tuple[int, int]]:
    """Partition and offset of a batch's events."""
    return [(event.origin.partition(), event.origin.offset()) for event in batch.events]


def test_it_begins_where_the_inputs_say() -> None:
    process = Process()
    assert process.consumer.assigned == [("events", 0, 0), ("events", 1, 0)]
    assert process.post.assigned == [("mailbox", 0, 0), ("mailbox", 1, 0), ("mailbox", 2, 0), ("control", 0, 5)]
    assert [batch.time_ms for _, batch in process.gather()] == [0] * SHARDS
    assert process.gather() == []


def test_time_goes_on_when_what_was_handed_over_is_applied() -> None:
    process = Process([a(0, 1), a(1, 2), end(2)], partitions=1)
    process.applied(0)
    assert {(batch.time_ms, batch.read_ms) for _, batch in process.gather()} == {(0, DAY_0 + 2)}
    assert process.gather() == []
    process.applied(DAY_0 + 2)
    assert {(batch.time_ms, batch.read_ms) for _, batch in process.gather()} == {(DAY_0 + 2, DAY_0 + 2)}
    assert process.gather() == []


def test_behind_time_goes_on_before_more_is_gathered() -> None:
    process = Process([a(0, 1), a(1, 2)], [a(2, 3), a(3, 4)], partitions=1, clock=DAY_0 + 10 * GATHER_MS)
    process.applied(0)
    assert {(batch.time_ms, batch.read_ms) for _, batch in process.gather()} == {(0, DAY_0 + 2)}
    process.applied(DAY_0 + 2)
    timed = process.gather(0)
    assert {(batch.time_ms, len(batch.events)) for _, batch in timed} == {(DAY_0 + 2, 0)}
    assert process.hub.records == 2, "nothing more was read"


def test_every_shard_gets_its_events_and_the_spans_of_all() -> None:
    people = [f"u{number}" for number in range(9)]
    process = Process(
        [a(at, at, person) for at, person in enumerate(people)]
        + [a(9, 9), a(0, 3, "bob", partition=1), a(1, 4, partition=1)]
    )
    batches = dict(process.gather())
    assert set(batches) == {0, 1, 2}
    for shard, batch in batches.items():
        assert spans(batch) == [("events", 0, 0, 9), ("events", 1, 0, 1)]
        mine = [(0, at) for at, person in enumerate(people) if shard_of(profile_id("user_id", person), SHARDS) == shard]
        assert [place for place in offsets(batch) if place[0] == 0] == mine
    assert process.hub.records == 12


def test_what_is_held_back_is_in_no_span() -> None:
    process = Process([a(0, 1), a(1, 2), a(2, 2)], [end(3)], partitions=1)
    (first, *_), (second, *_) = process.gather(), process.gather()
    assert spans(first[1]) == [("events", 0, 0, 1)]
    assert spans(second[1]) == [("events", 0, 1, 3)]


def test_an_end_in_the_middle_of_a_poll_is_behind_what_follows() -> None:
    process = Process([a(0, 1), end(1), a(1, 2)], partitions=1)
    (batch, *_) = (one for _, one in process.gather())
    assert spans(batch) == [("events", 0, 0, 1)]
    assert process.events[0].at_end is False


def test_time_is_told_once() -> None:
    process = Process([a(0, 1), a(1, 2), end(2)], [], partitions=1)
    assert {batch.time_ms for _, batch in process.gather()} == {DAY_0 + 2}
    assert process.gather() == []
    process.marks._answered(0, 2, DAY_0 + 80)
    batches = process.gather()
    assert [batch.time_ms for _, batch in batches] == [DAY_0 + 60] * SHARDS
    assert all(not batch.spans and not batch.events for _, batch in batches)
    assert process.gather() == []


def test_refused_records_go_to_the_shard_that_answers_for_their_partition() -> None:
    process = Process([record(0, DAY_0, b"{"), record(1, DAY_0, b"[]", partition=1), a(1, 1), end(2), end(2, 1)])
    found = {shard: [refusal.reason for _, refusal in batch.refused] for shard, batch in process.gather()}
    assert found == {0: ["not_json"], 1: ["bad_shape"], 2: []}


def test_a_record_without_a_value_is_refused() -> None:
    tombstone = Message(topic="events", partition=0, offset=0, timestamp=(1, DAY_0))
    process = Process([tombstone, end(1)], partitions=1)
    assert [refusal.reason for _, batch in process.gather() for _, refusal in batch.refused] == ["not_json"]


@pytest.mark.parametrize("polls", [[[0, 1, 2]], [[0], [1], [2]], [[1], [2]]])
def test_a_quarantined_record_is_a_dead_letter_unread_also_alone(polls: list[list[int]]) -> None:
    given_ = [[a(offset, offset) for offset in offsets_] + [end(offsets_[-1] + 1)] for offsets_ in polls]
    process = Process(*given_, partitions=1, quarantined=frozenset({("events", 0, 1)}))
    process.events[0].handed = process.events[0].read = polls[0][0]
    letters, applied, covered = [], [], []
    for _ in polls:
        for _, batch in process.gather():
            letters += [(record.offset(), refusal.reason) for record, refusal in batch.refused]
            applied += [offset for _, offset in offsets(batch)]
            covered += spans(batch)
    assert letters == [(1, "poison")]
    assert applied == [offset for part in polls for offset in part if offset != 1]
    assert covered[0][2] == polls[0][0], "the span begins with the record that was left out"
    assert covered[-1][3] == 3


def test_mail_goes_to_its_shard_and_decisions_to_all() -> None:
    post = [
        record(0, 0, b"one", 1, "mailbox"),
        record(5, 0, b"decided", 0, "control"),
        record(1, 0, b"two", 1, "mailbox"),
        end(6, 0, "control"),
    ]
    process = Process(post=post)
    batches = dict(process.gather())
    assert [[piece.value for piece in batches[shard].mail] for shard in range(SHARDS)] == [
        [b"decided"],
        [b"one", b"decided", b"two"],
        [b"decided"],
    ]
    for batch in batches.values():
        assert spans(batch) == [("mailbox", 1, 0, 2), ("control", 0, 5, 6)]
    assert (process.hub.inputs["mailbox", 1].handed, process.hub.inputs["control", 0].handed) == (2, 6)
    assert process.hub.records == 0


def test_a_quarantined_piece_of_mail_is_a_dead_letter() -> None:
    process = Process(post=[record(0, 0, b"x", 2, "mailbox")], quarantined=frozenset({("mailbox", 2, 0)}))
    batches = dict(process.gather())
    assert [refusal.reason for _, refusal in batches[2].refused] == ["poison"]
    assert not batches[2].mail
    assert spans(batches[2]) == [("mailbox", 2, 0, 1)]


@pytest.mark.parametrize("code", [KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE])
def test_a_record_that_is_no_longer_there_stops_the_job(code: int) -> None:
    with pytest.raises(StateError, match=r"events\[1\].*Start again"):
        Process([notice(code, 0, 1)]).gather()


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError.LEADER_NOT_AVAILABLE])
def test_what_passes_by_itself_is_waited_for(code: int) -> None:
    process = Process([notice(code), a(0, 1), end(1)], partitions=1)
    assert len(process.gather()) == SHARDS


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._FATAL])
def test_any_other_error_is_raised(code: int) -> None:
    with pytest.raises(KafkaException):
        Process([notice(code)]).gather()


def test_polls_are_gathered_until_enough_time_has_passed() -> None:
    polls = [[a(offset, offset)] for offset in range(5)]
    behind = Process(*polls, partitions=1, clock=DAY_0 + 10 * GATHER_MS)
    assert behind.gather(waited=0) == []
    assert behind.consumer.asked == len(polls) + 1
    (batch, *_) = (one for _, one in behind.gather())
    assert spans(batch) == [("events", 0, 0, 4)]
    keeping_up = Process(*polls, partitions=1, clock=DAY_0 + 10)
    keeping_up.gather()
    assert keeping_up.consumer.asked == 1


def test_what_is_gathered_at_once_is_bounded() -> None:
    whole = [a(offset, offset) for offset in range(GATHER_EVENTS + 2 * POLL_RECORDS)]
    process = Process(whole, partitions=1, clock=DAY_0 + 10**9)
    gathered = sum(len(batch.events) for _, batch in process.gather(waited=-(10**9)))
    assert GATHER_EVENTS <= gathered < GATHER_EVENTS + POLL_RECORDS


RUN = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.booleans()), max_size=30)


@given(RUN, st.lists(st.integers(1, 5), max_size=30))
def test_spans_and_events_agree_however_polls_are_cut(run: list[tuple[int, int, bool]], cuts: list[int]) -> None:
    messages: list[Message] = []
    read, at = [0, 0], [0, 0]
    for partition, step, ended in run:
        at[partition] += step
        messages.append(a(read[partition], at[partition], f"u{len(messages) % 5}", partition))
        read[partition] += 1
        if ended:
            messages.append(end(read[partition], partition))
    messages += [end(read[0]), end(read[1], 1)]
    polls = []
    for size in [*cuts, len(messages)]:
        polls.append(messages[:size])
        messages = messages[size:]
    process = Process(*[poll for poll in polls if poll])
    covered = {0: 0, 1: 0}
    seen: list[tuple[int, int]] = []
    before = -1
    while process.consumer.polls:
        batches = process.gather()
        for shard, batch in batches:
            for _, partition, first, following in spans(batch):
                if shard == 0:
                    assert first == covered[partition], "no gap and no overlap"
                    covered[partition] = following
        for _, batch in batches:
            assert batch.time_ms >= before
            before = batch.time_ms
            for partition, offset in offsets(batch):
                assert offset < covered[partition]
                seen.append((partition, offset))
    assert [covered[0], covered[1]] == read
    assert sorted(seen) == [(partition, offset) for partition in (0, 1) for offset in range(read[partition])]
