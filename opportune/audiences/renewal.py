"""A profile's way from the definitions it is kept for to those of today.

Owns: ``Renewal``, the map from one stage's layout to the present plan, and what happens to a profile on it: its features are
moved to where they lie now, what is gone is left, and its audiences are evaluated, so that what the change of the definitions
does to it has the cause ``definition``.
Invariant: an audience whose meaning and features are unchanged changes at the instants, and for the causes, that it would
have had without; every other one changes at most once, at the instant of the change. Doing it later gives the same.
Not here: layouts (opportune.audiences.lineage), reading and writing profiles (flows.succession, state.people).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opportune.audiences.lineage import Kept, Layout
from opportune.audiences.plan import TRAITS, Feature, Plan
from opportune.profile import FROZEN, MOVED, NEVER, Change, Evaluate, Profile, advance

CAUSE = "definition"
Place = tuple[int, int]


class Renewal:
    """The way from a stage to the present one.

    Args:
        old: the layout that profiles are kept for.
        new: the present one.
        plan: the present plan.
        gone: the names of audiences that are no more; they are numbered after the plan's.

    Attributes:
        moved: whether groups or their features lie elsewhere now, or keep less; else they are left alone.
        numbers: of each audience of ``old``, its number now.
    """

    def __init__(self, old: Layout, new: Layout, plan: Plan, gone: Sequence[str]) -> None:
        self.plan = plan
        self.old = old
        self.old_groups = range(len(old.groups))
        places = {
            (kept.key, kept.born): (group, place)
            for group, features in enumerate(old.groups)
            for place, kept in enumerate(features)
        }
        self.sources: list[list[Place | None]] = [
            [places.get((kept.key, kept.born)) for kept in features] for features in new.groups
        ]
        self.moved = [[_bare(kept) for kept in group] for group in old.groups] != [
            [_bare(kept) for kept in group] for group in new.groups
        ]
        self.traits = {
            name for name, source in zip(plan.traits, self.sources[TRAITS], strict=True) if source is not None
        }
        numbers = {name: number for number, (name, _, _) in enumerate(new.audiences)}
        numbers |= {name: len(new.audiences) + place for place, name in enumerate(gone)}
        self.numbers = [numbers[name] for name, _, _ in old.audiences]
        self.kept_audiences = self.numbers == list(range(len(new.audiences)))
        before = {name: whole for name, _, whole in old.audiences}
        self.same = {
            number: old.waiting.get(name, 0)
            for number, (name, _, whole) in enumerate(new.audiences)
            if before.get(name) == whole
        }

    def groups(self, opened: Callable[[int], Any]) -> list[Any]:
        """The groups of the present plan.

        Args:
            opened: gives an old group, opened: the traits as a dict, else a list with a value a feature; None where there
                is none.

        Returns:
            By number; None where nothing is kept.
        """
        traits = {name: trait for name, trait in (opened(TRAITS) or {}).items() if name in self.traits}
        groups: list[Any] = [traits or None]
        for group, sources in zip(self.plan.groups[TRAITS + 1 :], self.sources[TRAITS + 1 :], strict=True):
            cells = [_fresh(feature) for feature in group.features.values()]
            for place, (feature, source) in enumerate(zip(group.features.values(), sources, strict=True)):
                old = None if source is None else opened(source[0])
                if old is not None and source is not None:
                    cells[place] = trimmed(feature, old[source[1]])
            groups.append(cells if any(cells) else None)
        return groups

    def evaluate(self, profile: Profile, at_ms: int, evaluate: Sequence[Evaluate], out: list[Change]) -> None:
        """Brings the audiences of a profile, whose groups are those of the present plan, to an instant.

        Args:
            profile: its members have the numbers of today.
            at_ms: when the definitions changed; not before the profile's last instant.
            evaluate: the plan's, by handler number.
            out: takes the changes.
        """
        audiences = len(self.plan.audiences)
        before = {number for number in profile.members if number < audiences}
        lost = sorted(profile.members - before)
        profile.members = set(before)
        start_ms = profile.now
        same = {number for number, until_ms in self.same.items() if until_ms <= start_ms}
        profile.dues = {}
        profile.due = NEVER
        changes: list[Change] = []
        if profile.fate & FROZEN:
            # It has handed its state on: what it is in is told when it goes on, or leaves.
            profile.dues = dict.fromkeys(range(len(evaluate)), at_ms)
        else:
            told: list[Change] = []
            profile.dues = dict.fromkeys(range(len(evaluate)), start_ms)
            profile.due = start_ms
            advance(profile, at_ms + 1, told, evaluate)
            changes += [change for change in told if change[1] in same]
            differ = sorted((before ^ profile.members) - same)
            changes += [(profile, number, number in profile.members, at_ms, CAUSE) for number in differ]
        changes += [(profile, number, False, at_ms, CAUSE) for number in lost]
        profile.now = max([profile.now, *(change[3] for change in changes)])
        out += changes


def renumbered(profile: Profile, renewal: Renewal) -> None:
    """Gives a profile's memberships the numbers of today."""
    profile.members = {renewal.numbers[number] for number in profile.members}


def has_state(profile: Profile) -> bool:
    """Whether there is a person here, and not only a pointer to one."""
    return bool(profile.now) and not profile.fate & MOVED


def trimmed(feature: Feature, cell: Any) -> Any:
    """What a feature keeps of what it has kept: a count no more than it has to tell apart."""
    if feature.kind is not None:
        return cell
    if not feature.windowed:
        return min(cell, feature.cap)
    return cell[max(len(cell) - feature.cap, 0) :] if feature.cap else []


def _fresh(feature: Feature) -> Any:
    return [] if feature.windowed else 0


def _bare(kept: Kept) -> tuple[str, int, int]:
    """A feature without since when."""
    return kept.key, kept.born, kept.since[-1][0]


def renewals(layouts: Sequence[Layout], plan: Plan, gone: Mapping[str, str] | Sequence[str]) -> dict[int, Renewal]:
    """The way from each earlier stage to the last one, by stage."""
    return {old.stage: Renewal(old, layouts[-1], plan, list(gone)) for old in layouts[:-1]}
