"""A profile's head while it is worked on and as it is stored.

Owns: ``Profile``: what is true of a person whatever events they have; and the firing of what time alone changes.
The head is stored as a msgpack array of the fields in their order; the last four belong to the work in memory and are
stored as nil. Feature groups are stored beside it, one value each (state.keys).

Invariant: for every audience, the least of the dues of the handlers that can evaluate it is not after the next instant
at which it can change. So dues are lower bounds: firing early costs an evaluation and changes nothing.
Not here: features and their evaluation (opportune.audiences.compiler), timers on disk (flows.actor).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

NEVER = 1 << 60
"""An instant that does not come."""
FROZEN = 1
"""The profile is on its way into another one: readable, and nothing changes it."""
MOVED = 2
"""The profile is part of another one; its id stays valid."""
ELSEWHERE = 4
"""The identifier that the id stands for belongs to another profile. With ``now`` 0 there is no profile of this id."""
FORGOTTEN = 8
"""The identifier or the profile of this id is on the suppression list (flows.identity.suppression)."""


class Profile(msgspec.Struct, array_like=True, gc=False):
    """A person.

    Args:
        version: of the last membership change.
        now: the last instant at which something was applied, milliseconds.
        timer: the due instant of the timer key that is in the store; 0: none. May be earlier than ``due``, never later.
        due: the least of ``dues``.
        dues: by handler number, the earliest instant at which an audience that it evaluates may change by time alone.
        members: the numbers of the audiences that the person is in.
        identifiers: ``namespace:value`` texts, the founding one first while it is the profile's.
        fate: what is unusual about it, a sum of FROZEN, MOVED, ELSEWHERE and FORGOTTEN; nearly always 0.
        into: the profile that it is merged with, where it is frozen or moved.
        founder: the profile that the identifier of this id belongs to, where it is ELSEWHERE.
        rank: the place of the founding namespace, 0 for the strongest.
        pending: the identifier of each claim that is not answered yet; each identifier keeps a place within the limits.
        absorbed: salts of merged profiles whose message ids this shard knows (``Person.salt``).
        turns: of identifiers that changed hands, by 64 bits of each, how often they had when they came here.
        stage: for which definitions it is kept (opportune.audiences.lineage).
        rowless: identifiers whose warehouse rows stay out: they are of somebody who was forgotten, until they go.
        strong: of the profile that the identifier of this id belongs to, where it is ELSEWHERE: identifiers that cannot change
            hands; some of them, and what it had when it asked.
        id: the profile id (memory only, as all below).
        row: the warehouse rows' used columns, by table number; None where there is no row.
        groups: feature groups by number: bytes as stored, None where nothing is stored, or opened.
        dirty: the numbers of the groups to store.
    """

    version: int = 0
    now: int = 0
    timer: int = 0
    due: int = NEVER
    dues: dict[int, int] = {}
    members: set[int] = set()
    identifiers: list[str] = []
    fate: int = 0
    into: bytes | None = None
    founder: bytes | None = None
    rank: int = 0
    pending: list[str] = []
    absorbed: list[int] = []
    turns: dict[int, int] = {}
    stage: int = 0
    rowless: list[str] = []
    strong: list[str] = []
    id: Any = None
    row: Any = None
    groups: Any = None
    dirty: Any = None


Change: TypeAlias = tuple[Profile, int, bool, int, Any]
"""Profile, audience number, entered, instant, and what did it: the event, None for time, or a cause's name; within an
``Approximate`` (opportune.audiences.approximations) where not all that counted is kept one by one."""


class Evaluate(Protocol):
    """Evaluates the audiences of one handler at an instant; returns the earliest instant at which one may change."""

    def __call__(self, profile: Profile, now: int, out: list[Change], by: Any, /) -> int:
        """``by`` is what did it, as in ``Change``."""
        ...


def advance(profile: Profile, until: int, out: list[Change], evaluate: Sequence[Evaluate]) -> None:
    """Fires, in order, everything that is due before an instant.

    Args:
        profile: its groups that the due handlers read must be there.
        until: milliseconds, exclusive.
        out: takes the changes.
        evaluate: the plan's evaluations by handler number.
    """
    while profile.due < until:
        fire(profile, profile.due, out, evaluate, None)


def fire(profile: Profile, now: int, out: list[Change], evaluate: Sequence[Evaluate], by: Any) -> None:
    """Evaluates at ``now`` what is due by then, and finds the new dues."""
    dues = profile.dues
    if len(dues) == 1:
        # Most people have done one kind of thing.
        ((handler, due),) = dues.items()
        if due <= now:
            due = evaluate[handler](profile, now, out, by)
            if due == NEVER:
                del dues[handler]
            else:
                dues[handler] = due
        profile.due = due
    else:
        for handler in [number for number, due in dues.items() if due <= now]:
            due = evaluate[handler](profile, now, out, by)
            if due == NEVER:
                del dues[handler]
            else:
                dues[handler] = due
        profile.due = min(dues.values(), default=NEVER)
    profile.now = max(profile.now, now)
