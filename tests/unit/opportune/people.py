"""One person in memory: the generated code without shards, stores and Kafka.

Owns: ``Someone``, who takes messages one by one as an actor does it for one profile. Not here: batches (flows.actor).
"""

from __future__ import annotations

from typing import Any

from opportune.compiled import Compiled
from opportune.profile import Change, Profile, advance, fire


class Someone:
    """A profile with all its groups at hand.

    Args:
        compiled: the project.
        row: the warehouse rows, as the desk joins them.
    """

    def __init__(self, compiled: Compiled, row: Any = None) -> None:
        self.compiled = compiled
        self.profile = Profile()
        self.profile.id = b"someone's id here"[:16]
        self.profile.row = row
        self.profile.groups = {group.number: None for group in compiled.plan.groups}
        self.profile.dirty = set()
        self.changes: list[Change] = []

    def take(self, raw: bytes, at_ms: int, now_ms: int) -> bool:
        """Applies a message that counts at ``at_ms``; says whether it was used."""
        profile, out, evaluate = self.profile, self.changes, self.compiled.program.evaluate
        refused: list[Any] = []
        (event,) = self.compiled.event_type.decode_all([raw], refused, 1 << 20)
        assert not refused
        advance(profile, now_ms, out, evaluate)
        if not profile.now:
            self.compiled.program.found(profile, now_ms, out, event)
        profile.now = now_ms
        action = self.compiled.action(event)
        used = action is not None and action.fold(profile, event, at_ms, now_ms, out)
        if profile.due <= now_ms:
            fire(profile, now_ms, out, evaluate, event)
        return used

    def wait(self, until_ms: int) -> None:
        """Time goes on to an instant, exclusive."""
        advance(self.profile, until_ms, self.changes, self.compiled.program.evaluate)

    def members(self) -> frozenset[str]:
        """The names of the audiences that the person is in."""
        return frozenset(self.compiled.names[number] for number in self.profile.members)
