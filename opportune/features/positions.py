"""Whether a person is near a place.

Owns: the cell ``[instant, inside, newest]``: the last position that decides (inside of the radius, or beyond the leaving
distance) with its instant, NONE where there was none, and the instant of the newest position of any kind. Positions between
the two distances decide nothing, so no other needs to be kept.
Invariant: positions are taken in order of time, of one instant in order of arrival. Distances are great circles on a sphere
of 6,371,008.8 m, by the haversine formula (Sinnott, "Virtues of the Haversine", Sky and Telescope 68, 1984).
Not here: which messages bring positions (the generated code tests their ``where``).
"""

from __future__ import annotations

from decimal import Decimal
from math import asin, cos, radians, sin, sqrt
from typing import Any

from opportune.audiences.schema import NearCondition
from opportune.profile import NEVER

EARTH_M = 6_371_008.8
NONE = -(1 << 62)
LATITUDES = ("lat", "latitude")
LONGITUDES = ("lon", "lng", "longitude")


class Position:
    """A person's place relative to a circle.

    Args:
        condition: the circle.
    """

    def __init__(self, condition: NearCondition) -> None:
        self.place = condition.lat, condition.lon
        self.radius_m = condition.radius_m
        self.leave_m = condition.leave_m
        self.fresh_ms = condition.fresh_ms

    def put(self, cell: list[Any], values: tuple[Any, ...], t: int) -> None:
        """Takes an event in.

        Args:
            cell: the state; empty before the first event.
            values: of the properties ``LATITUDES`` and ``LONGITUDES``, in this order.
            t: the event's effective time, milliseconds.
        """
        lat = _first_number(values[: len(LATITUDES)], 90)
        lon = _first_number(values[len(LATITUDES) :], 180)
        if lat is None or lon is None:
            return
        if not cell:
            cell.extend((NONE, 0, t))
        cell[2] = max(cell[2], t)
        meters = distance_m(*self.place, lat, lon)
        if (meters <= self.radius_m or meters > self.leave_m) and t >= cell[0]:
            cell[:2] = t, int(meters <= self.radius_m)

    def look(self, cell: list[Any], now: int, around: Any) -> tuple[bool, int]:  # noqa: ARG002 - as all features are asked
        """Whether the person is near by a fresh position, and when that can change by itself; arguments as an aggregate's."""
        if not cell or not cell[1] or now >= cell[2] + self.fresh_ms:
            return False, NEVER
        return True, cell[2] + self.fresh_ms

    def merge(self, one: list[Any], other: list[Any]) -> list[Any]:
        """The state of the merged log."""
        if not one or not other:
            return list(one or other)
        return [*max(one[:2], other[:2]), max(one[2], other[2])]


def _first_number(values: tuple[Any, ...], most: int) -> float | None:
    for value in values:
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return float(value) if -most <= value <= most else None
    return None


def distance_m(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """The great circle between two places, degrees to meters."""
    north, east = radians(other_lat - lat) / 2, radians(other_lon - lon) / 2
    chord = sin(north) ** 2 + cos(radians(lat)) * cos(radians(other_lat)) * sin(east) ** 2
    return 2 * EARTH_M * asin(min(1.0, sqrt(chord)))
