"""Who an event belongs to, for the reference: one event after the other, written from IDENTITY.md sections 1 to 3.

Owns: a sequential union-find with limits over the whole log. Identifiers are ``namespace:value`` texts.
Not here: which identifiers a message has (the caller says), memberships (tests.oracle.history).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from opportune.identity import profile_id


@dataclass
class Profile:
    """A profile: what founded it, which of its founder's it is, what it has, and the numbers of its events in order."""

    founder: str
    incarnation: int = 0
    identifiers: set[str] = field(default_factory=set)
    events: list[int] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Hexadecimal."""
        namespace, _, value = self.founder.partition(":")
        return profile_id(namespace, value, self.incarnation).hex()


class Resolver:
    """The sequential result.

    Args:
        limits: by namespace, strongest first.
        shared: the namespaces whose identifiers may change hands.
    """

    def __init__(self, limits: Mapping[str, int], shared: frozenset[str]) -> None:
        self.limits = limits
        self.shared = shared
        self.order = list(limits)
        self.whose: dict[str, Profile] = {}
        self.founded: list[Profile] = []
        self.forgotten: Counter[str] = Counter()
        self.conflicts = self.refused = self.merged = 0

    def take(self, number: int, identifiers: Sequence[str]) -> None:
        """An event with its identifiers, strongest first."""
        strongest, *weaker = identifiers
        profile = self.whose.get(strongest)
        if profile is None:
            profile = self.whose[strongest] = Profile(strongest, self.forgotten[strongest], {strongest})
            self.founded.append(profile)
        for text in weaker:
            other = self.whose.get(text)
            if other is None:
                if self.allows(profile.identifiers | {text}):
                    self.give(text, profile)
                else:
                    self.refused += 1
            elif other is not profile:
                profile = self.meet(profile, other, text)
        profile.events.append(number)

    def meet(self, profile: Profile, other: Profile, text: str) -> Profile:
        """The claimer meets who has an identifier; returns the claimer's profile afterwards."""
        if self.allows(profile.identifiers | other.identifiers):
            winner, loser = sorted((profile, other), key=lambda one: (self.rank(one.founder), bytes.fromhex(one.id)))
            for one in loser.identifiers:
                self.whose[one] = winner
            winner.identifiers |= loser.identifiers
            winner.events = sorted([*winner.events, *loser.events])
            loser.identifiers, loser.events = set(), []
            self.merged += 1
            return winner
        self.conflicts += 1
        if text.partition(":")[0] in self.shared and self.allows(profile.identifiers | {text}):
            other.identifiers.discard(text)
            self.give(text, profile)
        return profile

    def forget(self, text: str) -> None:
        """Whoever has an identifier is forgotten, with all identifiers and events."""
        profile = self.whose.get(text)
        if profile is not None:
            for one in profile.identifiers:
                del self.whose[one]
                self.forgotten[one] += 1
            profile.identifiers, profile.events = set(), []

    def give(self, text: str, profile: Profile) -> None:
        """An identifier belongs to a profile from here on."""
        self.whose[text] = profile
        profile.identifiers.add(text)

    def allows(self, identifiers: set[str]) -> bool:
        """Whether one profile may have all of these."""
        counts = Counter(text.partition(":")[0] for text in identifiers)
        return all(counts[namespace] <= limit for namespace, limit in self.limits.items())

    def rank(self, text: str) -> int:
        """The place of an identifier's namespace, 0 for the strongest."""
        return self.order.index(text.partition(":")[0])

    def profiles(self) -> list[Profile]:
        """Those that are no part of another one."""
        return [profile for profile in self.founded if profile.identifiers or profile.events]
