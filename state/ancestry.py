"""Which mail of earlier generations counts, and how a set of shards that was copied goes on under a new generation.

Owns: the value ``ancestry`` of the meta family, MessagePack::

    {generation: {sender: sequence}}    of that generation, a sender's mail up to there was sent before the copy was made

After a restore the mailbox topic still holds what the abandoned future sent, under sequences that are given to other mail
now. It is told by its generation, and by this table: what is not in it never happened.
Invariants: a restored set is one moment of all shards; the generation is above any that has run. Not here: mail
(flows.mail), copying directories.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from opportune.errors import StateError
from state.keys import META_ANCESTRY, META_CHANNELS, META_GENERATION, META_SEQUENCES, U64, decode_u64
from state.positions import Channels, Sequences
from state.shard_identity import FIRST_GENERATION
from state.store import Store

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[int, dict[int, int]]).decode


class Ancestry:
    """What counts of the generations before a shard's own.

    Args:
        value: of the meta family, or nothing: there was none.

    Raises:
        StateError: the value is of another layout.
    """

    def __init__(self, value: bytes = b"") -> None:
        try:
            self.counts = _decode(value) if value else {}
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise StateError(
                f"the state of this shard is damaged: what it knows of earlier generations cannot be read ({error}). "
                "Restore a checkpoint set."
            ) from error

    def has(self, sender: int, generation: int, sequence: int) -> bool:
        """Whether a piece of mail of an earlier generation belongs to the past of this shard."""
        return sequence <= self.counts.get(generation, {}).get(sender, 0)

    def encode(self) -> bytes:
        """The value."""
        return _encode(self.counts)


def continue_under(stores: Sequence[Store], generation: int) -> None:
    """Makes copies of all shards, taken at one moment, go on under a new generation.

    Args:
        stores: of the shards, in order of their number, opened by nobody else.
        generation: above any that has run on this state: see ``started`` of the control topic.

    Raises:
        StateError: the copies are not of one moment, or the generation is not new; nothing is changed.
    """
    own = [
        decode_u64(store.get("meta", META_GENERATION) or U64(FIRST_GENERATION), "the generation") for store in stores
    ]
    sent = [dict(Sequences(store.get("meta", META_SEQUENCES) or b"")) for store in stores]
    taken = [dict(Channels(store.get("meta", META_CHANNELS) or b"")) for store in stores]
    if len(set(own)) > 1 or generation <= max(own):
        raise StateError(
            f"copies of generations {sorted(set(own))} cannot go on as generation {generation}: give all shards of one "
            "checkpoint set, and a generation above all that have run."
        )
    for receiver, channels in enumerate(taken):
        for sender, (_, sequence) in channels.items():
            if sequence > sent[sender].get(receiver, 0):
                raise StateError(
                    f"shard {receiver} has mail {sequence} of shard {sender}, which has sent {sent[sender].get(receiver, 0)}: "
                    "the copies are not of one moment. Restore all shards from one checkpoint set."
                )
    for receiver, store in enumerate(stores):
        ancestry = Ancestry(store.get("meta", META_ANCESTRY) or b"")
        ancestry.counts[own[receiver]] = {sender: to[receiver] for sender, to in enumerate(sent) if receiver in to}
        write, meta = store.batch(), store.family("meta")
        write.put(META_ANCESTRY, ancestry.encode(), meta)
        write.put(META_GENERATION, U64(generation), meta)
        store.write(write)
        store.sync()
