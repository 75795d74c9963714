"""One shard and its state: what is written when, what is sent again after a death, and what a failed write leaves."""

from __future__ import annotations

from typing import Any

import pytest

from flows.actor import SAVE_MS
from flows.batch import Batch, LocalRecord, Span
from flows.hand_over import RESEND_ENTRIES
from flows.loop import local_topic_id
from opportune.errors import StateError
from opportune.settings import Settings, State
from state.faults import FaultyStore
from state.memory import MemoryStore
from tests.oracle.builders import DAY_0, happened, message, predicate, track
from tests.unit.flows.one_shard import TOPIC, Shard, Told, changes, letters, told

A10 = happened("A", within_ms=10)
A3 = happened("A", times=predicate(gte=3))


def a(at: int, person: str = "ann", **fields: object) -> tuple[bytes, int]:
    """An event A and its arrival."""
    return track("A", at, person, **fields), at


def test_what_was_applied_is_left_out_when_it_is_read_again() -> None:
    shard = Shard({"a": A3})
    assert told(shard.feed(a(0), a(1))) == []
    shard.start()
    assert told(shard.read(0)) == []
    assert shard.actor.counts["replayed"] == 2
    shard.log[0] += [a(2), a(3)]
    assert told(shard.read(1)) == [Told(2, "a", "entered", "event")]
    assert shard.actor.counts["replayed"] == 3
    assert shard.feed(a(4), partition=1) == []
    assert shard.actor.counts["replayed"] == 3


def test_refused_records_that_are_read_again_are_dead_letters_once() -> None:
    shard = Shard({"a": A3})
    assert letters(shard.feed((b"{", 0), (b"[]", 1), (message("track", None, event="A", timestamp="soon"), 2))) == [
        "not_json",
        "bad_shape",
        "bad_time",
    ]
    assert shard.actor.refused == {"not_json": 1, "bad_shape": 1, "bad_time": 1}
    shard.start()
    shard.resend()
    shard.log[0].append((message("trakc", 3), 3))
    assert letters(shard.read(0)) == ["bad_type"]


def test_a_write_that_fails_applies_nothing_and_the_same_batch_gives_the_same_messages() -> None:
    store = FaultyStore(MemoryStore())
    shard = Shard({"a": A10, "three": A3}, store=store)
    shard.feed(a(0), a(1))
    before = shard.stored()
    twin = Shard({"a": A10, "three": A3})
    twin.feed(a(0), a(1))
    shard.log[0] += [a(20), (b"{", 20), a(21, "bob", messageId="m")]
    store.fail_writes()
    with pytest.raises(StateError):
        shard.read(2)
    assert shard.stored() == before
    store.heal()
    shard.start()
    shard.resend()
    found = shard.read(2)
    assert found == twin.feed(a(20), (b"{", 20), a(21, "bob", messageId="m"))
    assert len(found) == 5
    assert shard.stored() == twin.stored()


def test_what_was_handed_on_goes_out_again_after_a_death_in_its_order() -> None:
    shard = Shard({"a": A10})
    first = shard.feed(a(0)) + shard.feed(a(0, "bob"), (b"{", 1)) + shard.feed(a(0, "cid"))
    shard.start()
    assert shard.actor.hand_over.resending
    # What is new waits behind it.
    assert shard.feed(a(5, "dan")) == []
    again = shard.resend()
    assert again[:4] == first
    assert [one.audience for one in changes(again[4:])] == ["a"]
    assert told(shard.feed(a(6, "eve"))) == [Told(6, "a", "entered", "event")]


def test_what_was_committed_is_trimmed_and_does_not_go_out_again() -> None:
    shard = Shard({"a": A10})
    shard.feed(a(0))
    shard.actor.snapshot()
    late = shard.feed(a(0, "bob"))
    shard.actor.committed()
    shard.feed(a(1, "cid"))
    assert len(list(shard.store.scan("outbox"))) == 2
    shard.start()
    assert shard.actor.hand_over.resend()[:1] == late


