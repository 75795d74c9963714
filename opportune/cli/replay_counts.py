"""What is counted of the changes of a replay: entries, exits, members at the end, their peak and their curve.

Owns: the counting. Invariant: memory follows the audiences and, where members are asked for, those; never the changes: a
curve has a bounded number of points.
Not here: printing (opportune.cli.replay), drawing (opportune.cli.replay_plot).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from opportune.event import instant_ms
from opportune.membership import MembershipChange

if TYPE_CHECKING:
    from flows.replay_changes import Emitted

decode_change = msgspec.json.Decoder(MembershipChange).decode
NAME_FROM = 33
"""Where the audience's name begins in the key of a change."""
POINTS_MAX = 4_096


class Curve:
    """Members over time: the last number of each step; steps grow so that there are never more than ``POINTS_MAX``."""

    def __init__(self) -> None:
        self.step_ms = 1
        self.points: dict[int, int] = {}

    def put(self, at_ms: int, members: int) -> None:
        """The number from an instant on; instants do not go back."""
        self.points[at_ms // self.step_ms] = members
        while len(self.points) > POINTS_MAX:
            self.step_ms *= 2
            self.points = {place // 2: number for place, number in self.points.items()}

    def line(self) -> tuple[list[int], list[int]]:
        """Instants in milliseconds, and the number from each on."""
        return [place * self.step_ms for place in self.points], list(self.points.values())


class Counts:
    """The counts of a replay.

    Args:
        names: all audiences.
        asked: those whose members are wanted by name.
        curves: whether curves are wanted.
    """

    def __init__(self, names: Iterable[str], asked: Iterable[str] = (), *, curves: bool = False) -> None:
        self.entered = dict.fromkeys(names, 0)
        self.exited = dict.fromkeys(self.entered, 0)
        self.now = dict.fromkeys(self.entered, 0)
        self.peak = dict.fromkeys(self.entered, 0)
        self.curves = {name: Curve() for name in self.entered} if curves else {}
        self.members: dict[str, dict[str, str]] = {name: {} for name in asked}
        self.at = ""
        self.touched: set[str] = set()

    def take(self, changes: Sequence[Emitted]) -> None:
        """Counts changes; they come in order of instant."""
        now, touched, asked = self.now, self.touched, self.members
        numbers = (self.exited, self.entered)
        for at, key, value, entered in changes:
            if at != self.at:
                if touched:
                    self.close()
                self.at = at
            name = key[NAME_FROM:]
            touched.add(name)
            numbers[entered][name] += 1
            now[name] += 1 if entered else -1
            if asked and name in asked:
                if entered:
                    asked[name][key] = value
                else:
                    asked[name].pop(key, None)

    def close(self) -> None:
        """An instant is over: only now its numbers count, since at one instant nothing is in between."""
        now, peak = self.now, self.peak
        for name in self.touched:
            peak[name] = max(peak[name], now[name])
            if self.curves:
                self.curves[name].put(instant_ms(self.at), now[name])
        self.touched.clear()

    def members_of(self, name: str) -> list[str]:
        """Who is in at the end, in order: ``namespace:value``, of several the first."""
        return sorted(map(_called, self.members[name].values()))


def _called(value: str) -> str:
    change = decode_change(value)
    for namespace, values in change.identifiers.items():
        for each in values:
            return f"{namespace}:{each}"
    return change.profile_id
