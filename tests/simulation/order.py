"""What the shards of a world really saw, one thing after the other, and what follows from it by IDENTITY.md.

Owns: ``Order``: it is told of each event when its shard applies it and of each letter when it is decided on, and keeps the
sets of identifiers that follow. Where a limit forces a choice it checks that the choice was allowed at that moment: nothing
merges beyond a limit, nothing is in conflict that could have merged, nothing changes hands that may not.
Not here: the sequence that would be without shards (tests.oracle.identity), memberships (tests.oracle.history).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any

from opportune.identity import digest_of
from tests.oracle.identity import Resolver


class Order:
    """The identities of a world.

    Args:
        limits: by namespace, strongest first.
        shared: the namespaces whose identifiers may change hands.
        texts: all identifiers that can come.
    """

    def __init__(self, limits: Mapping[str, int], shared: frozenset[str], texts: Iterable[str]) -> None:
        self.limits = Resolver(limits, shared)
        self.founders: dict[bytes, str] = {digest_of(text): text for text in texts}
        self.whose: dict[str, bytes] = {}
        self.into: dict[bytes, bytes] = {}
        self.has: dict[bytes, set[str]] = {}
        self.claimed: dict[bytes, set[str]] = {}
        self.had: dict[bytes, set[str]] = {}
        self.events: dict[bytes, list[int]] = {}
        self.applied: set[int] = set()
        self.turns: dict[str, int] = {}
        self.opposed: set[tuple[bytes, str]] = set()

    def copy(self) -> Order:
        """As it is now; what comes later changes one of the two."""
        made = copy(self)
        made.whose, made.into, made.applied, made.turns, made.opposed = (
            self.whose.copy(), self.into.copy(), self.applied.copy(), self.turns.copy(), self.opposed.copy()
        )  # fmt: skip
        made.has, made.claimed, made.had = (
            {profile: texts.copy() for profile, texts in kept.items()} for kept in (self.has, self.claimed, self.had)
        )
        made.events = {profile: numbers.copy() for profile, numbers in self.events.items()}
        return made

    def event(self, number: int, texts: Sequence[str]) -> None:
        """A shard applies an event, or sends it on; again, after a crash, one that had changed nothing."""
        if number in self.applied:
            return
        self.applied.add(number)
        strongest = texts[0]
        if strongest not in self.whose:
            self._belongs(strongest, digest_of(strongest))
        self.events.setdefault(self.whose[strongest], []).append(number)

    def letter(self, letter: Any) -> None:
        """A shard has decided something, and says it."""
        decide = getattr(self, f"_{type(letter).__name__.lower()}", None)
        if decide is not None:
            decide(letter)

    def owner(self, text: str) -> bytes:
        """The profile of an identifier."""
        return self.now(self.whose[text])

    def now(self, profile: bytes) -> bytes:
        """What a profile has become part of."""
        while profile in self.into:
            profile = self.into[profile]
        return profile

    def profiles(self) -> dict[bytes, tuple[set[str], list[int]]]:
        """The profiles that are no part of another one: their identifiers, and the numbers of their events."""
        events: dict[bytes, list[int]] = {}
        for profile, numbers in self.events.items():
            events.setdefault(self.now(profile), []).extend(numbers)
        return {profile: (texts, sorted(events.get(profile, []))) for profile, texts in self.has.items()}

    def _belongs(self, text: str, profile: bytes) -> None:
        self.whose[text] = profile
        self.has.setdefault(profile, set()).add(text)

    def _claim(self, letter: Any) -> None:
        self._suit(letter.suit)
        if letter.take:
            self.opposed.add((letter.suit.claimer, letter.suit.text))

    def _suit(self, suit: Any) -> None:
        self.claimed.setdefault(self.now(suit.claimer), set()).add(suit.text)

    def _granted(self, letter: Any) -> None:
        text, claimer = letter.text, self.now(letter.to)
        if letter.turn < self.turns.get(text, 0):
            # Sent on to who its claimer has become part of, after the identifier has changed hands.
            return
        self.turns[text] = letter.turn
        if text not in self.whose:
            assert self.limits.allows(self.has[claimer] | {text}), "attached beyond a limit"
            self._belongs(text, claimer)
            return
        owner = self.owner(text)
        if owner == claimer:
            return
        assert text.partition(":")[0] in self.limits.shared, "what is not shared has changed hands"
        assert (letter.to, text) in self.opposed or self._excluded(owner, claimer), "changed hands without a conflict"
        assert self.limits.allows(self.has[claimer] | {text}), "taken beyond a limit"
        self.has[owner].discard(text)
        self.had.setdefault(owner, set()).add(text)
        self._belongs(text, claimer)

    def _accept(self, letter: Any) -> None:
        loser, winner = self.now(letter.to), self.now(letter.winner)
        assert loser != winner, "merged with itself"
        assert self.limits.allows(self.has[loser] | self.has[winner]), "merged beyond a limit"
        assert self._strength(winner) < self._strength(loser), "the stronger lost"
        for text in self.has[loser]:
            self.whose[text] = winner
        self.has[winner] |= self.has.pop(loser)
        self.claimed.setdefault(winner, set()).update(self.claimed.pop(loser, set()))
        self.had.setdefault(winner, set()).update(self.had.pop(loser, set()))
        self.into[loser] = winner

    def _refuse(self, letter: Any) -> None:
        assert self._excluded(self.now(letter.to), self.now(letter.other)), "refused within the limits"

    def _conflict(self, letter: Any) -> None:
        suit = letter.suit
        claimer, others = self.now(suit.claimer), {self.owner(suit.text)}
        if suit.seen:
            others.add(self.now(suit.seen))
        assert claimer in others or any(self._excluded(claimer, other) for other in others), "opposed within the limits"

    def _excluded(self, one: bytes, other: bytes) -> bool:
        """Whether two may not merge, as far as they can know: with what they have claimed, which may not be answered yet, and
        with what has changed hands, of which they may not have heard."""
        texts = self.has[one] | self.has[other]
        for more in (self.claimed, self.had):
            texts |= more.get(one, set()) | more.get(other, set())
        return not self.limits.allows(texts)

    def _strength(self, profile: bytes) -> tuple[int, bytes]:
        return self.limits.rank(self.founders[profile]), profile
