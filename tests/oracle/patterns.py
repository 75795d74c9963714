"""What several events of a person say together: sequence, absence, position (LANGUAGE.md section 2).

Owns: their values, from lists of events in order of time, then arrival.
Not here: which events are inside the window (tests.oracle.windows).
"""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt

from tests.oracle.tree import Near, Sequence
from tests.oracle.windows import Seen

EARTH_M = 6_371_008.8


def sequence(condition: Sequence, steps: list[list[Seen]]) -> bool:
    """Whether there is one event for each step, all with the same key, in time for one another.

    Args:
        condition: the steps, span and gap.
        steps: for each step the events inside the window, each with its key (None: it takes no part).
    """
    return any(_ends_in_time(condition, first, steps[1:]) for first in steps[0] if first.read is not None)


def _ends_in_time(condition: Sequence, first: Seen, steps: list[list[Seen]]) -> bool:
    """Whether the steps follow a first event. The earliest event for a step is the best: none of the rest needs more."""
    last_ms = first.time_ms
    for step in steps:
        least_ms = last_ms + max(1, condition.gap_ms or 0)
        fits = [event.time_ms for event in step if event.read == first.read and event.time_ms >= least_ms]
        if not fits:
            return False
        last_ms = min(fits)
    return condition.span_ms is None or last_ms - first.time_ms < condition.span_ms


def absent(missing: list[Seen], after: list[Seen], for_ms: int, now_ms: int) -> bool:
    """Whether for some key nothing followed the newest ``after`` for that long.

    Args:
        missing: the events that should have followed, each with its key (None: it takes no part).
        after: the events inside the window that they should follow, likewise.
        for_ms: milliseconds.
        now_ms: the instant.
    """
    for of in {event.read for event in after if event.read is not None}:
        newest_ms = max(event.time_ms for event in after if event.read == of)
        newest = {event.arrival for event in after if event.read == of and event.time_ms == newest_ms}
        followed = any(
            event.read == of and event.time_ms >= newest_ms and event.arrival not in newest for event in missing
        )
        if newest_ms + for_ms <= now_ms and not followed:
            return True
    return False


def near(condition: Near, events: list[Seen], now_ms: int) -> bool:
    """Whether the person is inside, by a position that is fresh."""
    is_inside, newest_ms = False, None
    for event in events:
        if not isinstance(event.read, tuple):
            continue
        meters = distance_m(condition.lat, condition.lon, *event.read)
        newest_ms = event.time_ms
        is_inside = meters <= condition.radius_m or (is_inside and meters <= condition.leave_m)
    return is_inside and newest_ms is not None and now_ms < newest_ms + condition.fresh_ms


def distance_m(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """The great circle between two places, degrees to meters (haversine)."""
    north, east = radians(other_lat - lat) / 2, radians(other_lon - lon) / 2
    chord = sin(north) ** 2 + cos(radians(lat)) * cos(radians(other_lat)) * sin(east) ** 2
    return 2 * EARTH_M * asin(min(1.0, sqrt(chord)))
