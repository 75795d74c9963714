"""What two profiles keep of a feature, as one that had received the events of both.

Owns: ``merge_group``: the merge of opened feature groups. Counts are merged here, every other kind of feature by itself
(opportune.features).
Invariant: the merge of the states of two logs is the state of the merged log, whichever of the two wins. Where one instant
has events in both, nobody knows which arrived first: the greater value counts as the later one.
Not here: when profiles merge (flows.identity), features as such (opportune.audiences.plan).
"""

from __future__ import annotations

from heapq import merge
from typing import Any

from opportune.audiences.plan import TRAITS, Feature, Plan


def merge_group(plan: Plan, group: int, winner: Any, loser: Any) -> Any:
    """The value of one group of the profile that remains.

    Args:
        plan: says what the group holds.
        group: its number.
        winner: the opened value of the winner: the traits as a dict, or a list with a value a feature.
        loser: that of the loser.

    Returns:
        A new value; neither argument is changed.
    """
    if group == TRAITS:
        return merge_traits(winner, loser)
    features = plan.groups[group].features.values()
    return [merge_feature(feature, winner[feature.number], loser[feature.number]) for feature in features]


def merge_feature(feature: Feature, one: Any, other: Any) -> Any:
    """The merge of the feature's kind; of counts the ``cap`` latest instants of both, or the sum up to ``cap``."""
    if feature.kind is not None:
        return feature.kind.merge(one, other)
    if not feature.windowed:
        return min(one + other, feature.cap)
    instants = list(merge(one, other))
    return instants[max(len(instants) - feature.cap, 0) :]


def merge_traits(winner: dict[str, Any], loser: dict[str, Any]) -> dict[str, Any]:
    """For each name the value of the later event, then of the later arrival where that is kept.

    A trait is ``(event time, value, ...)``; of equal ones in both the greater text of the value holds, so that it does not
    matter who wins.
    """
    merged = dict(winner)
    for name, theirs in loser.items():
        ours = merged.get(name)
        if ours is None or _age(theirs) > _age(ours):
            merged[name] = theirs
    return merged


def _age(trait: Any) -> tuple[Any, ...]:
    return trait[0], *trait[2:], repr(trait[1])
