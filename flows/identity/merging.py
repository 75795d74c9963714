"""Two profiles become one: what the loser hands over, and what the winner makes of it.

Owns: ``state_of``, ``absorb`` and ``leave``; the memberships at a merge (IDENTITY.md section 3).
Invariant: the winner's features are those of one profile that had received the events of both.
Not here: when (flows.identity.graph), the merge of a feature (opportune.audiences.merge).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from flows.changes import Merged
from flows.desk import Desk
from flows.identity.letters import State
from flows.identity.notes import mark_of
from opportune.audiences.merge import merge_group
from opportune.audiences.plan import TRAITS, Plan
from opportune.decode import decode_traits, encode_traits
from opportune.people import salt_of
from opportune.profile import ELSEWHERE, FORGOTTEN, FROZEN, MOVED, NEVER, Change, Evaluate, Profile, advance
from state.keys import pack_timer
from state.store import Batch as Write

TURNS_MAX = 256
_encode = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Any]).decode
_cell = msgspec.msgpack.Decoder().decode
TRAITS_KEEP = "traits"
"""The name of all traits among cells."""


def freeze(profile: Profile, into: bytes) -> None:
    """From here on the profile only waits; its dues come back with ``thaw``."""
    profile.fate |= FROZEN
    profile.into = into
    profile.due = NEVER


def thaw(profile: Profile) -> None:
    """The profile goes on as it was."""
    profile.fate &= ~FROZEN
    profile.into = None
    profile.due = min(profile.dues.values(), default=NEVER)


def state_of(profile: Profile, plan: Plan, history: bytes) -> State:
    """All that a profile is; its groups are read where they are not at hand."""
    cells: dict[str, bytes] = {}
    for group, keeps in enumerate(plan.keeps):
        value = profile.groups[group]
        if value is None:
            continue
        if group == TRAITS:
            cells[TRAITS_KEEP] = value if isinstance(value, bytes) else encode_traits(value)
        else:
            opened = _opened(plan, group, value)
            cells |= {keep: _encode(cell) for keep, cell in zip(keeps, opened, strict=True) if cell}
    return State(
        profile.id,
        profile.now,
        sorted(plan.audiences[number].name for number in profile.members),
        profile.identifiers,
        profile.pending,
        profile.turns,
        profile.absorbed,
        cells,
        history,
        profile.rowless,
    )


def absorb(
    profile: Profile,
    state: State,
    now: int,
    plan: Plan,
    evaluate: list[Evaluate],
    out: list[Change],
    join: Callable[[Profile], None],
) -> None:
    """The winner takes over what the loser has; all its audiences are evaluated once, at ``now``.

    Args:
        profile: the winner, touched, on the desk.
        state: the loser's.
        now: the instant of the merge, milliseconds, not before either's last.
        plan: the features.
        evaluate: by handler number.
        out: takes the changes.
        join: gives a profile the warehouse rows of its identifiers.
    """
    if profile.due < now:
        advance(profile, now, out, evaluate)
    for group in range(len(plan.groups)):
        theirs = _group_of(plan, group, state.cells)
        if theirs is not None:
            profile.groups[group] = merge_group(plan, group, _opened(plan, group, profile.groups[group]), theirs)
            profile.dirty.add(group)
    unite(profile, state)
    join(profile)
    before = set(profile.members)
    for number, handler in enumerate(evaluate):
        due = handler(profile, now, [], None)
        if due == NEVER:
            profile.dues.pop(number, None)
        else:
            profile.dues[number] = due
    profile.due = min(profile.dues.values(), default=NEVER)
    profile.now = now
    for audience in sorted(profile.members ^ before):
        entered = audience in profile.members
        theirs = plan.audiences[audience].name in state.members
        by: Any = Merged("merged_from", state.profile) if entered and theirs else "event"
        out.append((profile, audience, entered, now, by))


def unite(profile: Profile, state: State) -> None:
    """The identifiers of both, but for those of which one side knows that they have changed hands since."""
    ours, theirs, turns, others = profile.identifiers, state.identifiers, profile.turns, state.turns
    kept, came = list(ours), [text for text in theirs if text not in ours]
    if turns or others:
        kept = [text for text in ours if text in theirs or _turn(turns, text) >= _turn(others, text)]
        came = [text for text in came if _turn(others, text) >= _turn(turns, text)]
        profile.turns = {mark: max(turns.get(mark, 0), others.get(mark, 0)) for mark in {**turns, **others}}
    profile.identifiers = [*kept, *came]
    profile.pending = [*profile.pending, *state.pending]
    profile.rowless = list(dict.fromkeys([*profile.rowless, *state.rowless]))
    forget_turns(profile)


def _turn(turns: dict[int, int], text: str) -> int:
    return turns.get(mark_of(text), 0)


def answered(profile: Profile, text: str) -> None:
    """One of the claims on an identifier that are on their way is answered; the others keep its place within the limits."""
    pending = list(profile.pending)
    if text in pending:
        pending.remove(text)
    profile.pending = pending


def forget_turns(profile: Profile) -> None:
    """Bounds what is kept of identifiers that have gone: only mail of the last moments asks for it."""
    if len(profile.turns) > TURNS_MAX:
        present = set(map(mark_of, profile.identifiers))
        gone = [mark for mark in profile.turns if mark not in present][: len(profile.turns) - TURNS_MAX]
        for mark in gone:
            del profile.turns[mark]


def leave(profile: Profile, winner: bytes, now: int, desk: Desk, write: Write, out: list[Change]) -> None:
    """The loser, touched, becomes a name of the winner: it exits its audiences, and what it kept goes.

    Its identifiers stay, for the records of its exits and for whoever asks what became of it; so does what it absorbed,
    since copies of what those have used may still come by it.
    """
    out += [(profile, audience, False, now, Merged("merged_into", winner)) for audience in sorted(profile.members)]
    if profile.timer:
        write.delete(pack_timer(profile.timer, profile.id), desk.timers_family)
    for suffix in desk.suffixes:
        write.delete(profile.id + suffix, desk.family)
    profile.groups.clear()
    profile.dirty.clear()
    profile.fate = MOVED | (profile.fate & (ELSEWHERE | FORGOTTEN))
    profile.into = winner
    profile.now, profile.timer, profile.due, profile.dues = now, 0, NEVER, {}
    profile.members, profile.pending = set(), []
    profile.turns, profile.rowless = pointer_turns(profile), []
    profile.strong = profile.strong if profile.fate & ELSEWHERE else []


def pointer_turns(profile: Profile) -> dict[int, int]:
    """Of a profile's turns that of the identifier whose pointer its head is: that goes on, whatever becomes of the profile."""
    return {mark: turn for mark, turn in profile.turns.items() if mark == salt_of(profile.id)}


def _group_of(plan: Plan, group: int, cells: dict[str, bytes]) -> Any:
    """A group as the other profile had it, opened; None where nothing of it came."""
    if group == TRAITS:
        packed = cells.get(TRAITS_KEEP)
        kept = {} if packed is None else decode_traits(packed)
        return {name: trait for name, trait in kept.items() if name in plan.traits} or None
    came = [cells.get(keep) for keep in plan.keeps[group]]
    if not any(came):
        return None
    fresh = _opened(plan, group, None)
    return [old if packed is None else _cell(packed) for old, packed in zip(fresh, came, strict=True)]


def _opened(plan: Plan, group: int, value: Any) -> Any:
    if group == TRAITS:
        return value if isinstance(value, dict) else {} if value is None else decode_traits(value)
    if value is None:
        return [[] if feature.windowed else 0 for feature in plan.groups[group].features.values()]
    return _unpack(value) if isinstance(value, bytes) else value
