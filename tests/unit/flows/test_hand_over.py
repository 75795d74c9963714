"""What was written goes out: mail after a sync that many pieces share, and nothing is lost in between."""

from __future__ import annotations

from pathlib import Path

from flows.actor import Actor
from flows.batch import Batch, Mail, Span
from flows.changes import ChangeWriter
from flows.dead_letters import DeadLetters
from flows.mail import LOCAL_TOPICS, MAIL_VERSION, Piece, decode_piece, encode_piece
from opportune.compiled import Compiled
from opportune.project import Project
from opportune.settings import Settings
from state.faults import FaultyStore
from state.memory import MemoryStore
from state.outbox import OutboxMessage
from state.store import Batch as Write
from state.store import Store

COMPILED = Compiled(Project(name="test", directory=Path(), settings=Settings(), models={}, tables={}, audiences=()))


def answering(store: Store) -> Actor:
    """A shard whose mail waits 20 ms, and that sends a note for each mark that comes in."""
    made = Actor(
        1,
        COMPILED,
        store,
        tables={},
        changes=ChangeWriter(COMPILED, "memberships", 12, lambda: 0),
        dead_letters=DeadLetters("dead-letters", 1_000),
        mail_pace_ms=20,
    )
    made.mailbox.kinds["note"] = lambda _piece, _write: False

    def answer(_: Piece, __: Write) -> bool:
        made.send(0, "note", b"")
        return True

    made.mailbox.kinds["mark"] = answer
    return made


def asked(one: Actor, time_ms: int, offset: int) -> list[OutboxMessage]:
    """Hands the shard a mark; returns what goes out."""
    span = Span(LOCAL_TOPICS.mailbox, LOCAL_TOPICS.mailbox_id, 1, offset, offset + 1, 0)
    value = encode_piece(Piece(MAIL_VERSION, 3, 1, 1, offset + 1, "mark", b"\x91\x05"))
    return one.apply(Batch(time_ms, [span], [], mail=[Mail(span.topic_id, 1, offset, value)]))


def test_mail_waits_for_more_and_goes_out_after_one_sync() -> None:
    store = FaultyStore(MemoryStore())
    one = answering(store)
    assert asked(one, 100, 0) == asked(one, 119, 1) == []
    assert one.apply(Batch(119, [], [])) == []
    assert store.syncs == 0
    sent = one.apply(Batch(120, [], []))
    assert [decode_piece(message.value or b"").sequence for message in sent] == [1, 2]
    assert store.syncs == 1


def test_mail_that_waits_is_not_sealed_and_goes_out_after_the_snapshot() -> None:
    one = answering(MemoryStore())
    assert asked(one, 100, 0) == []
    assert one.snapshot()["outbox"] == 0
    assert len(one.apply(Batch(100, [], []))) == 1
    one.committed()
    assert one.outbox.first == 1
    assert one.snapshot()["outbox"] == 1


def test_a_shard_that_stops_sends_what_waits_and_seals_it() -> None:
    one = answering(MemoryStore())
    assert asked(one, 100, 0) == []
    assert len(one.hand_over.release()) == 1
    assert one.snapshot()["outbox"] == 1
    assert one.apply(Batch(200, [], [])) == []


def test_mail_that_waited_when_the_process_died_is_sent_by_the_next() -> None:
    store = MemoryStore()
    assert asked(answering(store), 100, 0) == []
    again = answering(store).hand_over
    assert again.resending
    assert [message.topic for message in again.resend()] == [LOCAL_TOPICS.mailbox]
    assert not again.resending
