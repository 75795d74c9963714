"""Letters on their way out of a shard, in order, few of them large rather than many small.

Owns: which letter goes to which shard, and gathering: claims and grants to one shard are one letter while nothing else is
sent there between them, and so are events of several profiles. What a shard has to say to itself is no mail: ``own`` holds it
until the shard has heard it, in the same batch (``Graph.settle``).
Invariant: in each channel the order is that of ``send``, ``gather`` and of the events that leave (flows.identity.forwarding).
Not here: the pieces of large letters (flows.identity.parts), stamps (flows.mail).
"""

from __future__ import annotations

from collections import deque
from typing import Any

from flows.identity.forwarding import LETTER_BYTES, Forwarding
from flows.identity.letters import Claim, Claims, Forward, Forwards, Grants, Letter, encode, kind_of
from flows.identity.parts import Parts
from flows.mail import Mailbox
from opportune.identity import digest_of, shard_of

GATHERED_MAX = 1_000
"""So many claims or grants are in one letter at most."""


class Outgoing:
    """The letters that a shard sends.

    Args:
        mailbox: where they go.
        parts: cuts large ones.
        forwarding: the events that leave.
        shard: the sender.
        shards: how many there are.

    Attributes:
        own: letters to the shard itself.
    """

    def __init__(self, mailbox: Mailbox, parts: Parts, forwarding: Forwarding, shard: int, shards: int) -> None:
        self._mailbox = mailbox
        self._parts = parts
        self._forwarding = forwarding
        self._shard = shard
        self._shards = shards
        self.own: deque[Letter] = deque()
        self._gathered: dict[int, tuple[type[Claims | Grants], list[Any]]] = {}

    def send(self, letter: Letter) -> None:
        """To the shard of its profile or identifier, behind all that was sent there."""
        receiver = shard_of(digest_of(letter.suit.text) if isinstance(letter, Claim) else letter.to, self._shards)
        self._flush(receiver)
        self.close(receiver)
        self._post(receiver, letter)

    def gather(self, id_: bytes, kind: type[Claims | Grants], item: Any) -> None:
        """To the shard of an identifier or profile, with others of its kind."""
        receiver = shard_of(id_, self._shards)
        self._flush(receiver)
        gathered = self._gathered.get(receiver)
        if gathered is None or gathered[0] is not kind:
            self.close(receiver)
            gathered = self._gathered[receiver] = (kind, [])
        gathered[1].append(item)

    @property
    def busy(self) -> bool:
        """Whether anything was said in this batch."""
        return bool(self._mailbox.outgoing or self._gathered or self._forwarding.leaving or self.own)

    def heard(self) -> Letter | None:
        """The next letter to the shard itself; it is the caller's now."""
        self.close(self._shard)
        return self.own.popleft() if self.own else None

    def close(self, receiver: int) -> None:
        """What was gathered for a shard goes out: something else comes behind it."""
        gathered = self._gathered.pop(receiver, None)
        if gathered is not None:
            kind, items = gathered
            for first in range(0, len(items), GATHERED_MAX):
                self._post(receiver, kind(items[first : first + GATHERED_MAX]))

    def end(self) -> None:
        """Everything goes out; what the shard has to say to itself was heard before."""
        assert not self.own, "the shard has not heard itself"
        for receiver in list(self._forwarding.leaving):
            self._flush(receiver)
        for receiver in list(self._gathered):
            self.close(receiver)

    def _flush(self, receiver: int) -> None:
        together: list[Forward] = []
        size = 0
        for forward in self._forwarding.take(receiver):
            together.append(forward)
            size += sum([len(sent.value) for sent in forward.events])
            if size >= LETTER_BYTES:
                self._post_events(receiver, together)
                together, size = [], 0
        if together:
            self._post_events(receiver, together)

    def _post_events(self, receiver: int, together: list[Forward]) -> None:
        self._post(receiver, together[0] if len(together) == 1 else Forwards(together))

    def _post(self, receiver: int, letter: Letter) -> None:
        if receiver == self._shard:
            self.own.append(letter)
            return
        for kind, body in self._parts.cut(kind_of(letter), encode(letter)):
            self._mailbox.send(receiver, kind, body)
