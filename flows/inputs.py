"""One partition that a process reads, and up to when it vouches for time.

Owns: arrivals (the Kafka timestamps as log time), what is held back, and the partition's mark.

- The arrival of a record is its timestamp, never behind an earlier record of its partition. A timestamp ahead of our
  clock counts as of the clock for its own event, and moves nobody else's time.
- Records of one arrival at the end of what was read are held back until a later one or the end of the partition comes:
  so the net of an instant of a person does not depend on how polls were cut.
- The mark: everything that arrived before it has been handed over. It is the arrival of the first record held back, or of
  the last one handed over; at the end of the partition it is the instant of a request that confirmed that end
  (flows.end_marks), less ``clock.skew``.
Not here: polling and batches (flows.hub).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from confluent_kafka import Message

HELD_MAX = 50_000
"""Beyond this many records of one instant, they are handed over in parts."""


class Input:
    """A partition.

    Args:
        topic: its topic's name.
        topic_id: 16 bytes.
        partition: its number.
        next_offset: where reading goes on.
        time_ms: the mark to go on with; 0 where nothing is known.

    Attributes:
        handed: the offset after the last record that was handed over.
        read: the offset after the last record that was read.
        mark_ms: everything that arrived before it was handed over.
        holds: whether records of the last instant are held back.
        moved_ms: when it last came forward, by a clock that never goes back.
    """

    __slots__ = (
        "at_end",
        "floor_ms",
        "handed",
        "held",
        "held_arrivals",
        "holds",
        "mark_ms",
        "moved_ms",
        "partition",
        "read",
        "topic",
        "topic_id",
    )

    def __init__(self, topic: str, topic_id: bytes, partition: int, next_offset: int, time_ms: int) -> None:
        self.topic = topic
        self.topic_id = topic_id
        self.partition = partition
        self.handed = self.read = next_offset
        # No record arrives at 0: a profile that was never looked at has that now.
        self.floor_ms = max(time_ms, 1)
        self.mark_ms = time_ms
        self.moved_ms = 0
        self.held: list[Message] = []
        self.held_arrivals: list[int] = []
        self.at_end = False
        self.holds = True

    def take(self, run: Sequence[Message], clock_ms: int) -> tuple[list[Message], list[int]]:
        """Takes records that follow those taken before.

        Args:
            run: in order of offset.
            clock_ms: now.

        Returns:
            The records to hand over, and their arrivals.
        """
        arrivals, in_order = self._arrivals(run, clock_ms)
        self.read = (run[-1].offset() or 0) + 1
        self.at_end = False
        if self.held:
            records = [*self.held, *run]
            in_order = in_order and self.held_arrivals[-1] <= arrivals[0]
            arrivals = self.held_arrivals + arrivals
        else:
            records = list(run)
        cut = len(arrivals)
        if in_order:
            cut = bisect_left(arrivals, arrivals[-1])
        else:
            while cut and arrivals[cut - 1] == arrivals[-1]:
                cut -= 1
        if len(arrivals) - cut > HELD_MAX or not self.holds:
            cut = len(arrivals)
        self.held, self.held_arrivals = records[cut:], arrivals[cut:]
        if cut:
            self.handed = (records[cut - 1].offset() or 0) + 1
        self.mark_ms = max(self.mark_ms, min(self.floor_ms, self.held_arrivals[0] if self.held else arrivals[-1]))
        return records[:cut], arrivals[:cut]

    def _arrivals(self, run: Sequence[Message], clock_ms: int) -> tuple[list[int], bool]:
        """The arrivals of records, and whether they are in order."""
        arrivals = [stamp for _, stamp in map(Message.timestamp, run)]
        floor = self.floor_ms
        if arrivals[0] >= floor and arrivals[-1] <= clock_ms and sorted(arrivals) == arrivals:
            self.floor_ms = arrivals[-1]
            return arrivals, True
        for place, stamp in enumerate(arrivals):
            if stamp > clock_ms or stamp < 0:
                arrivals[place] = max(clock_ms, floor)
            elif stamp > floor:
                floor = stamp
            else:
                arrivals[place] = floor
        self.floor_ms = floor
        return arrivals, False

    def end(self, offset: int) -> tuple[list[Message], list[int]]:
        """The partition was read to its end: hands over what was held back.

        Args:
            offset: where a next record would be; markers of transactions lie below it.
        """
        if offset < self.read:
            return [], []
        self.read = self.handed = offset
        self.at_end = True
        records, arrivals, self.held, self.held_arrivals = self.held, self.held_arrivals, [], []
        self.mark_ms = max(self.mark_ms, self.floor_ms)
        return records, arrivals

    def confirm(self, instant_ms: int | None) -> bool:
        """Raises the mark to a confirmed instant; says whether it rose."""
        if instant_ms is None or instant_ms <= self.mark_ms:
            return False
        self.mark_ms = instant_ms
        return True
