"""What time alone will do to a person: when the memberships that they have will end.

Owns: firing what is due in the order in which it is due, over a profile that was read to be looked at, until the wanted
memberships have ended, never will, or so many instants have been looked at.
Invariant: the instant is the one at which the job will say ``exited`` with cause ``time`` if nothing happens before; dues are
lower bounds, so what is fired between changes nothing. The profile is of no use afterwards.
Not here: what is true now (state.people), evaluation (opportune.audiences.compiler).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from opportune.audiences.plan import Plan
from opportune.profile import NEVER, Change, Evaluate, Profile

INSTANTS_MAX = 1_000
"""What takes more instants to end is answered without an end: an hour of every day, over and over, in years."""


class Outlook:
    """Looks ahead.

    Args:
        plan: of the project.
        evaluate: the plan's evaluations by handler number.
    """

    def __init__(self, plan: Plan, evaluate: Sequence[Evaluate]) -> None:
        self._evaluate = evaluate
        self._handlers: dict[int, set[int]] = {number: set() for number in range(len(plan.audiences))}
        for handler in plan.handlers:
            for audience in handler.audiences:
                self._handlers[audience].add(handler.number)

    def ends(self, profile: Profile, audiences: Iterable[int]) -> dict[int, int]:
        """When memberships end by time alone.

        Args:
            profile: as of now; used up.
            audiences: numbers of audiences that the person is in.

        Returns:
            Milliseconds by number; without those that will not end.
        """
        ends: dict[int, int] = {}
        pending = set(audiences)
        dues, changes = profile.dues, list[Change]()
        for _ in range(INSTANTS_MAX):
            if len(pending) == 1:
                (only,) = pending
                touching = self._handlers[only]
            else:
                touching = set().union(*(self._handlers[number] for number in pending))
            now = min((due for handler, due in dues.items() if handler in touching), default=NEVER)
            if now == NEVER:
                break
            for handler in [each for each in touching if dues.get(each, NEVER) <= now]:
                dues[handler] = self._evaluate[handler](profile, now, changes, None)
            profile.now = max(profile.now, now)
            for number in pending - profile.members:
                ends[number] = now
            pending &= profile.members
        return ends
