"""Mail: its layout for ever, and channels that apply each piece once and in order, whatever dies in between.

The driver at the end lets two shards send to each other over a mailbox topic that gets repeats; a shard dies before and
after its write, before and after its mail is produced, and reads again from anywhere.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flows.actor import Actor, ignore
from flows.batch import Batch, Mail, Record, Span
from flows.changes import ChangeWriter
from flows.control import Decisions
from flows.dead_letters import DeadLetters
from flows.mail import (
    LOCAL_TOPICS,
    MAIL_VERSION,
    Incoming,
    Mailbox,
    Mark,
    Piece,
    Stamp,
    decode_mark,
    decode_piece,
    encode_piece,
)
from opportune.compiled import Compiled
from opportune.errors import RejectedEvent, StateError
from opportune.project import Project
from opportune.settings import Settings
from state.ancestry import continue_under
from state.faults import FaultyStore
from state.keys import META_ANCESTRY, META_CHANNELS, META_GENERATION, META_SEQUENCES, U64
from state.memory import MemoryStore
from state.outbox import OutboxMessage
from state.positions import Channels, Positions, Sequences
from state.store import Batch as Write
from state.store import Store

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "flows"
PIECE = Piece(1, 3, 11, 1, 2**40, "mark", encode_piece(Mark(1_700_000_000_000)))
MAILBOX, CAUSES = LOCAL_TOPICS.mailbox, "causes"
COMPILED = Compiled(Project(name="test", directory=Path(), settings=Settings(), models={}, tables={}, audiences=()))


class Died(BaseException):
    """The process ends here."""


def golden(name: str) -> bytes:
    return bytes.fromhex((GOLDEN / f"{name}.hex").read_text())


def actor(store: Store, shard: int = 1, on_point: Callable[[str], None] = ignore) -> Actor:
    writer = ChangeWriter(COMPILED, "memberships", 12, lambda: 0)
    letters = DeadLetters("dead-letters", 1_000)
    return Actor(shard, COMPILED, store, tables={}, changes=writer, dead_letters=letters, on_point=on_point)


def piece(sequence: int, sender: int = 3, receiver: int = 1, generation: int = 1, **fields: object) -> bytes:
    values = {"version": MAIL_VERSION, "kind": "note", "body": b"%d" % sequence} | fields
    return encode_piece(Piece(sender=sender, receiver=receiver, generation=generation, sequence=sequence, **values))  # type: ignore[arg-type]  # of the test


class Receiver:
    """A mailbox that keeps what it applied."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or MemoryStore()
        self.applied: list[tuple[int, int]] = []
        self.start()

    def start(self) -> None:
        self.mailbox = Mailbox(1, self.store, MAILBOX)
        self.mailbox.kinds["note"] = self._note

    def _note(self, piece: Piece, _: Write) -> bool:
        self.applied.append((piece.sender, piece.sequence))
        return True

    def take(self, *values: bytes) -> None:
        write = self.store.batch()
        for value in values:
            self.mailbox.take(value, write)
        self.mailbox.save(write)
        self.store.write(write)


def test_layouts_are_as_ever() -> None:
    assert encode_piece(PIECE).hex() == golden("piece").hex()
    assert decode_piece(golden("piece")) == PIECE
    assert encode_piece(Mark(1_700_000_000_000)).hex() == golden("mark").hex()
    assert decode_mark(golden("mark")) == Mark(1_700_000_000_000)


SHARDS = st.integers(0, 65_535)
COUNTS = st.integers(1, 2**63 - 1)


@given(st.builds(Piece, st.just(1), SHARDS, SHARDS, COUNTS, COUNTS, st.text(max_size=9), st.binary(max_size=9)))
def test_pieces_round_trip(made: Piece) -> None:
    assert decode_piece(encode_piece(made)) == made


SEEDS = st.sampled_from([golden("piece"), golden("mark"), b"\x97", b"[1,2,3]"])


@given(st.binary(max_size=60) | st.tuples(SEEDS, st.integers(0, 30), st.binary(max_size=3)).map(
    lambda cut: cut[0][: cut[1]] + cut[2] + cut[0][cut[1] + 1 :]
))  # fmt: skip
@example(b"\x91" * 5_000)
@example(b"")
def test_any_bytes_are_mail_or_an_error(value: bytes) -> None:
    for decode in (decode_piece, decode_mark):
        try:
            decode(value)
        except RejectedEvent as refusal:
            reason = refusal.reason
        else:
            continue
        assert reason == "bad_mail"


