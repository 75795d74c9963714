"""The changes of a replay: as they would be on their topic, in order, and net of instants that were applied in parts.

Owns: ``Teller``, which makes them, ``Emitted``, kept as text since most changes are only written on; its order; and that
nothing flaps within an instant, also where a warehouse refresh or the question for a duplicate made the replay apply it in
parts. Invariant: the text is that of ``ChangeWriter.message``.
Not here: the records of the job (flows.changes), when instants are over (flows.replay).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeAlias

import msgspec

from flows.changes import ChangeWriter, cause_of, encode, identifiers_of
from opportune.audiences.approximations import Approximate
from opportune.event import iso_text
from opportune.membership import VERSIONS_A_MS, MembershipChange
from opportune.profile import Change

Emitted: TypeAlias = tuple[str, str, str, bool]
"""A membership change as it would be on its topic: ``at``, the record's key, its value, and whether it is an entry."""
ORDER = itemgetter(0, 1)
PROFILE_DIGITS = 32
NAMED_MAX = 50_000
"""So many people's texts are remembered between commits."""
decode_change = msgspec.json.Decoder(MembershipChange).decode
encode_change = msgspec.json.Encoder().encode


class Teller(ChangeWriter):
    """Makes the changes of a commit at once."""

    def tell(self, changes: Iterable[Change]) -> list[Emitted]:
        """The changes with their versions, in the order that they have."""
        emitted_at = iso_text(self.clock())
        parts, event_type = self.texts, self.event_type
        named = self.named
        if len(named) > NAMED_MAX:
            named.clear()
        told: list[Emitted] = []
        last_ms, at = None, ""
        for profile, audience, entered, at_ms, by in changes:
            version = profile.version = max(profile.version + 1, at_ms * VERSIONS_A_MS)
            if at_ms != last_ms:
                last_ms, at = at_ms, iso_text(at_ms)
            known = named.get(profile.id)
            if known is None or known[0] is not profile.identifiers:
                # A profile gets a new list where its identifiers change.
                identifiers = encode(identifiers_of(profile.identifiers)).decode()
                known = named[profile.id] = (profile.identifiers, profile.id.hex(), identifiers)
            _, who, identifiers = known
            name, heads, tail = parts[audience]
            if by is None:
                cause, more = "time", ""
            elif by.__class__ is event_type:
                cause, more = "event", f',"event_id":{encode(by.messageId).decode()}' if by.messageId else ""
            else:
                cause, more = _rare(by)
            value = (
                f'{{"id":"{who}/{version}"{heads[entered]}{who}","identifiers":{identifiers},"at":"{at}","emitted_at":'
                f'"{emitted_at}","cause":"{cause}","version":{version}{tail}{more}}}'
            )
            told.append((at, who + name, value, entered))
        return told

    @cached_property
    def named(self) -> dict[bytes, tuple[list[str], str, str]]:
        """By profile: its identifiers, and the texts of its id and of them."""
        return {}

    @cached_property
    def texts(self) -> list[tuple[str, tuple[str, str], str]]:
        """Of each audience: the end of the key, what stands before the profile's id, by whether it is an entry, and the end."""
        return [
            (key.decode(), (heads[0][0].decode(), heads[1][0].decode()), heads[0][1].decode())
            for key, heads in zip(self.keys, self.parts, strict=True)
        ]


def _rare(by: Any) -> tuple[str, str]:
    """The cause of a change that is neither time nor, exactly, an event."""
    approximate = by.__class__ is Approximate
    cause, more = cause_of(by.by if approximate else by)
    return cause.decode(), more.decode() + (',"approximate":true' if approximate else "")


def without_flaps(changes: list[Emitted], split: Container[str]) -> list[Emitted]:
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
                told = (told[0], told[1], encode_change(change).decode(), told[3])
            out.append(told)
    return out


def person_at(told: Emitted) -> tuple[str, str]:
    """The instant of a change, and whose it is."""
    return told[0], told[1][:PROFILE_DIGITS]


def decode_emitted(told: Emitted) -> MembershipChange:
    """The change as a value."""
    return decode_change(told[2])
