"""A shard that is played in one go: the same actor, without what only a job needs that may stop and start.

Owns: what a replay leaves out of a commit, and nothing of what is judged: no outbox, no index of members, no positions, of
the histories of identities only what decides claims; timers are in a heap, profiles stay open (flows.replay_desk).
Invariant: the changes are those of ``Actor``, byte for byte; ``settle`` puts the profiles into the store.
Not here: the order of work in a batch (flows.actor), the watermark (flows.replay).
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any

from flows.actor import Actor
from flows.changes import net
from flows.identity.letters import Origin
from flows.identity.notes import NO_ORIGIN, Notes
from flows.refresh import is_somebody
from flows.replay_changes import Emitted, Teller
from flows.replay_desk import KeptDesk
from flows.timers import Timers
from opportune.profile import NEVER, Change, Profile, advance
from state.keys import U64, decode_timer, pack_member, pack_membership, pack_timer
from state.outbox import OutboxMessage
from state.store import Batch as Write
from state.store import Store


class HeapTimers(Timers):
    """Timers that need not last; one that became too late stays, fires early and finds nothing to do."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.heap: list[bytes] = []

    def due(self, until_ms: int, limit: int) -> list[bytes]:
        """See ``Timers.due``."""
        if self.next_due >= until_ms:
            return []
        taken: list[bytes] = []
        end, heap = U64(until_ms), self.heap
        while heap and heap[0] < end and len(taken) < limit:
            taken.append(heappop(heap))
        self.next_due = decode_timer(heap[0])[0] if heap else NEVER
        return taken

    def arm(self, profile: Profile, _: Write) -> None:
        """See ``Timers.arm``."""
        due = profile.due
        if due == NEVER or (profile.timer and profile.timer <= due):
            return
        heappush(self.heap, pack_timer(due, profile.id))
        profile.timer = due
        self.next_due = min(self.next_due, due)

    def remove(self, keys: list[bytes], _: Write) -> None:
        """See ``Timers.remove``: they are taken out already."""


class FewNotes(Notes):
    """Histories that nobody asks for: which claims are settled, and no account of what brought an identifier."""

    def found(self, profile: bytes, text: str, event: Any) -> None:
        """See ``Notes.found``."""

    def tell(self, profile: bytes, now: int, word: str, about: str, origin: Origin = NO_ORIGIN) -> None:
        """See ``Notes.tell``."""

    def bring(self, profile: bytes, text: str, origin: Origin) -> None:
        """See ``Notes.bring``."""

    def drop(self, profile: bytes, text: str) -> None:
        """See ``Notes.drop``."""


class ReplayActor(Actor):
    """The one shard of a replay; as ``Actor``, but for ``changes``, which is a ``Teller``.

    Attributes:
        told: the changes since they were last taken, each commit's in order.
        indexed: whether the index of members is kept, for whoever looks people up in the store.
    """

    DESK = KeptDesk
    TIMERS = HeapTimers
    SWEEP = 10_000
    changes: Teller
    desk: KeptDesk

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.graph.notes = FewNotes(self.store)
        self.told: list[Emitted] = []
        self.indexed = False

    def commit(self, out: list[Change], write: Write, _: list[OutboxMessage]) -> list[OutboxMessage]:
        """See ``Actor.commit``: returns the mail, and keeps the changes in ``told``; nobody reads dead letters."""
        if out:
            changes = net(out)
            self.told += self.changes.tell(changes)
            if self.indexed:
                self._index(changes, write)
        self.graph.save(write)
        desk, arm = self.desk, self.timers.arm
        mail = self.mailbox.outgoing
        for profile in desk.touched:
            arm(profile, write)
        desk.store_touched(write)
        self.seen.forget(write, self.time_ms)
        self._save_places(write)
        self.store.write(write)
        return mail

    def _index(self, changes: list[Change], write: Write) -> None:
        """As ``Actor.commit`` has it, but for the version: of several changes of a profile the last one's."""
        for profile, audience, entered, at_ms, _ in changes:
            key = pack_member(audience, profile.id)
            if entered:
                write.put(key, pack_membership(at_ms, profile.version), self.members)
            else:
                write.delete(key, self.members)

    def bring(self, concerned: Sequence[tuple[bytes, int]]) -> list[OutboxMessage]:
        """Fires what is due of profiles before an instant of each; who has rows is then of that instant.

        Args:
            concerned: ids and instants, milliseconds; ids of nobody are passed over.

        Returns:
            As ``apply``.
        """
        out: list[Change] = []
        write, desk = self.store.batch(), self.desk
        desk.clear()
        self.graph.begin(out, [], write)
        desk.load([profile_id for profile_id, _ in concerned])
        for profile_id, now in concerned:
            profile = desk.profiles[profile_id]
            if not is_somebody(profile):
                continue
            if profile.due < now:
                desk.touch(profile)
                advance(profile, now, out, self.evaluate)
            if desk.tables and profile.now < now:
                desk.touch(profile)
                profile.now = now
        return self.commit(out, write, [])

    def settle(self) -> Store:
        """Returns the store with all profiles in it, for whoever reads them there."""
        self.desk.settle()
        return self.store