def test_a_stamp_is_read_whatever_a_newer_version_puts_behind_it() -> None:
    newer = msgspec.msgpack.encode([2, 3, 1, 1, 7, {"other": "layout"}, None, 1.5])
    assert decode_piece(newer) == Stamp(2, 3, 1, 1, 7)
    assert decode_piece(piece(7, version=2)) == Stamp(2, 3, 1, 1, 7)
    with pytest.raises(RejectedEvent):
        decode_piece(msgspec.msgpack.encode([1, 3, 1, 1, 7, {"other": "layout"}, None]))


@given(st.data())
def test_channels_are_taken_once_and_in_order(data: st.DataObject) -> None:
    """Three senders, whose channels come between each other in any way, with repeats from any earlier place."""
    receiver = Receiver()
    log: list[tuple[int, int]] = []
    sent = [0, 0, 0]
    for sender in data.draw(st.lists(st.integers(0, 2), max_size=30)):
        sent[sender] += 1
        first = data.draw(st.integers(1, sent[sender]))
        log += [(sender, sequence) for sequence in range(first, sent[sender] + 1)]
    for sender, sequence in log:
        if data.draw(st.integers(0, 9)) == 0:
            receiver.start()
        receiver.take(piece(sequence, sender))
    for sender in range(3):
        assert [number for who, number in receiver.applied if who == sender] == list(range(1, sent[sender] + 1))
    assert receiver.mailbox.lost == 0


def test_a_process_of_the_past_is_not_heard_any_more() -> None:
    store = MemoryStore()
    write = store.batch()
    write.put(META_GENERATION, U64(2), store.family("meta"))
    write.put(META_ANCESTRY, msgspec.msgpack.encode({1: {3: 2}}), store.family("meta"))
    store.write(write)
    receiver = Receiver(store)
    receiver.take(piece(1), piece(2), piece(3, generation=2), piece(3), piece(4), piece(4, generation=2))
    assert receiver.applied == [(3, 1), (3, 2), (3, 3), (3, 4)]
    assert receiver.mailbox.abandoned == 2
    assert dict(Channels(store.get("meta", META_CHANNELS) or b"")) == {3: (2, 4)}


def test_mail_of_a_newer_generation_ends_this_process() -> None:
    receiver = Receiver()
    with pytest.raises(StateError, match="generation 2 of this state, this process has generation 1"):
        receiver.take(piece(1, generation=2))
    assert receiver.applied == []


@pytest.mark.parametrize(
    "value", [piece(1, kind="claim"), piece(1, version=2), msgspec.msgpack.encode([9, 3, 1, 1, 1])]
)
def test_what_a_newer_version_sent_is_never_skipped(value: bytes) -> None:
    receiver = Receiver()
    with pytest.raises(StateError, match="newer version of Opportune"):
        receiver.take(value)
    assert receiver.mailbox.taken == 0


def test_a_repeat_of_what_was_taken_is_dropped_whatever_version_it_has() -> None:
    receiver = Receiver()
    receiver.take(piece(1), piece(1, version=2), piece(1, kind="claim"))
    assert (receiver.mailbox.taken, receiver.mailbox.repeated) == (1, 2)


def test_pieces_that_never_came_are_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    receiver = Receiver()
    receiver.take(piece(1), piece(5))
    assert receiver.applied == [(3, 1), (3, 5)]
    assert receiver.mailbox.lost == 3
    assert "3 pieces of mail from shard 3 to shard 1 never came (2 to 4)" in caplog.text


def test_marks_are_kept_and_write_nothing() -> None:
    mailbox = Mailbox(1, MemoryStore(), MAILBOX)
    write = MemoryStore().batch()
    for sequence, time_ms in enumerate((5, 9, 7), 1):
        mailbox.take(piece(sequence, kind="mark", body=encode_piece(Mark(time_ms))), write)
    assert mailbox.marks == {3: 9}
    assert not mailbox.wrote


