"""A place in the memberships topic: the next offset of every partition, as the ids of events have it.

Owns: its text, ``TOPIC.OFFSET.OFFSET...``, one offset a partition in their order; TOPIC is the beginning of the topic's id,
so that a place in a topic that was made anew is not taken for one in this.
Invariant: ``read`` returns what ``text`` wrote, or None for any other text.
Not here: what lies at a place (api.changes.hub).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

TOPIC_DIGITS = 8
_TEXT = re.compile(r"([0-9a-f]{8})((?:\.[0-9]{1,18}){1,4096})")


class Position(msgspec.Struct, frozen=True):
    """A place in a topic.

    Args:
        topic: the first digits of its id, hexadecimal.
        offsets: the offset to read next, by partition.
    """

    topic: str
    offsets: tuple[int, ...]

    def text(self) -> str:
        """As the id of an event."""
        return position_text(self.topic, self.offsets)

    def not_before(self, offsets: Sequence[int]) -> Position:
        """The later of two places, partition by partition."""
        return Position(self.topic, tuple(map(max, self.offsets, offsets)))


def position_text(topic: str, offsets: Sequence[int]) -> str:
    """The text of a place."""
    return f"{topic}.{'.'.join(map(str, offsets))}"


def read_position(text: str) -> Position | None:
    """The place that a text says, or None where it says none."""
    found = _TEXT.fullmatch(text)
    return Position(found[1], tuple(map(int, found[2][1:].split(".")))) if found else None
