"""Which audiences depend on more than is kept of a person as it is.

Owns: ``Approximations``: for each audience the features whose values can be beyond their exact bound, asked one person at a time.
Not here: what a feature keeps beyond its bound, and its error (opportune.features), the words for it (.plan_report).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opportune.audiences.plan import Plan
from opportune.audiences.schema import EventCondition


class Approximate:
    """What did a change in which a feature beyond its exact bound took part; ``by`` as in ``opportune.profile.Change``."""

    __slots__ = ("by",)

    def __init__(self, by: Any) -> None:
        self.by = by


class Approximations:
    """The audiences of a plan.

    Args:
        plan: the plan.

    Attributes:
        groups: the numbers of the groups that have a feature with a bound.
    """

    def __init__(self, plan: Plan) -> None:
        self._features = [_bounded(plan, number) for number in range(len(plan.audiences))]
        self.groups = sorted({group for features in self._features for group, _, _ in features})

    def bounded(self, audience: int) -> bool:
        """Whether a feature with a bound takes part in an audience, by its number."""
        return bool(self._features[audience])

    def marked(self, audience: int, groups: Mapping[int, Any], by: Any) -> Any:
        """What did a change of an audience, as an ``Approximate`` where that is so; arguments as of ``of``."""
        return Approximate(by) if self.of(audience, groups) else by

    def of(self, audience: int, groups: Mapping[int, Any]) -> bool:
        """Whether a feature beyond its exact bound takes part in an audience.

        Args:
            audience: its number.
            groups: the person's feature groups by number; those that are not opened took no part in what was evaluated.
        """
        for group, number, approximate in self._features[audience]:
            features = groups.get(group)
            if features.__class__ is list and approximate(features[number]):
                return True
        return False


def _bounded(plan: Plan, audience: int) -> list[tuple[int, int, Callable[[list[Any]], bool]]]:
    """Group and number of the features of an audience that have a bound, and the question for it."""
    found = {}
    for leaf in plan.leaves(audience):
        for source in plan.sources.of(leaf):
            if isinstance(source, EventCondition) or plan.place(source) is None:
                continue
            group, feature = plan.feature(source)
            approximate = getattr(feature.kind, "approximate", None)
            if approximate is not None:
                found[group.number, feature.number] = approximate
    return [(group, number, approximate) for (group, number), approximate in sorted(found.items())]