def test_what_nobody_can_read_is_a_dead_letter_and_the_rest_goes_on() -> None:
    shard = actor(MemoryStore())
    values = [b"no", piece(1, receiver=2), piece(1, kind="mark", body=b"no"), piece(2, kind="mark", body=b"\x91\x05")]
    mail = [Mail(LOCAL_TOPICS.mailbox_id, 1, offset, value) for offset, value in enumerate(values)]
    span = Span(MAILBOX, LOCAL_TOPICS.mailbox_id, 1, 0, 4, 0)
    letters = shard.apply(Batch(0, [span], [], mail=mail))
    assert [letter.value for letter in letters] == values[:3]
    assert {dict(letter.headers)["opportune-reason"] for letter in letters} == {b"bad_mail"}
    assert [dict(letter.headers)["opportune-offset"] for letter in letters] == [b"0", b"1", b"2"]
    assert shard.refused == {"bad_mail": 3}
    assert (shard.mailbox.marks, shard.mailbox.lost) == ({3: 5}, 0)
    assert shard.apply(Batch(0, [span], [], mail=mail)) == []


def test_a_bug_in_our_own_code_is_told_with_the_record_it_met() -> None:
    told: list[tuple[int | None, str]] = []

    def on_poison(record: Record, error: BaseException) -> None:
        told.append((record.offset(), str(error)))

    def broken(*_: object) -> bool:
        raise ZeroDivisionError("note")

    store = MemoryStore()
    mailbox = Mailbox(1, store, MAILBOX)
    mailbox.kinds["note"] = broken
    incoming = Incoming(1, LOCAL_TOPICS, mailbox, Decisions(store, 1), on_poison)
    with pytest.raises(ZeroDivisionError):
        incoming.take([Mail(LOCAL_TOPICS.mailbox_id, 1, 4, piece(1))], Positions(), store.batch())
    assert told == [(4, "note")]


def test_mail_is_synced_before_it_is_handed_on() -> None:
    """After a power cut a sequence must not be given to another piece than the one that the receiver has."""
    store = FaultyStore(MemoryStore())
    shard = actor(store)
    shard.apply(Batch(2_000, [Span(CAUSES, b"c" * 16, 0, 0, 1, 0)], []))
    assert (store.writes, store.syncs) == (1, 0)
    shard.send(3, "mark", b"")
    (message,) = shard.apply(Batch(2_000, [], []))
    assert store.syncs == 1
    assert (message.topic, message.partition) == (MAILBOX, 3)
    assert dict(Sequences(store.get("meta", META_SEQUENCES) or b"")) == {3: 1}


def test_a_snapshot_keeps_the_places_that_its_fence_tells() -> None:
    store = MemoryStore()
    shard = actor(store)
    span = Span(MAILBOX, LOCAL_TOPICS.mailbox_id, 1, 0, 1, 0)
    value = piece(1, kind="mark", body=b"\x91\x05")
    assert shard.apply(Batch(0, [span], [], mail=[Mail(span.topic_id, 1, 0, value)])) == []
    fence = shard.snapshot()
    again = actor(store)
    assert fence["applied"] == {f"{topic.hex()}/{part}": at for (topic, part), (at, _) in again.positions}
    assert dict(Channels(store.get("meta", META_CHANNELS) or b"")) == {3: (1, 1)}


