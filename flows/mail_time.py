"""Up to when all mail has arrived: what a shard's time waits for beside its inputs.

Owns: the instant before which nothing of an event is on its way between shards any more. An event that is sent on holds back the
timers of its profile only if it is there; so timers fire up to this instant, and not up to how far the inputs are read.

The process has all shards, so nothing has to be asked or sent: what each has sent and taken is compared. A cut is the instant up
to which all shards have applied their inputs, and the last sequence of each channel then. It passes the first stage when all of
that mail is taken; then the answers are waited for: what was sent by then because mail had come; and so on, ``HOPS_MAX`` times.
Where no mail is on its way everything has arrived, whatever the cuts say.

Invariants: it never goes back, and never is beyond what all shards have applied. A channel on which nothing moves for
``clock.idle``, while time does, is no longer waited for (the broker refused the piece, or it was set aside): one lost piece delays
timers once.
Not here: how far the inputs are read (flows.log_time), sequences (flows.mail), marks between processes (docs/adr/0017).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import ge
from typing import NamedTuple, Protocol, TypeAlias

from flows.mail import Mailbox
from opportune.clock import Clock
from opportune.profile import NEVER

log = logging.getLogger(__name__)

HOPS_MAX = 6
"""So many pieces of mail, each of which answers the one before, are waited for: claim, meet, offer, accept, and an event after it."""
CUTS_MAX = 32
"""So many cuts wait at a stage; later ones take the place of the last."""
GAP_MS = 2_000
"""When time has stood still for longer, Kafka or this process was away: that is no reason to think that mail is lost."""
Row: TypeAlias = tuple[int, ...]
"""A sequence for each channel: those of the first sender by receiver, then of the second, and so on."""


class Shard(Protocol):
    """What is asked of a shard (``flows.actor.Actor``): how far it has applied its inputs, and its mail."""

    read_ms: int
    mailbox: Mailbox


class _Cut(NamedTuple):
    time_ms: int
    wanted: Row


class MailTime:
    """The mail of all shards of a process.

    Args:
        actors: by shard.
        idle_ms: ``clock.idle``.
        monotonic: a clock that never goes back, milliseconds.

    Attributes:
        left_out: how often a channel was no longer waited for.
    """

    def __init__(self, actors: Sequence[Shard], idle_ms: int, monotonic: Clock) -> None:
        self.left_out = 0
        self._actors = actors
        self._idle_ms = idle_ms
        self._monotonic = monotonic
        self._time_ms = 0
        self._applied_ms = 0
        self._tick_ms = monotonic()
        self._stages: list[deque[_Cut]] = [deque() for _ in range(HOPS_MAX)]
        self._moves: list[int] = []
        self._sent: Row = ()
        self._taken: Row = ()
        self._given_up: dict[int, int] = {}
        self._stuck: dict[int, tuple[int, int]] = {}

    def now(self) -> int:
        """The instant, milliseconds; 0 while nothing is known, NEVER where there is one shard, which sends no mail."""
        if len(self._actors) == 1:
            return NEVER
        applied_ms = min([actor.read_ms for actor in self._actors])
        moves = [actor.mailbox.moves for actor in self._actors]
        if moves != self._moves:
            self._moves = moves
            self._sent = self._row(Mailbox.sent)
            self._taken = self._arrived()
        if self._covers(self._sent):
            self._stuck.clear()
            for stage in self._stages:
                stage.clear()
            self._time_ms = max(self._time_ms, applied_ms)
        else:
            if applied_ms > self._applied_ms:
                self._cut(applied_ms)
            self._pass()
        if applied_ms > self._applied_ms:
            self._give_up()
            self._applied_ms = applied_ms
        return self._time_ms

    def _cut(self, applied_ms: int) -> None:
        waiting = self._stages[0]
        if len(waiting) == CUTS_MAX:
            waiting.pop()
        waiting.append(_Cut(applied_ms, self._sent))

    def _pass(self) -> None:
        """Moves each cut on as far as its mail has arrived; of several that pass, the last one."""
        answers: Row | None = None
        for number, waiting in enumerate(self._stages):
            passed = 0
            while waiting and self._covers(waiting[0].wanted):
                passed = waiting.popleft().time_ms
            if not passed:
                continue
            if number + 1 == HOPS_MAX:
                self._time_ms = max(self._time_ms, passed)
                return
            if answers is None:
                answers = self._row(Mailbox.answered)
            following = self._stages[number + 1]
            if len(following) == CUTS_MAX:
                following.pop()
            following.append(_Cut(passed, answers))

    def _covers(self, wanted: Row) -> bool:
        return all(map(ge, self._taken, wanted))

    def _row(self, of: Callable[[Mailbox], Mapping[int, int]]) -> Row:
        receivers = range(len(self._actors))
        rows = [of(actor.mailbox) for actor in self._actors]
        return tuple([row.get(receiver, 0) for row in rows for receiver in receivers])

    def _arrived(self) -> Row:
        """What was taken, or is not waited for, by sender and receiver."""
        shards = range(len(self._actors))
        rows = [actor.mailbox.heard() for actor in self._actors]
        given_up = self._given_up
        return tuple(
            [
                max(rows[receiver].get(sender, 0), given_up.get(sender * len(rows) + receiver, 0))
                for sender in shards
                for receiver in shards
            ]
        )

    def _give_up(self) -> None:
        """Stops to wait for channels on which nothing has moved for too long; time is known to have moved just now."""
        tick = self._monotonic()
        waited = min(tick - self._tick_ms, GAP_MS)
        self._tick_ms = tick
        stuck = self._stuck
        for channel, (taken, sent) in enumerate(zip(self._taken, self._sent, strict=True)):
            if taken >= sent:
                stuck.pop(channel, None)
                continue
            last, so_far = stuck.get(channel, (-1, 0))
            stuck[channel] = (taken, so_far + waited if last == taken else 0)
            if stuck[channel][1] > self._idle_ms:
                del stuck[channel]
                self._given_up[channel] = sent
                self._moves = []
                self.left_out += 1
                log.warning(
                    "mail from shard %d to shard %d has not arrived for %d s; timers no longer wait for it. Look for dead "
                    "letters bad_mail, refused_by_broker and poison of the mailbox topic.",
                    *divmod(channel, len(self._actors)),
                    self._idle_ms // 1_000,
                )
