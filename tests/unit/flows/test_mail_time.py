"""Time that waits for mail, over real mailboxes whose mail a test hands over piece by piece."""

from __future__ import annotations

from collections import deque

import pytest

from flows.mail import Mailbox
from flows.mail_time import HOPS_MAX, MailTime
from opportune.profile import NEVER
from state.memory import MemoryStore

IDLE_MS = 10_000
KIND = "mark"


class Shard:
    """A shard that sends and takes mail, and says how far it has read."""

    def __init__(self, number: int) -> None:
        self.store = MemoryStore()
        self.mailbox = Mailbox(number, self.store, "mailbox")
        self.read_ms = 0


class Shards:
    """Some shards, the channels between them, and the clock."""

    def __init__(self, count: int = 3) -> None:
        self.all = [Shard(number) for number in range(count)]
        self.channels: dict[tuple[int, int], deque[bytes]] = {}
        self.clock_ms = 0
        self.time = MailTime(self.all, IDLE_MS, lambda: self.clock_ms)

    def read(self, time_ms: int) -> int:
        """All have applied their inputs up to an instant; returns up to when all mail has arrived."""
        for shard in self.all:
            shard.read_ms = time_ms
        return self.time.now()

    def send(self, sender: int, receiver: int) -> None:
        """A piece leaves in a batch of its own."""
        mailbox = self.all[sender].mailbox
        mailbox.send(receiver, KIND, b"\x91\x00")
        self._save(sender)

    def take(self, sender: int, receiver: int, answer: int | None = None) -> None:
        """The oldest piece of a channel is taken; the answer to it goes to another shard in the same batch."""
        mailbox, write = self.all[receiver].mailbox, self.all[receiver].store.batch()
        mailbox.take(self.channels[sender, receiver].popleft(), write)
        if answer is None:
            mailbox.answering = False
        else:
            mailbox.send(answer, KIND, b"\x91\x00")
        self._save(receiver)

    def lose(self, sender: int, receiver: int) -> None:
        """The oldest piece of a channel never arrives."""
        self.channels[sender, receiver].popleft()

    def _save(self, number: int) -> None:
        shard = self.all[number]
        for message in shard.mailbox.outgoing:
            self.channels.setdefault((number, message.partition), deque()).append(message.value or b"")
        write = shard.store.batch()
        shard.mailbox.save(write)
        shard.store.write(write)


def test_one_shard_waits_for_nobody() -> None:
    assert Shards(1).time.now() == NEVER


def test_where_no_mail_is_on_its_way_time_is_what_all_have_applied() -> None:
    shards = Shards()
    assert shards.read(5) == 5
    shards.all[0].read_ms = 9
    assert shards.time.now() == 5
    assert shards.read(9) == 9


def test_a_piece_on_its_way_holds_time_where_it_was() -> None:
    shards = Shards()
    shards.read(5)
    shards.send(0, 1)
    assert shards.read(9) == 5
    assert shards.read(12) == 5
    shards.take(0, 1)
    assert shards.time.now() == 12


def test_later_mail_holds_back_later_time_only() -> None:
    shards = Shards()
    shards.read(5)
    for time_ms in range(10, 200, 10):
        shards.send(0, 1)
        shards.read(time_ms)
        # Something is on its way at every moment, and time goes on.
        shards.send(1, 2)
        shards.take(0, 1)
        assert shards.time.now() == time_ms
        shards.take(1, 2)


@pytest.mark.parametrize("hops", range(1, HOPS_MAX))
def test_answers_to_mail_and_their_answers_are_waited_for(hops: int) -> None:
    shards = Shards(4)
    shards.read(5)
    shards.send(0, 1)
    shards.read(9)
    sender, receiver = 0, 1
    for _ in range(hops):
        # What is always on its way elsewhere, so that it is never quiet.
        shards.send(3, 0)
        following = receiver % 3 + 1 if receiver % 3 + 1 != receiver else 1
        shards.take(sender, receiver, answer=following)
        assert shards.time.now() == 5
        sender, receiver = receiver, following
    shards.take(sender, receiver)
    assert shards.time.now() == 9


def test_after_a_start_what_was_on_its_way_is_waited_for() -> None:
    shards = Shards()
    shards.send(0, 1)
    for number, shard in enumerate(shards.all):
        shard.mailbox = Mailbox(number, shard.store, "mailbox")
    shards.time = MailTime(shards.all, IDLE_MS, lambda: shards.clock_ms)
    assert shards.read(9) == 0
    shards.take(0, 1)
    assert shards.time.now() == 9


def test_a_lost_piece_delays_time_once() -> None:
    shards = Shards()
    shards.read(1)
    shards.send(0, 1)
    shards.lose(0, 1)
    seen = []
    for tick in range(1, 150):
        shards.clock_ms = tick * 100
        seen.append(shards.read(1 + tick * 100))
    assert seen[:99] == [1] * 99
    assert shards.time.left_out == 1
    assert seen[-1] == shards.clock_ms + 1
    shards.send(0, 1)
    assert shards.read(100_000) == shards.clock_ms + 1, "later mail of the channel is waited for"
    shards.take(0, 1)
    assert shards.time.now() == 100_000
    assert shards.all[1].mailbox.lost == 1


def test_while_time_stands_still_no_mail_is_given_up() -> None:
    shards = Shards()
    shards.read(1)
    shards.send(0, 1)
    shards.read(2)
    shards.clock_ms = 3_600_000
    assert shards.read(2) == 1
    assert shards.read(3) == 1, "Kafka is back: the mail has yet to be read"
    assert shards.time.left_out == 0


def test_mail_that_moves_is_not_given_up() -> None:
    shards = Shards()
    shards.read(1)
    for _ in range(30):
        shards.send(0, 1)
    for tick in range(1, 30):
        shards.clock_ms += 1_000
        shards.read(1 + tick)
        shards.take(0, 1)
    assert shards.time.left_out == 0