class Life:
    """Two shards, a mailbox topic, and a log of causes for each: cause n of a shard sends note n to the other."""

    def __init__(self, seed: int, notes: int) -> None:
        self.random = random.Random(seed)
        self.notes = notes
        self.stores = [MemoryStore(), MemoryStore()]
        self.topic: list[list[bytes]] = [[], []]
        self.dying: str | None = None
        self.deaths = 0
        self.unsent = 0
        self.actors = [self.born(0), self.born(1)]

    def born(self, shard: int) -> Actor:
        """A shard starts: what waits in its outbox goes out again."""
        made = actor(self.stores[shard], shard, self.at)
        made.mailbox.kinds["note"] = self.noting(self.stores[shard])
        while made.hand_over.resending:
            self.produce(made.hand_over.resend())
        return made

    def noting(self, store: MemoryStore) -> Callable[[Piece, Write], bool]:
        """Applies a note: appends it to the state, in the write of its batch."""
        family, count = store.family("identifiers"), len(list(store.scan("identifiers")))

        def note(piece: Piece, write: Write) -> bool:
            nonlocal count
            count += 1
            write.put(U64(count), piece.body, family)
            return True

        return note

    def at(self, point: str) -> None:
        if self.dying == point:
            raise Died

    def produce(self, messages: list[OutboxMessage]) -> None:
        for message in messages:
            assert message.value is not None
            self.topic[message.partition].append(message.value)

    def step(self) -> None:
        shard = self.random.randrange(2)
        one = self.actors[shard]
        self.dying = "after_write" if self.random.random() < 0.1 else None
        try:
            messages = one.apply(self.batch(one))
        except Died:
            self.unsent += one.outbox.last >= one.outbox.first
            self.die(shard)
            return
        if self.random.random() < 0.1:
            self.produce(messages[: self.random.randrange(len(messages) + 1)])
            self.die(shard)
            return
        self.produce(messages)
        if self.random.random() < 0.3:
            one.snapshot()
            one.committed()
        if self.random.random() < 0.05:
            self.die(shard)

    def die(self, shard: int) -> None:
        self.deaths += 1
        self.actors[shard] = self.born(shard)

    def batch(self, one: Actor) -> Batch:
        """Some causes and some mail, from where the shard is or from earlier."""
        shard, spans = one.shard, []
        known = one.positions.get(CAUSES.ljust(16).encode(), shard)
        done = known[0] if known else 0
        upto = min(self.notes, done + self.random.randrange(40))
        if upto > done:
            spans.append(Span(CAUSES, CAUSES.ljust(16).encode(), shard, done, upto, 0))
            for number in range(done, upto):
                one.send(1 - shard, "note", b"%d" % number)
        log = self.topic[shard]
        known = one.positions.get(LOCAL_TOPICS.mailbox_id, shard)
        first = known[0] if known else 0
        if self.random.random() < 0.2:
            first = self.random.randrange(first + 1)
        after = min(len(log), first + self.random.randrange(60))
        mail = [Mail(LOCAL_TOPICS.mailbox_id, shard, offset, log[offset]) for offset in range(first, after)]
        if mail:
            spans.append(Span(MAILBOX, LOCAL_TOPICS.mailbox_id, shard, first, after, 0))
        return Batch(0, spans, [], mail=mail)

    def done(self) -> bool:
        return all(sum(1 for _ in store.scan("identifiers")) >= self.notes for store in self.stores)

    def noted(self, shard: int) -> list[int]:
        return [int(body) for _, body in self.stores[shard].scan("identifiers")]


def test_two_shards_send_to_each_other_and_die_all_the_time() -> None:
    seed = int(os.environ.get("OPPORTUNE_SEED") or random.SystemRandom().randrange(2**32))
    print(f"OPPORTUNE_SEED={seed}")  # noqa: T201 - replays this run
    life = Life(seed, 10_000)
    steps = 0
    while not life.done():
        for _ in range(100):
            life.step()
        steps += 100
        assert steps < 100_000, "mail does not arrive"
    life.actors = [life.born(0), life.born(1)]
    for shard in range(2):
        assert life.noted(shard) == list(range(10_000))
        assert life.actors[shard].mailbox.lost == 0
    assert min(life.deaths, life.unsent) > 20
    assert sum(map(len, life.topic)) > 20_000, "nothing was sent twice: the test shows nothing"


def test_mail_of_a_future_that_was_undone_is_dropped() -> None:
    receiver = Receiver()
    receiver.take(piece(1), piece(2))
    sender = MemoryStore()
    write = sender.batch()
    write.put(META_SEQUENCES, b"\0\0\0\1" + U64(3), sender.family("meta"))
    sender.write(write)
    others = [MemoryStore(), MemoryStore()]
    continue_under([others[0], receiver.store, others[1], sender], 2)
    receiver.start()
    receiver.take(piece(3), piece(4), piece(4, generation=2), piece(5), piece(5, generation=2))
    assert receiver.applied == [(3, sequence) for sequence in (1, 2, 3, 4, 5)]
    assert (receiver.mailbox.abandoned, receiver.mailbox.lost) == (2, 0)
