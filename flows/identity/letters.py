"""What shards tell each other about people: the bodies of the mail of identity (docs/identity.md is the protocol).

Owns: the layouts, MessagePack arrays of the fields in their order; durable, since mail waits in Kafka and in frozen
profiles. ``to`` is a profile; an identifier is its ``namespace:value`` text, and goes to the shard of its digest.
Not here: stamps and channels (flows.mail), the answers (flows.identity.graph).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import msgspec

from opportune.errors import RejectedEvent


class _Body(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    pass


class Origin(_Body, array_like=True, frozen=True, gc=False):
    """The event that something comes from: its arrival (milliseconds), ``topic/partition/offset``, its message id."""

    at: int
    place: str
    message: str


class Suit(_Body, array_like=True, frozen=True, gc=False):
    """Who asks for an identifier.

    Args:
        text: the identifier.
        claimer: the profile that has seen it.
        rank: that of the claimer's founding namespace.
        strong: the claimer's identifiers that cannot change hands.
        seen: whose it was when its shard was asked; empty before that.
        turn: how often it had changed hands then.
        now: the last instant of those who are concerned.
        origin: the event that brought it.
    """

    text: str
    claimer: bytes
    rank: int
    strong: list[str]
    seen: bytes
    turn: int
    now: int
    origin: Origin


class Claim(_Body, array_like=True, frozen=True, gc=False):
    """To an identifier: a profile has seen it. ``take``: it was in conflict, and may change hands."""

    suit: Suit
    take: bool


class Claims(_Body, array_like=True, frozen=True, gc=False):
    """To one shard: many profiles have each seen an identifier there; each is a ``Claim`` that takes nothing."""

    suits: list[Suit]


class Granted(_Body, array_like=True, frozen=True, gc=False):
    """To the claimer: the identifier is its own; it has changed hands ``turn`` times.

    Args:
        to: the claimer.
        text: the identifier.
        turn: how often.
        opposed: whether it was another profile's, with which a limit excludes a merge.
        origin: the event that brought it.
        rowless: whether its rows stay out.
    """

    to: bytes
    text: str
    turn: int
    opposed: bool
    origin: Origin
    rowless: bool = False


class Grants(_Body, array_like=True, frozen=True, gc=False):
    """To one shard: what is granted to profiles there."""

    granted: list[Granted]


class Lost(_Body, array_like=True, frozen=True, gc=False):
    """To who had an identifier: it has changed hands, for the time ``turn``."""

    to: bytes
    text: str
    turn: int


class Meet(_Body, array_like=True, frozen=True, gc=False):
    """To a profile: it and another one are one person, if the limits allow.

    Args:
        to: the profile.
        other: the other one.
        rank: that of the other's founding namespace.
        strong: the other's identifiers that cannot change hands.
        suit: what brought them together; its claimer may be either, or have merged into either.
        claiming: whether ``to`` is on the claimer's side.
    """

    to: bytes
    other: bytes
    rank: int
    strong: list[str]
    suit: Suit
    claiming: bool


class State(_Body, array_like=True, frozen=True, gc=False):
    """All that a profile is.

    Args:
        profile: its id.
        now: its last instant.
        members: the names of its audiences.
        identifiers, pending, turns, absorbed, rowless: as in ``Profile``.
        cells: what it keeps of features, encoded, by what that is (opportune.audiences.lineage): the other side may run on
            other definitions. Of several features that keep the same, one.
        history: as in flows.identity.notes.
    """

    profile: bytes
    now: int
    members: list[str]
    identifiers: list[str]
    pending: list[str]
    turns: dict[int, int]
    absorbed: list[int]
    cells: dict[str, bytes]
    history: bytes
    rowless: list[str] = []


class Offer(_Body, array_like=True, frozen=True, gc=False):
    """To the stronger profile: a frozen one that wants to be part of it. ``claiming``: the frozen one is the claimer's."""

    to: bytes
    state: State
    suit: Suit
    claiming: bool


