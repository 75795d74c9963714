"""What the job would do with a state directory and these definitions.

Owns: asking each shard's directory the questions that the job asks at its start, without changing anything, also while a
job runs on it.
Not here: the questions (state.shard_identity).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from opportune.errors import OpportuneError

if TYPE_CHECKING:
    from opportune.project import Project


class StateReport(msgspec.Struct):
    """What was found.

    Args:
        directory: that was looked at.
        starts: whether the job would start on it.
        new: whether there is no state yet, so that the job would begin at the start of its topics.
        refusals: why it would not, each once, with the shards.
    """

    directory: str
    starts: bool
    new: bool
    refusals: dict[str, list[int]]

    def text(self) -> str:
        """The report for people."""
        if self.new:
            return f"{self.directory}: no state yet; the job would begin at the start of its topics"
        if self.starts:
            return f"{self.directory}: kept for these definitions; the job would go on with it"
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
    from flows.worker import routing
    from opportune.audiences.plan import Plan
    from state.rocks import frozen
    from state.shard_identity import Expected, Identity, open_shard

    shards = project.settings.state.shards
    there = sorted(path for path in (directory / "shards").glob("*") if (path / "CURRENT").exists())
    found = StateReport(str(directory), True, not there, {})
    plan = Plan(project).fingerprint.encode()
    for path in there:
        number = int(path.name) if path.name.isdecimal() else -1
        try:
            store = frozen(path)
            try:
                identity = Identity(project=project.name, shard=number, shards=shards)
                open_shard(store, Expected(identity, plan, routing().encode()))
            finally:
                store.close()
        except OpportuneError as error:
            found.starts = False
            found.refusals.setdefault(str(error), []).append(number)
    return found
