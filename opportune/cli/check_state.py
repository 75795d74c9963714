"""What the job would do with a state directory and these definitions.

Owns: asking each shard's directory the questions that the job asks at its start, and what changed definitions would mean for
it, without changing anything, also while a job runs on it.
Not here: the questions (state.shard_identity), what changes mean (opportune.audiences.lineage_report).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from opportune.audiences.lineage_report import AudienceChange, changes, lost_features
from opportune.errors import OpportuneError

if TYPE_CHECKING:
    from opportune.audiences.plan import Plan
    from opportune.project import Project
    from state.store import Store


class StateReport(msgspec.Struct):
    """What was found.

    Args:
        directory: that was looked at.
        starts: whether the job would start on it.
        new: whether there is no state yet, so that the job would begin at the start of its topics.
        refusals: why it would not, each once, with the shards.
        changed: whether the state is kept for other definitions.
        audiences: what becomes of each audience, where the job would start.
        features: how many features are kept, begin, and go.
    """

    directory: str
    starts: bool
    new: bool
    refusals: dict[str, list[int]]
    changed: bool = False
    audiences: list[AudienceChange] = []
    features: tuple[int, int, int] = (0, 0, 0)

    def text(self) -> str:
        """The report for people."""
        if self.new:
            return f"{self.directory}: no state yet; the job would begin at the start of its topics"
        if self.starts and not self.changed:
            told = [one for one in self.audiences if one.fate == "warming"]
            return "\n".join(
                [
                    f"{self.directory}: kept for these definitions; the job would go on with it",
                    *(f"  {one.audience}  {one.text()}" for one in told),
                ]
            )
        if self.starts:
            kept, begin, go = self.features
            width = max((len(one.audience) for one in self.audiences), default=0)
            return "\n".join(
                [
                    f"{self.directory}: kept for other definitions; the job would go on with it:",
                    f"  features: {kept} kept, {begin} new, {go} dropped",
                    *(f"  {one.audience:<{width}}  {one.text()}" for one in self.audiences),
                ]
            )
        lines = [f"{self.directory}: the job would not start on it"]
        for reason, shards in self.refusals.items():
            which = "shard" if len(shards) == 1 else "shards"
            lines.append(f"  {which} {', '.join(map(str, shards))}: {reason}")
        return "\n".join(lines)


def against(project: Project, directory: Path) -> StateReport:
    """Looks at a state directory.

    Args:
        project: a valid project.
        directory: as ``state.directory`` names it.
    """
    from flows.routing import expected
    from opportune.audiences.plan import Plan
    from state.rocks import frozen
    from state.shard_identity import open_shard

    there = sorted(path for path in (directory / "shards").glob("*") if (path / "CURRENT").exists())
    found = StateReport(str(directory), True, not there, {})
    plan = Plan(project)
    stores: list[Store] = []
    try:
        for path in there:
            number = int(path.name) if path.name.isdecimal() else -1
            try:
                store = frozen(path)
                stores.append(store)
                open_shard(store, expected(project, plan, number))
            except OpportuneError as error:
                found.starts = False
                found.refusals.setdefault(str(error), []).append(number)
        if found.starts and there:
            _foretell(found, stores, plan)
    finally:
        for opened in stores:
            opened.close()
    return found


def _foretell(found: StateReport, stores: list[Store], plan: Plan) -> None:
    """What the start would make of the stages of the states."""
    from flows.succession import newest_lineage, next_layout

    newest = newest_lineage(stores)
    if newest is None:
        return
    after = next_layout(stores, newest, plan)
    found.changed = after is not newest.present
    found.audiences = changes(newest.present, after)
    found.features = lost_features(newest.present, after)
