"""Log time of a process: where it has read to.

Owns: the judgement of the inputs' marks. Log time is their minimum. An input that has neither been read nor confirmed for
``clock.idle``, while others have been all that time, is left out, so that one lost partition does not stop the others;
where none can be confirmed, time stands still, and a pause of the process itself leaves nothing out.
Invariant: it never goes back.
Not here: marks of one partition (flows.inputs), requests for ends (flows.end_marks).
"""

from __future__ import annotations

from collections.abc import Sequence

from flows.end_marks import EndMarks
from flows.inputs import Input
from opportune.clock import Clock

GAP_MS = 2_000
"""When nothing has moved for this long, the broker or this process was away; waiting for inputs starts anew."""


class LogTime:
    """Log time over some inputs.

    Args:
        inputs: those that events come from.
        marks: asks for their ends; index i is input i.
        idle_ms: ``clock.idle``.
        skew_ms: ``clock.skew``: how far the broker's clock may be behind.
        monotonic: a clock that never goes back, milliseconds.

    Attributes:
        left_out: how many inputs are left out now.
    """

    def __init__(self, inputs: Sequence[Input], marks: EndMarks, idle_ms: int, skew_ms: int, monotonic: Clock) -> None:
        self.inputs = inputs
        self.marks = marks
        self.idle_ms = idle_ms
        self.skew_ms = skew_ms
        self.monotonic = monotonic
        self.left_out = 0
        self.time_ms = 0
        self.last_move = self.alive_since = monotonic()
        self.seen = [(one.mark_ms, one.read) for one in inputs]
        for one in inputs:
            one.moved_ms = self.last_move

    def now(self) -> int:
        """Log time, milliseconds; 0 while nothing is known."""
        tick = self.monotonic()
        moved = False
        for index, one in enumerate(self.inputs):
            if one.at_end or not one.held:
                instant = self.marks.confirmed(index, one.handed)
                if instant is not None:
                    one.confirm(instant - self.skew_ms)
            if (one.mark_ms, one.read) != self.seen[index]:
                self.seen[index] = (one.mark_ms, one.read)
                one.moved_ms = tick
                moved = True
        if moved:
            if tick - self.last_move > GAP_MS:
                self.alive_since = tick
            self.last_move = tick
        counted = [one.mark_ms for one in self.inputs if not self._is_idle(one, tick)]
        self.left_out = len(self.inputs) - len(counted)
        if counted and self.left_out < len(self.inputs):
            self.time_ms = max(self.time_ms, min(counted))
        return self.time_ms

    def _is_idle(self, one: Input, tick: int) -> bool:
        return tick - max(one.moved_ms, self.alive_since) > self.idle_ms and tick - self.last_move < GAP_MS