def test_a_snapshot_seals_only_what_was_handed_on() -> None:
    shard = Shard({"a": A10})
    for number in range(RESEND_ENTRIES + 5):
        shard.feed(a(number, f"u{number}"))
    shard.start()
    assert len(shard.actor.hand_over.resend()) == RESEND_ENTRIES
    assert shard.actor.snapshot()["outbox"] == RESEND_ENTRIES
    shard.actor.committed()
    shard.feed(a(100, "new"))
    shard.start()
    assert len(shard.actor.hand_over.resend()) == 6


def empty(time: int, position: int) -> Batch:
    """A batch without events that moves a position."""
    return Batch(DAY_0 + time, [Span(TOPIC, local_topic_id(TOPIC), 0, position - 1, position, DAY_0 + time)], [])


def test_positions_of_a_shard_with_nothing_to_do_are_saved_once_a_second() -> None:
    store = FaultyStore(MemoryStore())
    shard = Shard({"a": A10}, store=store)
    shard.actor.apply(empty(0, 1))
    written = store.writes
    for step in range(1, 41):
        shard.actor.apply(empty(step * 100, step + 1))
    assert store.writes - written == 4_000 // SAVE_MS
    written = store.writes
    for step in range(50):
        shard.actor.apply(Batch(DAY_0 + 10_000 + step * 1_000, [], []))
    assert store.writes == written, "nothing has moved"


def test_the_fence_never_knows_more_than_the_state() -> None:
    store = FaultyStore(MemoryStore())
    shard = Shard({"a": A10}, store=store)
    shard.actor.apply(empty(0, 1))
    shard.actor.apply(empty(1, 5))
    fence = shard.actor.snapshot()
    assert store.syncs == 1
    shard.start()
    positions = {f"{topic.hex()}/{number}": offset for (topic, number), (offset, _) in shard.actor.positions}
    assert positions == fence["applied"] == {f"{local_topic_id(TOPIC).hex()}/0": 5}
    assert fence["outbox"] <= shard.actor.outbox.last


def test_a_position_never_goes_back() -> None:
    shard = Shard({"a": A10})
    shard.feed(a(0), a(1), a(2))
    shard.read(0, 1)
    assert shard.actor.positions.get(local_topic_id(TOPIC), 0) == (3, DAY_0 + 2)


def test_inputs_begin_where_the_start_says_and_stay_where_they_are() -> None:
    shard = Shard({"a": A10})
    shard.feed(a(0))
    topic = local_topic_id(TOPIC)
    shard.actor.begin([(topic, 0, 77, 7), (topic, 1, 88, 8)])
    shard.start()
    assert dict(shard.actor.positions) == {(topic, 0): (1, DAY_0), (topic, 1): (88, 8)}


@pytest.mark.parametrize(("durability", "syncs"), [("epoch", 0), ("batch", 2)])
def test_durable_batches_are_synced_before_anything_is_sent(durability: Any, syncs: int) -> None:
    store = FaultyStore(MemoryStore())
    shard = Shard({"a": A10}, Settings(state=State(durability=durability)), store)
    shard.feed(a(0))
    shard.feed(a(1, "bob"))
    assert store.syncs == syncs
    shard.actor.snapshot()
    assert store.syncs == syncs + 1


def test_a_record_whose_work_raises_is_named_and_nothing_is_written() -> None:
    store = FaultyStore(MemoryStore())
    shard = Shard({"a": A10}, store=store)
    shard.log[0] = [a(0), a(1, "bob"), a(2, "cid")]
    batch = shard.batch(0)
    batch.events[1].at = "a bug"
    written = store.writes
    with pytest.raises(TypeError):
        shard.actor.apply(batch)
    assert [(type(record), record.offset()) for record in shard.poisoned] == [(LocalRecord, 1)]
    assert store.writes == written
