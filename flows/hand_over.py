"""How the messages of one shard leave it: what was written goes out, mail when it is on disk, everything in order.

Owns: what of the outbox was handed on, the mail that waits for more mail, and sending again after a start.
Invariants: what is handed on is in the outbox; nothing goes out while older entries still wait from before the start; mail
goes out after the write that holds it is synced, whatever ``state.durability`` says (docs/mail.md has the reason), and
what has not gone out is not sealed.
Not here: the entries (state.outbox), producing (flows.sinks).
"""

from __future__ import annotations

from state.outbox import Outbox, OutboxMessage, decode_messages
from state.store import Store

RESEND_ENTRIES = 64
"""So many entries of the outbox are sent again in one go."""
RESEND_MESSAGES = 200
"""No further entry is, once there are so many messages."""


class HandOver:
    """The way out of one shard.

    Args:
        outbox: its outbox.
        store: its state, to sync.
        mail_pace_ms: mail may wait so long, by log time, for more: each time that some goes out, the disk is synced.

    Attributes:
        sent: the newest entry of which everything but mail was handed on.
    """

    def __init__(self, outbox: Outbox, store: Store, mail_pace_ms: int = 0) -> None:
        self._outbox = outbox
        self._store = store
        self._pace_ms = mail_pace_ms
        self._held: list[OutboxMessage] = []
        self._since = 0
        self._first = 0
        self.sent = outbox.first - 1

    def take(self, messages: list[OutboxMessage], mail: list[OutboxMessage], time_ms: int) -> list[OutboxMessage]:
        """Takes what the newest entry of the outbox holds, as just written; nothing where no entry was written.

        Args:
            messages: all but mail.
            mail: pieces of mail.
            time_ms: how far the shard's inputs are read: its log time may wait for this very mail.

        Returns:
            What goes out now.
        """
        last = self._outbox.last
        if (messages or mail) and self.sent < last - 1:
            if mail:
                self._store.sync()
            return []
        if messages or mail:
            self.sent = last
        if mail:
            if not self._held:
                self._since, self._first = time_ms, last
            self._held += mail
        if not self._held or time_ms - self._since < self._pace_ms:
            return messages
        return [*messages, *self.release()]

    def release(self) -> list[OutboxMessage]:
        """All mail that waits goes out now: the shard stops, or it has waited long enough."""
        if self._held:
            self._store.sync()
        released, self._held = self._held, []
        return released

    def seal(self) -> int:
        """At a snapshot, with everything synced: what was handed on belongs to its epoch; waiting mail goes out next.

        Returns:
            The newest sealed entry, for the fence.
        """
        sealed = self._outbox.sealed(self._first - 1 if self._held else self.sent)
        self._since = 0
        return sealed

    @property
    def resending(self) -> bool:
        """Whether the outbox holds what was not handed on yet."""
        return self.sent < self._outbox.last

    def resend(self) -> list[OutboxMessage]:
        """Hands on some of what waits in the outbox since before the start, in its order; later messages come behind."""
        messages: list[OutboxMessage] = []
        for sequence, blob in self._outbox.read(self.sent + 1, RESEND_ENTRIES):
            messages += decode_messages(blob)
            self.sent = sequence
            if len(messages) >= RESEND_MESSAGES:
                break
        return messages
