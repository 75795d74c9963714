"""What is kept of a feature, as a name for it: in the lineage of a state, and in the mail between shards.

Owns: ``keep_of`` and fingerprints. Two features of one name hold the same in their cells, whatever conditions ask of them: the
number that a count is compared with, its window where the newest instants are kept whatever their age, the time that
something has to be absent for, and the zone of a calendar window are not in it.
Invariant: a change of what a cell holds changes the name.
Not here: which features there are (opportune.audiences.plan), how much a count keeps (``Feature.cap``).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from opportune.audiences.schema import AbsentCondition, AggregateValue, NearCondition, SequenceCondition
from opportune.audiences.sources import SESSION
from opportune.settings import Settings

if TYPE_CHECKING:
    from opportune.audiences.plan import Group


def fingerprint(value: object) -> str:
    """16 hexadecimal digits that change with any part of a value."""
    return blake2b(repr(value).encode(), digest_size=8).hexdigest()


def keeps_of(groups: Sequence[Group], settings: Settings) -> list[list[str]]:
    """The names of all features, by group and place."""
    return [[keep_of(group, key, settings) for key in group.features] for group in groups]


def keep_of(group: Group, key: object, settings: Settings) -> str:
    """Names a feature by what is kept of it.

    Args:
        group: that it lies in.
        key: its key in the group.
        settings: of the project: how late an event may be, and what ends a session.
    """
    late = (settings.clock.lateness_ms, settings.session_gap_ms)
    if key == SESSION:
        return fingerprint((SESSION, *late))
    where = group.features[key].where
    if isinstance(key, NearCondition):
        return fingerprint(("near", group.kind, where, key.lat, key.lon, key.radius_m, key.leave_m))
    if not isinstance(key, SequenceCondition | AbsentCondition | AggregateValue):
        return fingerprint(("times", group.kind, where, group.features[key].windowed))
    window = (key.window.kind, key.window.ms, *(late if key.window.kind == SESSION else ()))
    if isinstance(key, AggregateValue):
        return fingerprint((key.function, group.kind, where, key.path, key.instants, window))
    roles = [(role.kind, role.where, role.by) for role in group.roles]
    if isinstance(key, AbsentCondition):
        return fingerprint(("absent", roles, key.absent.by_instants, key.after.by_instants, window))
    pace = (key.span_ms, key.gap_ms) if key.window.kind == "ever" else ()
    return fingerprint(("sequence", roles, [step.by_instants for step in key.steps], window, pace))
