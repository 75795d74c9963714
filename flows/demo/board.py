"""What the demo knows of itself at an instant: what the view draws and the report tells.

Owns: the numbers. It is told of membership changes, of the worker's status and of the traffic's account, and reads no
clock. Invariant: an audience's size is its entries less its exits, as a subscriber sees them.
Not here: how it looks (flows.demo.view, flows.demo.report), where it comes from (flows.demo.watch).
"""

from __future__ import annotations

from collections import Counter, deque

import msgspec

from flows.demo.traffic import Account
from opportune.membership import MembershipChange

NEWEST_MAX = 100
NAMES_MAX = 20_000
HISTORY = 60
SECOND_MS = 1000


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker says of itself once a second: the part of its status file that a demo shows (flows.metrics).

    Args:
        at_ms: when it said so, wall clock.
        started_ms: when its process began; the counters count from there.
        events: records of the events topics that were read, refused ones and repeats included.
        repeats: records or message ids that had been seen before.
        rejected: refused records by reason.
        identities: what happened to profiles' identifiers, by word.
        lag: records not read yet, by ``topic/partition``.
        applied: the next offset to apply, by ``topic/partition``.
        shard_ms: log time by shard.
    """

    at_ms: int
    started_ms: int = 0
    events: int = 0
    repeats: int = 0
    rejected: dict[str, int] = {}
    identities: dict[str, int] = {}
    lag: dict[str, int] = {}
    applied: dict[str, int] = {}
    shard_ms: dict[str, int] = {}


class Tally(msgspec.Struct):
    """An audience: how it is described, and how often it was entered and exited."""

    description: str
    entered: int = 0
    exited: int = 0

    @property
    def members(self) -> int:
        """How many are in now."""
        return self.entered - self.exited


class Board:
    """The state of a demo.

    Args:
        project: its name.
        audiences: descriptions by name of audience.
        topics: the events topics, which were empty at the start.
        started_ms: when the worker was started, by the clock that ``now_ms`` is set from.

    Attributes:
        newest: membership changes, the newest first, bounded.
        rates: events read a second, one figure a status, the newest last, bounded.
        names: what the profiles of the last changes are called: their strongest identifier.
        events, repeats, refused, merges: what all processes of the worker have counted so far.
        restarts: how often the worker has begun anew.
        first_change_ms: from the worker's start to the first change, or None.
        calls: commands for another terminal, once they work.
    """

    def __init__(self, project: str, audiences: dict[str, str], topics: tuple[str, ...], started_ms: int) -> None:
        self.project = project
        self.topics = topics
        self.started_ms = started_ms
        self.now_ms = started_ms
        self.tallies = {name: Tally(description) for name, description in audiences.items()}
        self.newest: deque[MembershipChange] = deque(maxlen=NEWEST_MAX)
        self.rates: deque[int] = deque(maxlen=HISTORY)
        self.status: Status | None = None
        self.account = Account()
        self.first_change_ms: int | None = None
        self.calls: tuple[str, ...] = ()
        self.events = self.repeats = self.restarts = self.merges = 0
        self.names: dict[str, str] = {}
        self.refused: Counter[str] = Counter()

    @property
    def changes(self) -> int:
        """How many changes there were."""
        return sum(tally.entered + tally.exited for tally in self.tallies.values())

    @property
    def memberships(self) -> int:
        """How many there are now, over all audiences."""
        return sum(tally.members for tally in self.tallies.values())

    @property
    def elapsed_ms(self) -> int:
        """Since the worker's start."""
        return self.now_ms - self.started_ms

    @property
    def lag(self) -> int:
        """How many records were not read yet at the last status."""
        return sum(self.status.lag.values()) if self.status else 0

    @property
    def freshness_ms(self) -> int | None:
        """The clock less the slowest shard's time at the last status; None before it is known."""
        if self.status is None or not self.status.shard_ms:
            return None
        return max(self.status.at_ms - min(self.status.shard_ms.values()), 0)

    def changed(self, change: MembershipChange, now_ms: int) -> None:
        """A change has arrived."""
        tally = self.tallies.setdefault(change.audience, Tally(""))
        if change.change == "entered":
            tally.entered += 1
        else:
            tally.exited += 1
        self.newest.appendleft(change)
        if len(self.names) > NAMES_MAX:
            self.names.clear()
        self.names[change.profile_id] = name_of(change)
        if self.first_change_ms is None:
            self.first_change_ms = now_ms - self.started_ms

    def reported(self, status: Status) -> None:
        """The worker has said something; a process that was started again counts from zero."""
        before = self.status or Status(at_ms=status.at_ms, started_ms=status.started_ms)
        self.status = status
        if status.started_ms != before.started_ms:
            self.restarts += 1
            before = Status(at_ms=before.at_ms)
        done = status.events - before.events
        self.events += done
        self.repeats += status.repeats - before.repeats
        self.merges += status.identities.get("merged", 0) - before.identities.get("merged", 0)
        self.refused.update({reason: n - before.rejected.get(reason, 0) for reason, n in status.rejected.items()})
        if status.at_ms > before.at_ms:
            self.rates.append(done * SECOND_MS // (status.at_ms - before.at_ms))

    def drained(self) -> bool:
        """Whether everything that was sent has been applied: the topics were empty, so their offsets count records.

        The lag is looked at too: what people sent to the collector is in the offsets and not in the account.
        """
        if self.status is None:
            return False
        applied, lag = self._of_events(self.status.applied), self._of_events(self.status.lag)
        return applied >= self.account.records and not lag

    def _of_events(self, numbers: dict[str, int]) -> int:
        return sum(number for where, number in numbers.items() if where.rpartition("/")[0] in self.topics)


def name_of(change: MembershipChange) -> str:
    """The strongest identifier of a change's profile, or its id where it has none of the usual ones."""
    for namespace in ("user_id", "email", "anonymous_id"):
        for value in change.identifiers.get(namespace, []):
            return value
    return change.profile_id
