"""People read while warehouse tables are being put in force: everybody as the job makes them when it comes to them.

Owns: ``Passing``, the way of one stored profile over the instant of a decision. Nothing that is stored says who was switched
already, and nothing has to: who was is as the rows after the decision make them, and switching again changes nothing.
Invariant: an answer is of the rows before up to the decision's instant and of those after it from there on, never of a mix.
Not here: the job's switching (flows.refresh), what happens at it (opportune.attributes), the rest of a person (state.people).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opportune.attributes import switch
from opportune.compiled import Compiled
from opportune.profile import FROZEN, MOVED, Change, Profile
from state.warehouse import WarehouseTable, rows_of


class Passing:
    """From the tables before a decision to those after it.

    Args:
        compiled: the project.
        at_ms: when the decision holds from, log time.
        before: the tables before it, by name.
        after: those after it.
    """

    def __init__(
        self,
        compiled: Compiled,
        at_ms: int,
        before: Mapping[str, WarehouseTable],
        after: Mapping[str, WarehouseTable],
    ) -> None:
        self.at_ms = at_ms
        self._program = compiled.program
        self._ranks = compiled.project.identity.ranks()
        self._rows_before = [before[name] for name in sorted(compiled.plan.columns)]
        self._pairs = [(before[name], after[name]) for name in sorted(after)]

    def bring(self, profile: Profile, out: list[Change]) -> None:
        """Brings somebody over the decision's instant, where it concerns them.

        Args:
            profile: with its id, its groups and the row after the decision.
            out: takes the changes.
        """
        (old,) = rows_of(self._rows_before, [profile])
        if old == profile.row or profile.fate & (FROZEN | MOVED):
            return
        new, profile.row = profile.row, old
        now, evaluate = max(self.at_ms, profile.now), self._program.evaluate
        switch(profile, new, now, out, evaluate=evaluate, by=None, touch=_nothing)
        # Also where nothing has changed: the row that is told is that of now on.
        profile.now = now

    def find(self, profile: Profile, out: list[Change]) -> bool:
        """Makes the profile of a row that the decision brings.

        Args:
            profile: nobody yet; with its id, its groups and the row after the decision.
            out: takes the changes.

        Returns:
            Whether there is somebody from the decision on.
        """
        name = self._name(profile.id)
        if name is None or profile.fate:
            return False
        profile.identifiers = [name]
        profile.rank = self._ranks.get(name.partition(":")[0], 0)
        profile.now = self.at_ms
        self._program.found(profile, self.at_ms, out, None)
        return True

    def _name(self, profile_id: bytes) -> str | None:
        """The identifier of an id with another row than before."""
        differs, name = False, None
        ids: Sequence[Any] = [profile_id]
        for before, after in self._pairs:
            (row,) = after.lookup(ids)
            differs = differs or row != before.lookup(ids)[0]
            if row is not None:
                places, found = after.index.find(ids)
                place = places if found is None else places[found]
                (key,) = after.keys_at(place)
                name = f"{after.namespace}:{key}"
        return name if differs else None


def _nothing(_: Profile) -> None:
    """Nothing is written."""
