"""The changes of a replay: as they would be on their topic, in order, and net of instants that were applied in parts.

Owns: ``Emitted``, kept as bytes since most changes are only written on; its order; and that nothing flaps within an instant,
also where a warehouse refresh or the question for a duplicate made the replay apply it in parts.
Not here: the records themselves (flows.changes), when instants are over (flows.replay).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from itertools import groupby
from operator import itemgetter
from typing import TypeAlias

import msgspec

from flows.cloud_events import membership_headers
from opportune.membership import MembershipChange
from state.outbox import OutboxMessage

Emitted: TypeAlias = tuple[bytes, bytes, bytes, bool]
"""A membership change as it would be on its topic: ``at``, the record's key, its value, and whether it is an entry."""
ORDER = itemgetter(0, 1)
ENTERED = b"opportune.membership.entered"
HEADERS = [name for name, _ in membership_headers("entered", b"")(b"", b"", b"")]
TYPE, TIME = HEADERS.index("ce_type"), HEADERS.index("ce_time")
"""Where type and instant of a change are among its headers."""
PROFILE_DIGITS = 32
decode_change = msgspec.json.Decoder(MembershipChange).decode
encode_change = msgspec.json.Encoder().encode


def emitted(messages: Iterable[OutboxMessage]) -> list[Emitted]:
    """The membership changes among what an actor has to say, in its order."""
    return [
        (message.headers[TIME][1], message.key or b"", message.value or b"", message.headers[TYPE][1] == ENTERED)
        for message in messages
        if message.topic == "memberships"
    ]


def without_flaps(changes: list[Emitted], split: Container[bytes]) -> list[Emitted]:
    """The net of instants that were applied in parts.

    Args:
        changes: in order of instant, profile and audience, and those that are alike in order of happening; whole instants.
        split: which instants those are.

    Returns:
        Them without those that undo each other, with the versions that they have where an instant is applied at once.
    """
    out: list[Emitted] = []
    for (at, _), group in groupby(changes, key=person_at):
        theirs = list(group)
        if at not in split or len(theirs) == 1:
            out += theirs
            continue
        decoded = [decode_emitted(told) for told in theirs]
        first = min(change.version for change in decoded)
        several = Counter(told[1] for told in theirs)
        net = {told[1]: place for place, told in reversed(list(enumerate(theirs))) if several[told[1]] % 2}
        for version, place in enumerate(sorted(net.values()), first):
            told, change = theirs[place], decoded[place]
            if change.version != version:
                change = msgspec.structs.replace(change, version=version, id=f"{change.profile_id}/{version}")
                told = (told[0], told[1], encode_change(change), told[3])
            out.append(told)
    return out


def person_at(told: Emitted) -> tuple[bytes, bytes]:
    """The instant of a change, and whose it is."""
    return told[0], told[1][:PROFILE_DIGITS]


def decode_emitted(told: Emitted) -> MembershipChange:
    """The change as a value."""
    return decode_change(told[2])
