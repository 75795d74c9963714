"""For which definitions a state was kept: what it has of each feature, since when, under which number.

Owns: ``Lineage``, the value ``lineage`` of the meta family (JSON), and how the layout of a new plan follows from the one
before. A state goes through stages, one for each change of the definitions; a profile says which stage it is kept for.
A feature is known by what is kept of it (opportune.audiences.keeps): not by who uses it, nor by the numbers that its conditions compare.
Invariant: of two layouts a feature is the same where key and ``born`` are: it was there all the time in between, for a
gap in what it has seen would be a number that is wrong. A count that has to tell more events apart than before is the same
feature, and ``since`` says from when on it does.
Not here: a profile's way from one layout to another (opportune.audiences.renewal), when (flows.succession).
"""

from __future__ import annotations

import msgspec

from opportune.audiences.keeps import fingerprint
from opportune.audiences.plan import TRAITS, Plan
from opportune.audiences.schema import AudienceCondition, Condition, EventCondition, TraitValue
from opportune.audiences.sources import PROFILE, SESSION, Source
from opportune.audiences.steps import steps
from opportune.audiences.warming import covered, covered_ms

TRAIT = "trait"


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """What a state has of a feature.

    Args:
        key: of what is kept.
        born: the stage in which it began.
        since: ``(up to how many events, since when)``, rising: a count of up to so many is whole since then, milliseconds of
            log time, 0 for always. Of other features and of traits the number is 0.
    """

    key: str
    born: int
    since: list[tuple[int, int]]

    def whole(self, cap: int) -> int:
        """Since when a count up to ``cap`` is whole."""
        return next(since for up_to, since in self.since if up_to >= cap)


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """One stage.

    Args:
        stage: its number.
        plan: fingerprint of the definitions.
        groups: the features by group and place; group 0 holds the traits, by name.
        audiences: name, fingerprint of the definition, fingerprint of all that it depends on; an audience's number is its
            place.
        waiting: by name, until when the audiences wait that had something to wait for when the stage began.
    """

    stage: int
    plan: str
    groups: list[list[Kept]]
    audiences: list[tuple[str, str, str]]
    waiting: dict[str, int] = {}


class Lineage(msgspec.Struct, kw_only=True):
    """What a shard knows of its stages.

    Args:
        layouts: those that some profile may still be kept for, and the present one last.
        at: the shard's time when the present one began: its changes are of then, for those who are not further on.
        done: whether every profile is kept for the present one.
        former: names of audiences of stages that nobody is kept for any more: the memberships topic may still have their keys.
    """

    layouts: list[Layout]
    at: int = 0
    done: bool = True
    former: list[str] = []

    @property
    def present(self) -> Layout:
        """The stage of today."""
        return self.layouts[-1]

    def gone(self) -> dict[str, str]:
        """Audiences that some profile may be in and that are no more: the last definition by name."""
        there = {name for name, _, _ in self.present.audiences}
        return {name: made for one in self.layouts for name, made, _ in one.audiences if name not in there}

    def ended(self) -> Lineage:
        """What stays of it once every profile is kept for the present stage."""
        return Lineage(layouts=[self.present], at=self.at, former=sorted({*self.former, *self.gone()}))


def encode_lineage(lineage: Lineage) -> bytes:
    """The value for the meta family."""
    return msgspec.json.encode(lineage)


def decode_lineage(value: bytes) -> Lineage:
    """Reads it. Raises ``msgspec.DecodeError`` on other bytes."""
    return msgspec.json.decode(value, type=Lineage)


def follow(plan: Plan, before: Layout | None, latest_ms: int, time_ms: int) -> Layout:
    """The layout of a plan over a state that was kept for another one.

    Args:
        plan: of the new definitions.
        before: the layout before; None: there is no state, everything is seen from the beginning.
        latest_ms: no event of a later arrival was applied yet: what is new is whole from here on.
        time_ms: log time, before which nothing is applied any more.
    """
    stage = 0 if before is None else before.stage + 1
    new_ms = 0 if before is None else latest_ms
    known = {} if before is None else {kept.key: kept for group in before.groups for kept in group}

    def kept(key: str, cap: int = 0) -> Kept:
        old = known.get(key)
        if old is None:
            return Kept(key, stage, [(cap, new_ms)])
        less = [(up_to, since) for up_to, since in old.since if up_to < cap]
        more = [since for up_to, since in old.since if up_to >= cap]
        return Kept(key, old.born, [*less, (cap, more[0] if more else new_ms)])

    groups = [[kept(f"{TRAIT}:{name}") for name in plan.traits]]
    for group, keeps in list(zip(plan.groups, plan.keeps, strict=True))[TRAITS + 1 :]:
        groups.append([kept(keep, each.cap) for keep, each in zip(keeps, group.features.values(), strict=True)])
    whole = deep_definitions(plan)
    names = [audience.name for audience in plan.audiences]
    until = covered(plan, lambda source: _since(plan, groups, source))
    waiting = {names[number]: until_ms for number, until_ms in until.items() if until_ms > time_ms}
    return Layout(
        stage=stage,
        plan=plan.fingerprint,
        groups=groups,
        audiences=list(zip(names, plan.definitions, whole, strict=True)),
        waiting=waiting,
    )


def _since(plan: Plan, groups: list[list[Kept]], source: Source) -> int:
    """From when a source is observed, 0 for always."""
    if isinstance(source, TraitValue):
        return groups[TRAITS][plan.traits.index(source.keys[0])].whole(0)
    place = plan.place(source)
    if place is None:
        return 0
    return groups[place[0]][place[1]].whole(steps(source.times).cap if isinstance(source, EventCondition) else 0)


def unseen(plan: Plan, layout: Layout, condition: Condition, now_ms: int) -> int | None:
    """From when on a condition without parts has been observed, where that is not enough yet; else None.

    Args:
        plan: of the present definitions.
        layout: of the present stage.
        condition: one of the plan's.
        now_ms: the instant that is asked for.
    """
    if isinstance(condition, AudienceCondition):
        return None
    for source in plan.sources.of(condition):
        since_ms = _since(plan, layout.groups, source)
        if covered_ms(plan, source, since_ms) > now_ms:
            return since_ms
    return None


def deep_definitions(plan: Plan) -> list[str]:
    """For each audience what its value depends on beside the person: it, those that it names, the project's zone and gap."""
    made: dict[int, str] = {}
    for number in plan.order:
        parts: list[object] = [plan.definitions[number]]
        for leaf in plan.own_leaves(number):
            around = [source for source in plan.sources.of(leaf) if source == SESSION]
            parts += [(SESSION, plan.settings.session_gap_ms)] if around else []
            if f"timezone={PROFILE!r}" in repr(leaf):
                parts += [plan.sources.zone, plan.settings.timezone]
        parts += [made[other] for other in plan.references(number)]
        made[number] = fingerprint(parts)
    return [made[number] for number in range(len(plan.audiences))]
