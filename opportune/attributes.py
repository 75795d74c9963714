"""A person's warehouse rows become others.

Owns: ``switch``, the order of things at that: what is due before fires with the rows before, then those conditions are
evaluated that look at attributes.
Invariant: doing it again to somebody to whom it was done, and who may have lived on since, changes nothing.
Not here: who is switched and when (flows.refresh), the same for those who only look (state.passing).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opportune.audiences.plan import ATTRIBUTES
from opportune.profile import NEVER, Change, Evaluate, Profile, advance, fire


def switch(
    profile: Profile,
    row: Any,
    now: int,
    out: list[Change],
    *,
    evaluate: Sequence[Evaluate],
    by: Any,
    touch: Callable[[Profile], None],
) -> None:
    """Brings a person from the row that they have to another one.

    Args:
        profile: with its row, and with its groups.
        row: the other one, as ``Profile.row`` is.
        now: the instant, not before the profile's last one.
        out: takes the changes.
        evaluate: the plan's evaluations by handler number.
        by: what did it, as in ``Change``.
        touch: called before something of the profile changes that is stored.
    """
    before = len(out)
    if profile.due < now:
        touch(profile)
        advance(profile, now, out, evaluate)
    profile.row = row
    due = evaluate[ATTRIBUTES](profile, now, out, by)
    if due < profile.dues.get(ATTRIBUTES, NEVER):
        touch(profile)
        profile.dues[ATTRIBUTES] = due
        profile.due = min(profile.due, due)
    if profile.due <= now:
        touch(profile)
        fire(profile, now, out, evaluate, by)
    if len(out) > before:
        touch(profile)
        profile.now = now
