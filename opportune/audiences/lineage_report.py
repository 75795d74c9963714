"""What a change of the definitions would do to a state, in words and for machines.

Owns: ``changes``: for each audience whether it is kept, evaluated anew, waits or goes; from the same layouts that the job's
start makes. Not here: the layouts (opportune.audiences.lineage), reading states (opportune.cli.check_state).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from opportune.audiences.lineage import Layout
from opportune.event import iso_text
from opportune.profile import NEVER

Fate = Literal["kept", "evaluated", "warming", "removed"]
SAYS: dict[Fate, str] = {
    "kept": "goes on unchanged",
    "evaluated": "is evaluated for everybody: who qualifies enters, who does not exits (cause: definition)",
    "warming": "waits, and answers `warming`",
    "removed": "is gone: its members exit (cause: definition)",
}


class AudienceChange(msgspec.Struct, omit_defaults=True):
    """What becomes of an audience.

    Args:
        audience: its name.
        fate: see ``SAYS``.
        until: of one that waits: the instant at which it has seen enough, ISO 8601; None: no time completes it.
        new: whether it was not there before.
    """

    audience: str
    fate: Fate
    until: str | None = None
    new: bool = False

    def text(self) -> str:
        """For people, behind the name."""
        says = SAYS[self.fate]
        if self.fate == "warming" and self.until is not None:
            says += f" until {self.until}, when everybody is evaluated"
        elif self.fate == "warming":
            says += " for good: it looks at all of the past, or at a trait, that was not kept. `start: empty` counts from now"
        return f"{'new, ' if self.new else ''}{says}"


def changes(before: Layout, after: Layout) -> list[AudienceChange]:
    """What becomes of each audience, in order of name.

    Args:
        before: the layout that a state is kept for.
        after: the one that follows from it (``lineage.follow``), or the same.
    """
    old = {name: whole for name, _, whole in before.audiences}
    found = [AudienceChange(name, "removed") for name in old if name not in {each[0] for each in after.audiences}]
    for name, _, whole in after.audiences:
        until_ms = after.waiting.get(name)
        if until_ms is not None:
            until = iso_text(until_ms) if until_ms < NEVER else None
            found.append(AudienceChange(name, "warming", until, new=name not in old))
        else:
            same = old.get(name) == whole and name not in before.waiting
            found.append(AudienceChange(name, "kept" if same else "evaluated", new=name not in old))
    return sorted(found, key=lambda one: one.audience)


def lost_features(before: Layout, after: Layout) -> tuple[int, int, int]:
    """How many features are kept, begin, and go."""
    old = {(kept.key, kept.born) for group in before.groups for kept in group}
    new = {(kept.key, kept.born) for group in after.groups for kept in group}
    return len(old & new), len(new - old), len(old - new)