class Accept(_Body, array_like=True, frozen=True, gc=False):
    """To a frozen profile: the winner has everything, since ``now``."""

    to: bytes
    winner: bytes
    now: int


class Refuse(_Body, array_like=True, frozen=True, gc=False):
    """To a frozen profile: the limits do not allow it."""

    to: bytes
    other: bytes
    suit: Suit
    claiming: bool


class Conflict(_Body, array_like=True, frozen=True, gc=False):
    """To the claimer: the identifier is another profile's, and the two cannot merge."""

    to: bytes
    suit: Suit


class Sent(_Body, array_like=True, frozen=True, gc=False):
    """An event that was sent on: its bytes, its times in milliseconds, its place, how often it was sent."""

    value: bytes
    at: int
    arrival: int
    topic: str
    partition: int
    offset: int
    hops: int


class Forward(_Body, array_like=True, frozen=True, gc=False):
    """To a profile: events of it, in order."""

    to: bytes
    events: list[Sent]


class Forwards(_Body, array_like=True, frozen=True, gc=False):
    """To one shard: events of several profiles there."""

    forwards: list[Forward]


class Erase(_Body, array_like=True, frozen=True, gc=False):
    """To a profile: it is to be forgotten.

    Args:
        to: the profile.
        request: that asked for it.
        asked: the digest of the request that led here; empty where a merge under way did.
        until: events that arrived up to it are part of what is forgotten, milliseconds.
        thaw: the profile has offered itself to one that was forgotten: it waits for nothing else.
    """

    to: bytes
    request: str
    asked: bytes
    until: int
    thaw: bool


class Vanish(_Body, array_like=True, frozen=True, gc=False):
    """To an identifier (``to`` is its digest): the profile that had it was forgotten.

    Args:
        to: where the pointer is; with an empty text a profile that had merged into the forgotten one.
        text: the identifier.
        turn: how often it had changed hands as far as that profile knew.
        until: as in ``Forgotten`` of flows.control.
        profile: that was forgotten.
    """

    to: bytes
    text: str
    turn: int
    until: int
    profile: bytes


class Withheld(_Body, array_like=True, frozen=True, gc=False):
    """To the claimer: who had the identifier was forgotten after the claim arose; a newer event may claim it again."""

    to: bytes
    text: str


class Resume(_Body, array_like=True, frozen=True, gc=False):
    """To a frozen profile: the one that it waits for was forgotten before they met; it goes on by itself."""

    to: bytes
    suit: Suit
    claiming: bool


class Astray(_Body, array_like=True, frozen=True, gc=False):
    """To an identifier (``to`` is its digest): events that came to a forgotten profile and are newer than it."""

    to: bytes
    events: list[Sent]


Letter: TypeAlias = Any
"""One of the bodies."""
LETTERS: dict[str, type[Any]] = {
    kind.__name__.lower(): kind
    for kind in (
        *(Claim, Claims, Granted, Grants, Lost, Meet, Offer, Accept, Refuse, Conflict, Forward, Forwards),
        *(Erase, Vanish, Withheld, Resume, Astray),
    )
}
"""By the kind of mail."""
T = TypeVar("T")
encode = msgspec.msgpack.Encoder().encode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decoders: dict[str, Callable[[bytes], Any]] = {
    kind: msgspec.msgpack.Decoder(type_).decode for kind, type_ in LETTERS.items()
}


def decode(kind: str, body: bytes) -> Letter:
    """Reads a body. Raises ``RejectedEvent`` (``bad_mail``) on other bytes."""
    try:
        return _decoders[kind](body)
    except _UNREADABLE as error:
        raise RejectedEvent("bad_mail", f"not the body of {kind}: {error}") from error


def kind_of(letter: Letter) -> str:
    """The kind of mail that carries a body."""
    return type(letter).__name__.lower()
